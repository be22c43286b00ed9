// A bitmask and a position in; the offset from the fast unit, and from the laggy one the same with the whole table.
// needs: prefix_sums.sv
module circuit (
    input  logic          clk,
    input  logic          rst,
    input  logic [63:0]   settings,  // adders; 1: stop behind the group of the position
    input  logic          in_valid,
    output logic          in_ready,
    input  logic [159:0]  in_data,   // bitmask, position
    output logic [1:0]    out_valid,
    output logic [2047:0] out_data   // fast: offset; laggy: 128 offsets of a byte
);
    logic [6:0] offset;
    logic [127:0][6:0] offsets;
    logic busy, goes_on, done, fast_done, take;
    assign in_ready = !busy;
    assign take = in_valid && in_ready;
    always_ff @(posedge clk) fast_done <= take && !rst;

    fast_prefix_sum fast(.clk, .take, .mask(in_data[127:0]), .position(in_data[134:128]), .offset);
    laggy_prefix_sum laggy(
        .clk, .rst, .start(take), .mask(in_data[127:0]), .adders(settings[7:0]),
        .last(settings[32] ? in_data[134:128] : 7'd127), .busy, .goes_on, .done, .offsets
    );
    assign out_valid = {done, fast_done};
    always_comb begin
        out_data = '0;
        out_data[6:0] = offset;
        for (int i = 0; i < 128; i++) out_data[1024 + 8 * i +: 7] = offsets[i];
    end
endmodule
