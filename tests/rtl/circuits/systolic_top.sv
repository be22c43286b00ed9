// Lines of memory in, then the start; out: loads that came at the west and at the north, loads that the array is through
// with, folds that ended, blocks that fired, rows that are written, and the end.
// needs: systolic_array.sv neurons.sv systolic.sv
module circuit
    import systolic_types::*;
(
    input  logic          clk,
    input  logic          rst,
    input  logic [511:0]  settings,  // fields of layer_t
    input  logic [1:0]    in_valid,
    output logic [1:0]    in_ready,
    input  logic [255:0]  in_data,
    output logic [6:0]    out_valid,
    output logic [2687:0] out_data   // of rows: the first, how many, their bits
);
    layer_t layer;
    for (genvar i = 0; i < 16; i++) begin : fields
        assign layer[32 * (15 - i) +: 32] = settings[32 * i +: 32];
    end
    logic [LINE_BITS-1:0] image[512];
    logic [8:0] loaded;
    assign in_ready = '1;
    always_ff @(posedge clk)
        if (rst) loaded <= '0;
        else if (in_valid[0]) begin
            image[loaded] <= in_data[LINE_BITS-1:0];
            loaded <= loaded + 9'd1;
        end

    logic [2:0] asks, answered;  // west, north, rows
    count_t west_line, north_line, first_row, rows_written;
    logic [C-1:0][ROW_BITS-1:0] rows;
    logic load_ended, fold_ended, block_fired, finished;
    systolic machine(
        .clk, .rst, .layer, .go(in_valid[1]), .west_asks(asks[0]), .north_asks(asks[1]), .rows_ask(asks[2]),
        .west_answered(answered[0]), .north_answered(answered[1]), .rows_answered(answered[2]), .west_line, .north_line,
        .west_lines({image[9'(west_line + 32'd1)], image[9'(west_line)]}),
        .north_lines({image[9'(north_line + 32'd1)], image[9'(north_line)]}), .load_ended, .fold_ended, .block_fired,
        .first_row, .rows_written, .rows, .finished
    );
    // The memory answers a cycle later, however many lines are asked for.
    always_ff @(posedge clk) answered <= rst ? '0 : asks;
    assign out_valid = {finished, answered[2], block_fired, fold_ended, load_ended, answered[1:0]};
    always_comb begin
        out_data = '0;
        out_data[384 * 5 +: 384] = {rows, rows_written, first_row};
    end
endmodule
