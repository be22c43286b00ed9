// Rows of B with the spikes at them, and lines of partial sums in; out: of each element the partial sums that leave, with
// the overflows so far, and the cycle behind each row.
// needs: gospa.sv
module circuit (
    input  logic          clk,
    input  logic          rst,
    input  logic [1023:0] settings,  // elements, barrier, row buffers, overheads, bits of a sum, a neuron's cycles, visits;
                                     // of each visit: rows, bit 8: load, bits 9 and 10: end, width at 16; words owned
    input  logic [1:0]    in_valid,
    output logic [1:0]    in_ready,
    input  logic [5311:0] in_data,   // mask, values, spikes; a line of each element
    output logic [5:0]    out_valid,
    output logic [383:0]  out_data
);
    logic [1023:0] set;
    always_ff @(posedge clk) if (rst) set <= settings;
    logic [2:0][31:0] word, overflows;
    logic [2:0][3:0] rows_done;
    gospa elements(
        .clk, .rst, .pes(set[1:0]), .barrier(set[32]), .row_buffers(set[66:64]), .spike_overhead(set[99:96]),
        .chunk_overhead(set[131:128]), .sum_bits(set[165:160]), .neuron_cycles(set[195:192]), .visits(set[227:224]),
        .descriptor(set[1023:256]), .row_valid(in_valid[0]), .row_ready(in_ready[0]), .mask(in_data[287:0]),
        .values(in_data[2591:288]), .spikes(in_data[2627:2592]), .line_valid(in_valid[1]), .line_ready(in_ready[1]),
        .line(in_data[3423:2656]), .word_valid(out_valid[2:0]), .word, .overflows, .rows_done
    );
    assign out_valid[5:3] = {rows_done[2] != '0, rows_done[1] != '0, rows_done[0] != '0};
    assign out_data = {60'd0, rows_done[2], 60'd0, rows_done[1], 60'd0, rows_done[0],
                       overflows[2], word[2], overflows[1], word[1], overflows[0], word[0]};
endmodule
