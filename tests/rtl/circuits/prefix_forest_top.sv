// A tile in; out: prefixes as they are found, the cycle in which all are known, and from then on the sums of rows.
// needs: prefix_forest.sv
module circuit (
    input  logic         clk,
    input  logic         rst,
    input  logic [95:0]  settings,  // 1: search rows with several spikes only; rows counted in a cycle; pipeline
    input  logic         in_valid,
    output logic         in_ready,
    input  logic [671:0] in_data,   // 32 rows of 16 columns, 16 weights, rows
    output logic [2:0]   out_valid,
    output logic [191:0] out_data   // row, prefix + 1; nothing; row, sum
);
    logic take, detecting, known, found, has, adding, summed;
    logic [4:0] row, prefix, summed_row;
    logic [31:0] sum, has_prefix;
    logic [31:0][4:0] prefixes;
    logic [31:0][15:0] spikes;
    logic [15:0][7:0] weights;
    logic [5:0] rows;
    assign in_ready = !detecting && !adding;
    assign take = in_valid && in_ready;
    prefix_detector detector(
        .clk, .rst, .begins(take), .rows(take ? in_data[645:640] : rows), .spikes, .several(settings[0]),
        .popcounts(settings[44:32]), .pipeline_cycles(settings[70:64]), .found, .row, .has_prefix(has), .prefix, .known
    );
    // The last prefix is used in the cycle in which it comes.
    logic [31:0] now_has;
    logic [31:0][4:0] now_prefixes;
    always_comb begin
        now_has = has_prefix;
        now_prefixes = prefixes;
        if (found) begin
            now_has[row] = has;
            now_prefixes[row] = prefix;
        end
    end
    prefix_dispatcher dispatcher(
        .clk, .rst, .begins(known), .rows, .spikes, .has_prefix(now_has), .prefix(now_prefixes), .weights,
        .busy(adding), .summed, .row(summed_row), .sum
    );
    always_ff @(posedge clk)
        if (rst) detecting <= 1'b0;
        else begin
            if (take) begin
                {spikes, weights, rows} <= {in_data[511:0], in_data[639:512], in_data[645:640]};
                detecting  <= 1'b1;
                has_prefix <= '0;
            end else if (found) begin
                has_prefix <= now_has;
                prefixes   <= now_prefixes;
            end
            if (known) detecting <= 1'b0;
        end
    assign out_valid = {summed, known, found};
    assign out_data = {sum, 27'd0, summed_row, 64'd0, 26'd0, has ? 6'(prefix) + 6'd1 : 6'd0, 27'd0, row};
endmodule
