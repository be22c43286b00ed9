// Loads in; out: sums that leave through the columns, all sums that are taken at once, and the cycle behind each fold.
// needs: systolic_array.sv
module circuit (
    input  logic          clk,
    input  logic          rst,
    input  logic [127:0]  settings,  // 1: weight stationary, 1: sums leave through the columns, 1: skip, ticks
    input  logic          in_valid,
    output logic          in_ready,
    input  logic [1183:0] in_data,   // steps, bit 8: stationary operand, bit 16: last; 64 west, 80 north operands
    output logic [2:0]    out_valid,
    output logic [7679:0] out_data   // columns, five sums; 80 sums; nothing
);
    logic [4:0] columns;
    logic [4:0][31:0] sums;
    logic [3:0][4:0][3:0][31:0] all_sums;
    logic ends;
    systolic_array array(
        .clk, .rst, .stationary(settings[0]), .leaves(settings[32]), .skips(settings[64]), .ticks(settings[98:96]),
        .in_valid, .in_ready, .steps(in_data[2:0]), .weights(in_data[8]), .last(in_data[16]), .west(in_data[543:32]),
        .north(in_data[1183:544]), .ends, .out_valid(out_valid[0]), .out_columns(columns), .out_sums(sums),
        .taken(out_valid[1]), .all_sums, .ended(out_valid[2])
    );
    assign out_data = {2560'd0, all_sums, 2368'd0, sums, 27'd0, columns};
endmodule
