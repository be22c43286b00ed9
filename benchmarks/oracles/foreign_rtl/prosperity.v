// A tile of ProsperityHDL: its pruner finds the prefixes, its processor takes the rows one after the other, without a
// pause. Cycles from the first row that is taken, weights being loaded, to the one in which the next could be.
`timescale 1ns / 1ns
module bench;
    parameter ROWS = 256, DRAWS = 2, SEED = 1, LIF = 0;
    localparam WIDTH = $clog2(ROWS), LANES = 8;
    reg clk = 0, rst_n = 0, write = 0, spikes = 0, query = 0, valid = 0;
    reg [7:0] ones;
    reg [15:0] tile [0:ROWS-1], left [0:ROWS-1];
    reg [WIDTH-1:0] prefixes [0:ROWS-1], row = 0;
    wire [WIDTH-1:0] found, prefix;
    wire [15:0] pattern;
    wire known, ready;
    reg [31:0] state = SEED;
    integer i, draw, begun, answers = 0, cycle = 0;
    always #5 clk = ~clk;
    always @(posedge clk) cycle <= cycle + 1;
    always @* ones = $countones(tile[row]);

    pruner #(.N(ROWS), .M(16)) detected (
        .clk(clk), .rst_n(rst_n), .si_vector({ROWS{1'b0}}), .row_index(row), .row_NO(ones),
        .si_valid(query), .prefix_id(prefix), .row_id_out(found), .pattern(pattern), .prune_valid(known),
        .dispatch_ready(1'b1), .mem_addr(row), .mem_NO_in(ones), .mem_spike_in(tile[row]),
        .mem_wr_en(write), .mem_sel(spikes));
    processor #(.ROWS(ROWS), .SPIKES(16), .PE_COUNT(LANES)) circuit (
        .clk(clk), .rst_n(rst_n), .task_valid(valid), .task_ready(ready), .task_row_id(row),
        .task_prefix_id(prefixes[row]), .task_pattern(left[row]), .weight_data(16'd0), .output_rd_data({LANES*16{1'b0}}),
        .cfg_threshold(16'h7bff), .cfg_leak(16'd0), .cfg_reset_potential(16'd0), .cfg_refractory(4'd0),
        .lif_enable(LIF != 0), .timestep_end(1'b0), .vmem_rd_idx(3'd0));

    always @(posedge clk) if (known) begin
        left[found] <= pattern;
        prefixes[found] <= prefix;
        answers <= answers + 1;
    end

    initial begin
        for (i = 0; i < ROWS; i = i + 1) begin
            tile[i] = 16'hffff;
            for (draw = 0; draw < DRAWS; draw = draw + 1) begin
                state = state * 1103515245 + 12345;
                tile[i] = tile[i] & state[31:16];
            end
            left[i] = 0;
            prefixes[i] = 0;
        end
        repeat (4) @(negedge clk);
        rst_n = 1;
        write = 1;
        // First spikes, then their numbers.
        for (i = 0; i < 2 * ROWS; i = i + 1) begin spikes = i < ROWS; row = i; @(negedge clk); end
        write = 0;
        query = 1;
        for (i = 0; i < ROWS; i = i + 1) begin row = i; @(negedge clk); end
        query = 0;
        repeat (8) @(negedge clk);
        if (answers != ROWS) $display("answers %0d", answers);
        row = 0;
        valid = 1;
        @(negedge clk) valid = 0;
        wait (ready);
        @(negedge clk) begun = cycle;
        valid = 1;
        for (i = 0; i < ROWS; i = i + 1) begin
            row = i;
            @(negedge clk);
            while (!ready) @(negedge clk);
        end
        $display("cycles %0d", cycle - begun);
        $finish;
    end
endmodule
