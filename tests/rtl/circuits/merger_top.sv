// Fibers of a row in; out: the result of every pass.
// needs: merger.sv
module circuit (
    input  logic          clk,
    input  logic          rst,
    input  logic [95:0]   settings,  // radix, levels of its tree, overhead of a fiber
    input  logic          in_valid,
    output logic          in_ready,
    input  logic [2911:0] in_data,   // fibers, coordinates of 20, values of 20
    output logic          out_valid,
    output logic [543:0]  out_data   // coordinates, sums
);
    logic [15:0] present;
    logic [15:0][31:0] sums;
    merger row_merger(
        .clk, .rst, .in_valid, .in_ready, .inputs(in_data[5:0]), .in_present(in_data[351:32]),
        .in_values(in_data[2911:352]), .radix(settings[3:0]), .levels(settings[33:32]), .overhead(settings[67:64]),
        .ended(out_valid), .present, .sums
    );
    assign out_data = {sums, 16'd0, present};
endmodule
