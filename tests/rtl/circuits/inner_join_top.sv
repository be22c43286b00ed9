// Pairs of chunks in; out: matches, corrections, sums of all timesteps, and the cycle behind each chunk.
// needs: inner_join.sv prefix_sums.sv
module circuit (
    input  logic          clk,
    input  logic          rst,
    input  logic [159:0]  settings,  // mode, adders, depth of the FIFOs, overhead of a chunk, timesteps
    input  logic          in_valid,
    output logic          in_ready,
    input  logic [3359:0] in_data,   // bitmasks of A and B, 1: last chunk of a sum, 128 words, 128 weights
    output logic [3:0]    out_valid,
    output logic [2047:0] out_data   // match: position, weight, passes under way, tables in use; word; sums; nothing
);
    logic [6:0] position;
    logic [7:0] weight;
    logic [15:0] word;
    logic [15:0][31:0] sums;
    logic [4:0] running, held;
    inner_join join_unit(
        .clk, .rst, .mode(settings[1:0]), .adders(settings[39:32]), .depth(settings[68:64]),
        .overhead(settings[102:96]), .timesteps(settings[132:128]), .in_valid, .in_ready, .mask_a(in_data[127:0]),
        .mask_b(in_data[255:128]), .last(in_data[256]), .words(in_data[2335:288]), .weights(in_data[3359:2336]),
        .pushed(out_valid[0]), .pushed_position(position), .pushed_weight(weight), .corrected(out_valid[1]),
        .corrected_word(word), .ended(out_valid[3]), .finished(out_valid[2]), .sums, .running, .held
    );
    assign out_data = {512'd0, sums, 496'd0, word, 384'd0, 27'd0, held, 27'd0, running, 24'd0, weight, 25'd0, position};
endmodule
