// Pairs of chunks in, and packed words of those in which anything matches; out: matches, corrections, sums of all
// timesteps as the neuron unit takes them, and the cycle behind each chunk.
// needs: inner_join.sv prefix_sums.sv
module circuit (
    input  logic          clk,
    input  logic          rst,
    input  logic [319:0]  settings,  // mode, adders, depth of the FIFOs, overhead of a chunk, timesteps; units, tables,
                                     // places of sums, output buffer, cycles from a sum that is taken to the next
    input  logic [1:0]    in_valid,
    output logic [1:0]    in_ready,
    input  logic [4095:0] in_data,   // bitmasks of A and B, 1: last chunk of a sum, 128 weights; 128 words
    output logic [3:0]    out_valid,
    output logic [2047:0] out_data   // match: position, weight, passes, tables, bitmasks that wait; word; sums; nothing
);
    logic [6:0] position;
    logic [7:0] weight;
    logic [15:0] word;
    logic [15:0][31:0] sums;
    logic [4:0] running, held, queued;
    logic [6:0] until_next;
    logic unfinished;
    always_ff @(posedge clk)
        if (rst) until_next <= '0;
        else until_next <= out_valid[2] ? settings[294:288] - 7'd1 : until_next - 7'(until_next != '0);
    inner_join join_unit(
        .clk, .rst, .mode(settings[2:0]), .adders(settings[39:32]), .depth(settings[68:64]),
        .overhead(settings[102:96]), .timesteps(settings[132:128]), .units(settings[164:160]),
        .tables(settings[196:192]), .places(settings[228:224]), .output_buffer(settings[260:256]),
        .neuron_ready(until_next == '0), .holds_back(1'b0), .unfinished, .in_valid(in_valid[0]),
        .in_ready(in_ready[0]), .mask_a(in_data[127:0]),
        .mask_b(in_data[255:128]), .last(in_data[256]), .weights(in_data[1311:288]), .words_valid(in_valid[1]),
        .words_ready(in_ready[1]), .words(in_data[4095:2048]), .pushed(out_valid[0]), .pushed_position(position),
        .pushed_weight(weight), .corrected(out_valid[1]), .corrected_word(word), .ended(out_valid[3]),
        .taken(out_valid[2]), .sums, .running, .held, .queued
    );
    assign out_data = {
        512'd0, sums, 496'd0, word, 352'd0, 27'd0, queued, 27'd0, held, 27'd0, running, 24'd0, weight, 25'd0, position
    };
endmodule
