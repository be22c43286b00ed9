// Merger of a Gustavson PE: fibers of up to 16 coordinates, a tree of comparators of up to eight ways, an accumulate
// stage, and the queue in which fibers and partial fibers wait.

package merger_types;
    typedef struct packed {
        logic       valid;
        logic [3:0] coordinate;
        logic [31:0] value;
    } entry_t;
endpackage

// A node of the tree: a register that takes the smaller of what its two children hold, when it is empty or its entry is
// taken. A child is `over` when nothing comes any more.
module merger_node
    import merger_types::*;
(
    input  logic   clk,
    input  logic   clear,
    input  logic   runs,
    input  entry_t left,
    input  entry_t right,
    input  logic   left_over,
    input  logic   right_over,
    output logic   take_left,
    output logic   take_right,
    output entry_t entry,
    output logic   over,
    input  logic   taken
);
    logic room, known, prefers_left;
    assign room  = runs && (!entry.valid || taken);
    assign known = (left.valid || left_over) && (right.valid || right_over);
    assign prefers_left = left.valid && (!right.valid || left.coordinate <= right.coordinate);
    assign take_left  = room && known && prefers_left;
    assign take_right = room && known && !prefers_left && right.valid;
    assign over = !entry.valid && left_over && right_over;
    always_ff @(posedge clk)
        if (clear) entry <= '0;
        else if (take_left) entry <= left;
        else if (take_right) entry <= right;
        else if (taken) entry.valid <= 1'b0;
endmodule

// Loads ways, a fiber in `overhead` cycles, then runs until nothing is left; adds up entries of the same coordinate.
module merger
    import merger_types::*;
(
    input  logic        clk,
    input  logic        rst,
    input  logic        in_valid,
    output logic        in_ready,
    input  logic [5:0]  inputs,
    input  logic [19:0][15:0] in_present,       // which coordinates a fiber has
    input  logic [19:0][15:0][7:0] in_values,   // and its values, by coordinate
    input  logic [3:0]  radix,
    input  logic [1:0]  levels,                 // of the tree that is used
    input  logic [3:0]  overhead,
    output logic        ended,                  // a pass, in the cycle behind it
    output logic [15:0] present,
    output logic [15:0][31:0] sums
);
    localparam int FIBERS = 64;
    // Fibers: the row's, then the results of passes. A way reads the next entry of its own.
    logic [FIBERS-1:0][15:0] fiber_present;
    logic [15:0][31:0] fiber_values[FIBERS];
    logic [6:0] head, tail;
    logic first, working;
    logic [6:0] waiting;
    assign waiting = tail - head;
    assign in_ready = !working;

    // Ways of this pass; of the first, so that all later ones are full.
    logic [3:0] ways;
    always_comb begin
        ways = radix;
        if (first) ways = 4'(7'd2 + (waiting - 7'd2) % (7'(radix) - 7'd1));
        if (waiting <= 7'(radix)) ways = waiting[3:0];
    end

    // Loading, then running.
    logic [7:0] load_left;
    logic loads, runs, at_pass;  // `at_pass`: in the first cycle of a pass
    logic [9:0] run_cycles;
    assign loads = working && (at_pass ? 8'(overhead) * 8'(ways) != '0 : load_left != '0);
    assign runs  = working && !loads;
    logic [7:0][15:0] way_left, now_left;
    entry_t [7:0] way;
    logic [7:0] way_over, way_taken;
    for (genvar w = 0; w < 8; w++) begin : ways_of_tree
        logic [3:0] place, coordinate;
        // In the first cycle of a pass without a load the way's fiber is read at once.
        assign now_left[w] = at_pass ? (w < 32'(ways) ? fiber_present[6'(head + 7'(w))] : '0) : way_left[w];
        always_comb begin
            coordinate = '0;
            for (int c = 15; c >= 0; c--) if (now_left[w][c]) coordinate = 4'(c);
        end
        assign place = coordinate;
        assign way[w] = '{now_left[w] != '0, coordinate, fiber_values[6'(head + 7'(w))][place]};
        assign way_over[w] = now_left[w] == '0;
        always_ff @(posedge clk)
            way_left[w] <= way_taken[w] ? now_left[w] & (now_left[w] - 16'd1) : now_left[w];
    end

    entry_t [3:0] level1;
    entry_t [1:0] level2;
    entry_t level3, root;
    logic [3:0] over1, taken1;
    logic [1:0] over2, taken2;
    logic over3, root_over, take_root, clear, ends, left_over, right_over;
    assign clear = rst || at_pass && !runs || ends;
    for (genvar n = 0; n < 4; n++)
        merger_node node1(
            .clk, .clear, .runs, .left(way[2 * n]), .right(way[2 * n + 1]), .left_over(way_over[2 * n]),
            .right_over(way_over[2 * n + 1]), .take_left(way_taken[2 * n]), .take_right(way_taken[2 * n + 1]),
            .entry(level1[n]), .over(over1[n]), .taken(levels == 2'd1 ? n == 0 && take_root : taken1[n])
        );
    for (genvar n = 0; n < 2; n++)
        merger_node node2(
            .clk, .clear, .runs(runs && levels >= 2'd2), .left(level1[2 * n]), .right(level1[2 * n + 1]),
            .left_over(over1[2 * n]), .right_over(over1[2 * n + 1]), .take_left(taken1[2 * n]),
            .take_right(taken1[2 * n + 1]), .entry(level2[n]), .over(over2[n]),
            .taken(levels == 2'd2 ? n == 0 && take_root : taken2[n])
        );
    merger_node node3(
        .clk, .clear, .runs(runs && levels == 2'd3), .left(level2[0]), .right(level2[1]), .left_over(over2[0]),
        .right_over(over2[1]), .take_left(taken2[0]), .take_right(taken2[1]), .entry(level3), .over(over3),
        .taken(levels == 2'd3 && take_root)
    );
    always_comb
        case (levels)
            2'd1: {root, root_over, left_over, right_over} = {level1[0], over1[0], way_over[0], way_over[1]};
            2'd2: {root, root_over, left_over, right_over} = {level2[0], over2[0], over1[0], over1[1]};
            default: {root, root_over, left_over, right_over} = {level3, over3, over2[0], over2[1]};
        endcase
    assign take_root = runs && root.valid;
    assign ends = runs && run_cycles + 10'd1 >= 10'(levels)
        && (root_over || (root.valid && left_over && right_over));

    // The accumulate stage: the sum of the coordinate at hand is written on with every entry.
    logic [15:0] row_present;
    logic [15:0][31:0] row_sums;
    logic [3:0] at;
    logic some;
    logic [31:0] adding;
    logic [15:0] now_present;
    logic [15:0][31:0] now_sums;
    assign adding = root.value + (some && at == root.coordinate ? row_sums[at] : '0);
    always_comb begin
        now_present = row_present;
        now_sums = row_sums;
        if (take_root) begin
            now_present[root.coordinate] = 1'b1;
            now_sums[root.coordinate] = adding;
        end
    end

    logic last;
    assign last = waiting == 7'(ways);
    always_ff @(posedge clk) begin
        ended <= 1'b0;
        if (rst) {working, at_pass, some} <= '0;
        else if (in_valid && in_ready) begin
            for (int f = 0; f < 20; f++) begin
                fiber_present[f] <= in_present[f];
                for (int c = 0; c < 16; c++) fiber_values[6'(f)][c] <= 32'(signed'(in_values[f][c]));
            end
            head    <= '0;
            tail    <= 7'(inputs);
            first   <= 1'b1;
            working <= 1'b1;
            at_pass <= 1'b1;
            {some, row_present, row_sums, run_cycles} <= '0;
        end else if (working) begin
            at_pass <= 1'b0;
            if (loads) load_left <= (at_pass ? 8'(overhead) * 8'(ways) : load_left) - 8'd1;
            if (runs) run_cycles <= run_cycles + 10'd1;
            if (take_root) begin
                some <= 1'b1;
                at   <= root.coordinate;
                row_present <= now_present;
                row_sums    <= now_sums;
            end
            if (ends) begin
                ended   <= 1'b1;
                present <= now_present;
                sums    <= now_sums;
                fiber_present[tail[5:0]] <= now_present;
                fiber_values[tail[5:0]]  <= now_sums;
                head    <= head + 7'(ways);
                tail    <= tail + 7'd1;
                first   <= 1'b0;
                working <= !last;
                at_pass <= !last;
                {some, row_present, row_sums, run_cycles} <= '0;
            end
        end
    end
endmodule
