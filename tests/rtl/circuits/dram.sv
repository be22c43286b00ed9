// DRAM: channels with open rows, a fractional rate and refresh. Lines come one a cycle at most and are numbered.

// One channel. Its bus is lent out in fractions of a cycle, of which a cycle has `per_cycle`: `debt` are those that the
// bursts so far still need, counted from the beginning of this cycle. The oldest line that waits is granted in a cycle in
// which the bus becomes free.
module dram_channel #(
    parameter int LINES = 64,
    parameter int BANKS = 4
) (
    input  logic        clk,
    input  logic        rst,
    input  logic        asks,
    input  logic [5:0]  number,
    input  logic [15:0] row,
    input  logic [1:0]  bank,
    input  logic [31:0] per_cycle,
    input  logic [31:0] per_line,
    input  logic [15:0] hit_cycles,
    input  logic [15:0] miss_cycles,
    input  logic [15:0] refresh_interval,
    input  logic [15:0] refresh_cycles,  // 0: no refresh
    output logic        granted,
    output logic [5:0]  granted_number,
    output logic [39:0] until_end,       // of its burst, from the beginning of this cycle
    output logic [15:0] latency          // behind the burst
);
    // Lines that wait, first come first served; one that comes to an idle channel does not wait.
    typedef struct packed {
        logic [5:0]  number;
        logic [15:0] row;
        logic [1:0]  bank;
    } line_t;
    line_t queue[LINES], first;
    logic [5:0] read_at, write_at;
    logic [6:0] level;
    assign first = level == '0 ? {number, row, bank} : queue[read_at];

    logic [BANKS-1:0] open;
    logic [BANKS-1:0][15:0] open_row;
    logic [39:0] debt, begins;
    logic [15:0] since;  // the last refresh began
    logic refreshes, hit;
    assign refreshes = refresh_cycles != '0 && since < refresh_cycles;
    assign begins    = refreshes ? (40'(refresh_cycles) - 40'(since)) * 40'(per_cycle) : debt;
    assign granted   = (asks || level != '0) && debt < 40'(per_cycle);
    assign granted_number = first.number;
    assign until_end = begins + 40'(per_line);
    // A refresh closes all rows.
    assign hit     = open[first.bank] && open_row[first.bank] == first.row && !(refresh_cycles != '0 && since == '0);
    assign latency = hit ? hit_cycles : miss_cycles;
    logic [39:0] after;
    assign after = granted ? until_end : debt;
    always_ff @(posedge clk)
        if (rst) {open, read_at, write_at, level, debt, since} <= '0;
        else begin
            if (asks) begin
                queue[write_at] <= {number, row, bank};
                write_at <= write_at + 6'd1;
            end
            if (granted) read_at <= read_at + 6'd1;
            level <= level + 7'(asks) - 7'(granted);
            debt  <= after > 40'(per_cycle) ? after - 40'(per_cycle) : '0;
            since <= since + 16'd1 == refresh_interval ? '0 : since + 16'd1;
            if (refresh_cycles != '0 && since == '0) open <= '0;
            if (granted) begin
                open[first.bank]     <= 1'b1;
                open_row[first.bank] <= first.row;
            end
        end
endmodule
