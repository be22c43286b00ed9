// Neurons in, one after the other; out: the word of each, and every group of up to 128 words compressed. The next neuron
// is taken when the one before has fired and, behind a group, when the compressor is done.
// needs: neurons.sv
module circuit (
    input  logic          clk,
    input  logic          rst,
    input  logic [319:0]  settings,  // timesteps, fraction bits, leak: shift, subtracts; reset, at threshold, cycles,
                                     // cycles of 128 neurons in the compressor, mask those that fire once, serial
    input  logic          in_valid,
    output logic          in_ready,
    input  logic [607:0]  in_data,   // 16 sums, bias, threshold, 1: last of a row
    output logic [1:0]    out_valid,
    output logic [4415:0] out_data   // word; bitmask, number and 128 packed words
);
    logic neuron_busy, fired, compressing, compressed, take, last;
    logic [15:0] word;
    logic [127:0] bitmask;
    logic [7:0] number;
    logic [127:0][15:0] packed_words;
    assign in_ready = !neuron_busy && !compressing;
    assign take = in_valid && in_ready;
    always_ff @(posedge clk) if (take) last <= in_data[576];
    neuron_unit unit(
        .clk, .rst, .take, .sums(in_data[511:0]), .bias(in_data[543:512]), .threshold(in_data[575:544]),
        .timesteps(settings[4:0]), .fraction_bits(settings[37:32]), .leak_shift(settings[69:64]),
        .leak_subtracts(settings[96]), .reset(settings[130:128]), .at_threshold(settings[160]),
        .cycles(settings[198:192]), .serial(settings[288]), .busy(neuron_busy), .done(fired), .word
    );
    output_compressor compressor(
        .clk, .rst, .valid(fired), .word, .last, .chunk_cycles(settings[235:224]), .mask_fire_once(settings[256]),
        .busy(compressing), .done(compressed), .bitmask, .number, .packed_words
    );
    assign out_valid = {compressed, fired};
    assign out_data  = {packed_words, 24'd0, number, bitmask, 2192'd0, word};
endmodule
