// Lines of memory in, then the start; out: loads that came at the west and at the north, loads that the array is through
// with, blocks that left it, blocks that fired, rows that are written, partial sums that are written, and that are read,
// the end with the output, and what each lane of the DMA has fetched.
// needs: age_queue.sv cache.sv dram.sv memory.sv systolic_array.sv neurons.sv systolic.sv
module circuit
    import systolic_types::*, memory_types::*;
(
    input  logic          clk,
    input  logic          rst,
    input  logic [1727:0] settings,  // fields of layer_t, of memory_t
    input  logic [1:0]    in_valid,
    output logic [1:0]    in_ready,
    input  logic [255:0]  in_data,
    output logic [16:0]   out_valid,
    output logic [2719:0] out_data   // of blocks, how many; from the end on a row of the output in each cycle
);
    layer_t layer;
    memory_t spec;
    for (genvar i = 0; i < LAYER_WORDS; i++) begin : fields
        assign layer[32 * (LAYER_WORDS - 1 - i) +: 32] = settings[32 * i +: 32];
    end
    for (genvar i = 0; i < MEMORY_WORDS; i++) begin : memory_fields
        assign spec[32 * (MEMORY_WORDS - 1 - i) +: 32] = settings[32 * (LAYER_WORDS + i) +: 32];
    end
    logic [LINE_BITS-1:0] image[512];
    logic [8:0] loaded;
    logic begun;
    assign in_ready = '1;
    always_ff @(posedge clk)
        if (rst) {loaded, begun} <= '0;
        else begin
            begun <= begun || in_valid[1];
            if (in_valid[0]) begin
                image[loaded] <= in_data[LINE_BITS-1:0];
                loaded <= loaded + 9'd1;
            end
        end

    // The machine's first cycle is that of the start.
    count_t west_line, north_line, blocks_left;
    logic [POSITIONS-1:0][ROW_BITS-1:0] rows;
    logic west_answered, north_answered, load_ended, block_fired, rows_are_written, psums_written, psums_read, finished;
    logic [2*LANES-1:0] shares_fetched;
    systolic machine(
        .clk, .rst(rst || !(begun || in_valid[1])), .rst_descriptors(rst), .layer, .spec, .go(in_valid[1]), .west_line, .north_line,
        .west_lines({image[9'(west_line + 32'd1)], image[9'(west_line)]}),
        .north_lines({image[9'(north_line + 32'd1)], image[9'(north_line)]}), .west_answered, .north_answered, .load_ended,
        .blocks_left, .block_fired, .rows_are_written, .psums_written, .psums_read, .shares_fetched, .rows, .finished
    );
    assign out_valid = {
        shares_fetched, finished, psums_read, psums_written, rows_are_written, block_fired, blocks_left != '0, load_ended,
        north_answered, west_answered
    };
    logic [3:0] drained;
    always_ff @(posedge clk) drained <= rst ? '0 : drained + 4'(finished);
    always_comb begin
        out_data = '0;
        out_data[160 * 3 +: 32]  = blocks_left;
        out_data[160 * 8 +: 160] = rows[drained];
    end
endmodule
