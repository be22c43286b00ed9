// DRAM: channels with open rows, a fractional rate and refresh.

// One channel. Its bus is lent out in fractions of a cycle, of which a cycle has `per_cycle`: `debt` are those that the
// bursts so far still need, counted from the beginning of this cycle. Whoever asks is granted in a cycle in which the bus
// becomes free.
module dram_channel #(
    parameter int BANKS = 4
) (
    input  logic        clk,
    input  logic        rst,
    input  logic        asks,
    input  logic [15:0] row,
    input  logic [1:0]  bank,
    input  logic [31:0] per_cycle,
    input  logic [31:0] per_line,
    input  logic [15:0] hit_cycles,
    input  logic [15:0] miss_cycles,
    input  logic [15:0] refresh_interval,
    input  logic [15:0] refresh_cycles,  // 0: no refresh
    output logic        granted,
    output logic [39:0] until_end,       // of its burst, from the beginning of this cycle
    output logic [15:0] latency          // behind the burst
);
    logic [BANKS-1:0] open;
    logic [BANKS-1:0][15:0] open_row;
    logic [39:0] debt, begins;
    logic [15:0] since;  // the last refresh began
    logic refreshes, hit;
    assign refreshes = refresh_cycles != '0 && since < refresh_cycles;
    assign begins    = refreshes ? (40'(refresh_cycles) - 40'(since)) * 40'(per_cycle) : debt;
    assign granted   = asks && debt < 40'(per_cycle);
    assign until_end = begins + 40'(per_line);
    // A refresh closes all rows.
    assign hit     = open[bank] && open_row[bank] == row && !(refresh_cycles != '0 && since == '0);
    assign latency = hit ? hit_cycles : miss_cycles;
    logic [39:0] after;
    assign after = granted ? until_end : debt;
    always_ff @(posedge clk)
        if (rst) {open, debt, since} <= '0;
        else begin
            debt  <= after > 40'(per_cycle) ? after - 40'(per_cycle) : '0;
            since <= since + 16'd1 == refresh_interval ? '0 : since + 16'd1;
            if (refresh_cycles != '0 && since == '0) open <= '0;
            if (granted) begin
                open[bank]     <= 1'b1;
                open_row[bank] <= row;
            end
        end
endmodule
