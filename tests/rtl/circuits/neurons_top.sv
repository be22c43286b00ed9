// Neurons in, one after the other; out: the word of each, every group of up to 128 words compressed, and words that were
// lost.
// needs: neurons.sv
module circuit (
    input  logic          clk,
    input  logic          rst,
    input  logic [351:0]  settings,  // timesteps, fraction bits, leak: shift, subtracts; reset, at threshold, cycles,
                                     // cycles of 128 neurons in the compressor, mask those that fire once, serial,
                                     // cycles from a neuron to its word
    input  logic          in_valid,
    output logic          in_ready,
    input  logic [607:0]  in_data,   // 16 sums, bias, threshold, 1: last of a row
    output logic [2:0]    out_valid,
    output logic [6623:0] out_data   // word; bitmask, number and 128 packed words; nothing
);
    logic fired, compressed, lost, take, last_neuron, ends_group, last_word;
    logic [15:0] word;
    logic [127:0] bitmask;
    logic [7:0] number;
    logic [127:0][15:0] packed_words;
    logic [11:0] chunk_cycles, latency;
    logic [6:0]  place;
    assign chunk_cycles = settings[235:224];
    assign latency      = settings[331:320];
    assign take         = in_valid && in_ready;
    assign last_neuron  = in_data[576];
    assign ends_group   = last_neuron || place == 7'd127;
    neuron_booking booking(
        .clk, .rst, .take, .ends_group, .place, .interval(settings[288] ? latency : 12'd1), .latency, .chunk_cycles,
        .ready(in_ready)
    );
    always_ff @(posedge clk) begin
        if (rst) place <= '0;
        else if (take) place <= ends_group ? '0 : place + 7'd1;
        if (take && last_neuron) last_word <= 1'b1;
        else if (rst) last_word <= 1'b0;
    end

    // The last neuron of a row is behind all others in the pipeline.
    logic [8:0] in_pipeline;
    always_ff @(posedge clk) in_pipeline <= rst ? '0 : in_pipeline + 9'(take) - 9'(fired);

    neuron_unit unit(
        .clk, .rst, .take, .sums(in_data[511:0]), .bias(in_data[543:512]), .threshold(in_data[575:544]),
        .timesteps(settings[4:0]), .fraction_bits(settings[37:32]), .leak_shift(settings[69:64]),
        .leak_subtracts(settings[96]), .reset(settings[130:128]), .at_threshold(settings[160]),
        .cycles(settings[198:192]), .latency(settings[327:320]), .serial(settings[288]), .done(fired), .word
    );
    output_compressor compressor(
        .clk, .rst, .valid(fired), .word, .last(last_word && in_pipeline == 9'd1), .chunk_cycles,
        .mask_fire_once(settings[256]), .done(compressed), .lost, .bitmask, .number, .packed_words
    );
    assign out_valid = {lost, compressed, fired};
    assign out_data  = {2208'd0, packed_words, 24'd0, number, bitmask, 2192'd0, word};
endmodule
