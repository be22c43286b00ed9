// Rows of a map, credits and the sums of other tiles in; out: bits driven, bits converted, sums of every position.
// needs: crossbar_tile.sv
module circuit (
    input  logic           clk,
    input  logic           rst,
    input  logic [3071:0]  settings,  // 22 numbers, then levels, signs and what codes are worth
    input  logic [3:0]     in_valid,
    output logic [3:0]     in_ready,
    input  logic [1023:0]  in_data,
    output logic [2:0]     out_valid,
    output logic [767:0]   out_data
);
    logic [3071:0] set;  // in registers, which makes circuits that are built of it much smaller
    always_ff @(posedge clk) if (rst) set <= settings;
    logic [3:0] sampled, converted;
    logic [7:0][31:0] sums;
    crossbar_tile tile(
        .clk, .rst, .arrays(set[1:0]), .joined(set[32]), .difference(set[64]),
        .signed_inputs(set[96]), .skip(set[128]), .channels(set[162:160]), .bits(set[195:192]),
        .steps(set[226:224]), .width(set[262:256]), .read_cycles(set[292:288]),
        .conversion_cycles(set[324:320]), .shared(set[355:352]), .used(set[387:384]),
        .weight_columns(set[419:416]), .cell_bits(set[450:448]), .weight_bits(set[483:480]),
        .converter_bits(set[515:512]), .span(set[552:544]), .slots(set[578:576]),
        .add_cycles(set[612:608]), .rows_held(set[642:640]), .parts(set[673:672]),
        .level(set[959:704]), .negative(set[1023:960]), .worth(set[3071:1024]),
        .row_valid(in_valid[0]), .row_ready(in_ready[0]), .row(in_data[191:0]), .credit(in_valid[1]),
        .part_valid(in_valid[3:2]), .part_ready(in_ready[3:2]),
        .part_sums({in_data[1023:768], in_data[767:512]}), .sampled, .converted, .sums_valid(out_valid[2]), .sums
    );
    assign in_ready[1] = 1'b1;
    assign out_valid[1:0] = {converted != '0, sampled != '0};
    assign out_data = {sums, 252'd0, converted, 252'd0, sampled};
endmodule
