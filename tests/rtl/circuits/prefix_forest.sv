// Detector, pruner and dispatcher of product sparsity, for tiles of up to 32 rows and 16 columns.

// A tile lies in registers. With `several` its spikes are counted first, `popcounts` rows a cycle, and only rows with two
// or more are searched. A cycle searches a row: the TCAM finds all rows whose spikes it has, and comparators the prefix
// among them. What is found goes through a pipeline; behind the last row comes the sign that the tile is known.
module prefix_detector (
    input  logic        clk,
    input  logic        rst,
    input  logic        begins,     // the tile comes into the registers at the end of this cycle
    input  logic [5:0]  rows,
    input  logic [31:0][15:0] spikes,
    input  logic        several,
    input  logic [12:0] popcounts,
    input  logic [6:0]  pipeline_cycles,
    output logic        found,
    output logic [4:0]  row,
    output logic        has_prefix,
    output logic [4:0]  prefix,
    output logic        known
);
    logic counting, searching;
    logic [5:0] counted;   // rows whose spikes are counted
    logic [31:0] to_search, counted_rows, left;
    logic [31:0][4:0] ones;
    for (genvar j = 0; j < 32; j++) begin : counters
        assign ones[j] = 5'($countones(spikes[j]));
        // Counted in this cycle, and with several spikes.
        assign counted_rows[j] = j >= 32'(counted) && j < 32'(counted) + 32'(popcounts) && ones[j] >= 5'd2;
    end
    logic [5:0] after_count;
    assign after_count = 32'(counted) + 32'(popcounts) >= 32'(rows) ? rows : counted + popcounts[5:0];

    logic [4:0] searched;
    logic any;
    always_comb begin
        searched = '0;
        any = 1'b0;
        for (int i = 31; i >= 0; i--)
            if (to_search[i]) begin
                searched = 5'(i);
                any = 1'b1;
            end
    end
    assign left = to_search & (to_search - 32'd1);

    logic [31:0] subset;
    for (genvar j = 0; j < 32; j++) begin : tcam
        assign subset[j] = (spikes[j] & ~spikes[searched]) == '0 && spikes[j] != '0 && j < 32'(rows)
            && (spikes[j] != spikes[searched] || j < 32'(searched));
    end
    logic chosen;
    logic [4:0] choice, most;
    always_comb begin
        chosen = 1'b0;
        choice = '0;
        most = '0;
        for (int j = 0; j < 32; j++)
            if (subset[j] && ones[j] >= most) begin
                chosen = 1'b1;
                choice = 5'(j);
                most = ones[j];
            end
    end

    typedef struct packed {
        logic       found;
        logic [4:0] row;
        logic       has_prefix;
        logic [4:0] prefix;
        logic       known;
    } result_t;
    result_t [64:0] stages;
    result_t entering;
    logic last_count;
    assign last_count = counting && after_count == rows;
    always_comb begin
        entering = '0;
        if (searching) entering = '{any, searched, any && chosen, choice, left == '0};
        if (last_count) entering.known = (to_search | counted_rows) == '0;
    end
    assign {found, row, has_prefix, prefix, known} = stages[pipeline_cycles];
    always_ff @(posedge clk)
        if (rst) {stages, counting, searching} <= '0;
        else begin
            stages <= {stages[63:0], entering};
            if (begins) begin
                counting  <= several;
                searching <= !several;
                counted   <= '0;
                to_search <= several ? '0 : 32'((33'd1 << rows) - 33'd1);
            end
            if (counting) begin
                counted   <= after_count;
                to_search <= to_search | (counted_rows & 32'((33'd1 << rows) - 33'd1));
                if (last_count) begin
                    counting  <= 1'b0;
                    searching <= (to_search | counted_rows) != '0;
                end
            end
            if (searching) begin
                to_search <= left;
                searching <= left != '0;
            end
        end
endmodule

// Rows are issued by number of spikes, then by row. The sum of a row begins as that of its prefix; a cycle adds the
// weight of one spike that is left. An exact match takes a cycle too; empty rows take none.
module prefix_dispatcher (
    input  logic        clk,
    input  logic        rst,
    input  logic        begins,
    input  logic [5:0]  rows,
    input  logic [31:0][15:0] spikes,
    input  logic [31:0] has_prefix,
    input  logic [31:0][4:0] prefix,
    input  logic [15:0][7:0] weights,
    output logic        busy,
    output logic        summed,
    output logic [4:0]  row,
    output logic [31:0] sum
);
    logic [31:0] issued, waits;
    logic [31:0][31:0] partial;
    logic works;
    for (genvar j = 0; j < 32; j++)
        assign waits[j] = (begins || !issued[j]) && spikes[j] != '0 && j < 32'(rows);
    logic [4:0] next, fewest, now_row;
    always_comb begin
        next = '0;
        fewest = '1;
        for (int j = 31; j >= 0; j--)
            if (waits[j] && 5'($countones(spikes[j])) <= fewest) begin
                next = 5'(j);
                fewest = 5'($countones(spikes[j]));
            end
    end
    logic in_row;
    logic [15:0] remaining, now_remaining, after;
    logic [31:0] so_far, now_sum;
    logic [4:0] current;
    logic [3:0] column;
    assign now_row       = in_row ? current : next;
    assign now_remaining = in_row ? remaining
        : spikes[next] & ~(has_prefix[next] ? spikes[prefix[next]] : 16'd0);
    assign after         = now_remaining & (now_remaining - 16'd1);
    always_comb begin
        column = '0;
        for (int c = 15; c >= 0; c--) if (now_remaining[c]) column = 4'(c);
    end
    assign now_sum = (in_row ? so_far : has_prefix[next] ? partial[prefix[next]] : '0)
        + (now_remaining != '0 ? 32'(signed'(weights[column])) : '0);
    assign works = (begins || busy) && (in_row || waits != '0);
    always_ff @(posedge clk) begin
        summed <= 1'b0;
        if (rst) {busy, in_row} <= '0;
        else if (begins || busy) begin
            busy <= works;
            if (begins) issued <= '0;
            if (works) begin
                issued[now_row] <= 1'b1;
                current   <= now_row;
                remaining <= after;
                so_far    <= now_sum;
                in_row    <= after != '0;
                summed    <= after == '0;
                row       <= now_row;
                sum       <= now_sum;
                if (after == '0) partial[now_row] <= now_sum;
            end
        end
    end
endmodule
