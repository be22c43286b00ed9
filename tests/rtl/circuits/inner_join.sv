// Inner-join unit of a TPPE with its accumulators: bitmasks of A and B in, sums of all timesteps out.

// AND, priority encoder and fast prefix-sum find a match a cycle. Its weight is added to the pseudo-sum at once, and
// goes with its position into the FIFOs. A laggy prefix-sum finds the places of the packed words meanwhile; once it has
// them, an entry a cycle leaves the FIFOs, and its weight is added to the corrections of the timesteps that were silent.
// There is a laggy unit, with a table of offsets and a buffer of words, for every chunk that can be in flight.
//
// Without a laggy unit (SparTen-SNN) a match is added and that is all.
module inner_join #(
    parameter int UNITS = 18
) (
    input  logic         clk,
    input  logic         rst,
    input  logic [1:0]   mode,      // hidden, literal, early stop; 3: no laggy unit
    input  logic [7:0]   adders,
    input  logic [4:0]   depth,     // of the FIFOs
    input  logic [6:0]   overhead,
    input  logic [4:0]   timesteps,
    input  logic         in_valid,
    output logic         in_ready,
    input  logic [127:0] mask_a,
    input  logic [127:0] mask_b,
    input  logic         last,      // chunk of a sum
    input  logic [127:0][15:0] words,
    input  logic [127:0][7:0]  weights,
    output logic         pushed,
    output logic [6:0]   pushed_position,
    output logic [7:0]   pushed_weight,
    output logic         corrected,
    output logic [15:0]  corrected_word,
    output logic         ended,     // in the cycle behind the chunk's last
    output logic         finished,
    output logic [15:0][31:0] sums,
    output logic [4:0]   running,   // laggy passes, and chunks whose table is needed
    output logic [4:0]   held
);
    localparam int DEPTH = 16, SUMS = 16;
    logic laggy, take;
    assign laggy = mode != 2'd3;
    assign take = in_valid && in_ready;

    // The chunk in the fast path: as it comes in, then in registers.
    logic occupied, last_held, now_last;
    logic [127:0] pending, both, now_pending, mask_b_held, now_mask_b, left;
    logic [127:0][7:0] weights_held, now_weights;
    logic [6:0] waiting, now_waiting;
    logic [6:0] position, offset, last_match;
    logic [7:0] weight;
    logic found, push, pop, full, ends;
    assign both     = mask_a & mask_b;
    assign now_pending = take ? both : pending;
    assign now_mask_b  = take ? mask_b : mask_b_held;
    assign now_weights = take ? weights : weights_held;
    assign now_waiting = take ? overhead : waiting;
    assign now_last    = take ? last : last_held;
    priority_encoder encoder(.bits(now_pending), .any(found), .position);
    assign offset = 7'($countones(now_mask_b & ~(128'hffffffffffffffffffffffffffffffff << position)));
    assign weight = now_weights[offset];
    assign push   = (take || occupied) && found && now_waiting == '0 && !full;
    assign left   = push ? now_pending & (now_pending - 128'd1) : now_pending;
    assign ends   = (take || occupied) && left == '0 && now_waiting <= 7'd1
        && !((mode == 2'd1 || mode == 2'd2) && goes_on[now_unit]);
    last_one last_of(.bits(both), .position(last_match));

    // Laggy units take turns.
    logic [4:0] unit, now_unit, next_unit;
    logic [UNITS-1:0] busy, goes_on, live, start;
    logic [UNITS-1:0][127:0][6:0] offsets;
    logic [127:0][15:0] words_held[UNITS];
    assign next_unit = unit == 5'(UNITS - 1) ? '0 : unit + 5'd1;
    assign now_unit  = take && both != '0 ? next_unit : unit;
    for (genvar u = 0; u < UNITS; u++) begin : units
        assign start[u] = laggy && take && both != '0 && next_unit == 5'(u);
        logic done;
        laggy_prefix_sum prefix_sum(
            .clk, .rst, .start(start[u]), .mask(mask_a), .adders, .last(mode == 2'd2 ? last_match : 7'd127),
            .busy(busy[u]), .goes_on(goes_on[u]), .done, .offsets(offsets[u])
        );
        always_ff @(posedge clk) if (start[u]) words_held[u] <= words;
    end
    assign in_ready = !occupied && !live[next_unit];
    // FIFOs.
    typedef struct packed {
        logic [6:0] position;
        logic [7:0] weight;
        logic [4:0] unit;
        logic [3:0] sum;
        logic       last;  // match of its chunk
    } entry_t;
    entry_t fifo[DEPTH], head;
    logic [3:0] write_at, read_at;
    logic [4:0] level;
    assign head = fifo[read_at];
    assign pop  = level != '0 && !busy[head.unit];
    assign full = laggy && level == depth && !pop;
    logic [15:0] word;
    assign word = words_held[head.unit][offsets[head.unit][head.position]];

    // Sums whose corrections are not complete: each has a place, with a pseudo-sum and corrections of its own. Those of
    // later sums come while an earlier one waits for its turn to leave.
    typedef struct packed {
        logic [31:0] pseudo;
        logic [15:0] number;  // of matches
    } sum_t;
    sum_t waiting_sums[SUMS], oldest;
    logic [3:0] sum_write, sum_read;
    logic [4:0] sum_level;
    logic [31:0] pseudo, pseudo_after;
    logic [15:0] matched, matched_after;
    logic [15:0] corrections[SUMS];
    logic [15:0][31:0] correction[SUMS], corrected_sums;
    assign pseudo_after  = pseudo + (push ? 32'(signed'(weight)) : '0);
    assign matched_after = matched + 16'(push);
    assign oldest   = waiting_sums[sum_read];
    assign finished = sum_level != '0 && corrections[sum_read] == (laggy ? oldest.number : '0);
    assign corrected_sums = correction[head.sum];
    for (genvar t = 0; t < 16; t++) assign sums[t] = oldest.pseudo - correction[sum_read][t];

    assign pushed          = push;
    assign pushed_position = position;
    assign pushed_weight   = weight;
    assign corrected       = pop;
    assign corrected_word  = word;
    assign running         = 5'($countones(busy | start));
    assign held            = 5'($countones(live | start));

    always_ff @(posedge clk) begin
        ended <= ends;
        if (rst) begin
            {occupied, unit, live, write_at, read_at, level, sum_write, sum_read, sum_level} <= '0;
            {pseudo, matched, ended} <= '0;
            corrections <= '{default: '0};
            correction  <= '{default: '0};
        end else begin
            if (take || occupied) begin
                occupied     <= !ends;
                pending      <= left;
                waiting      <= now_waiting == '0 ? '0 : now_waiting - 7'd1;
                mask_b_held  <= now_mask_b;
                weights_held <= now_weights;
                last_held    <= now_last;
                unit         <= now_unit;
                pseudo       <= ends && now_last ? '0 : pseudo_after;
                matched      <= ends && now_last ? '0 : matched_after;
            end
            for (int u = 0; u < UNITS; u++) if (start[u]) live[u] <= 1'b1;
            if (push && laggy) begin
                fifo[write_at] <= '{position, weight, now_unit, sum_write, left == '0};
                write_at <= write_at + 4'd1;
            end
            if (pop) begin
                read_at <= read_at + 4'd1;
                if (head.last) live[head.unit] <= 1'b0;
            end
            level <= level + 5'(push && laggy) - 5'(pop);
            if (ends && now_last) begin
                waiting_sums[sum_write] <= '{pseudo_after, matched_after};
                sum_write <= sum_write + 4'd1;
            end
            sum_level <= sum_level + 5'(ends && now_last) - 5'(finished);
            if (pop) begin
                corrections[head.sum] <= corrections[head.sum] + 16'd1;
                for (int t = 0; t < 16; t++)
                    if (!word[t] && t < 32'(timesteps))
                        correction[head.sum][t] <= corrected_sums[t] + 32'(signed'(head.weight));
            end
            if (finished) begin
                sum_read <= sum_read + 4'd1;
                corrections[sum_read] <= '0;
                correction[sum_read]  <= '0;
            end
        end
    end
endmodule

module priority_encoder (
    input  logic [127:0] bits,
    output logic         any,
    output logic [6:0]   position
);
    assign any = bits != '0;
    always_comb begin
        position = '0;
        for (int i = 127; i >= 0; i--) if (bits[i]) position = 7'(i);
    end
endmodule

module last_one (
    input  logic [127:0] bits,
    output logic [6:0]   position
);
    always_comb begin
        position = '0;
        for (int i = 0; i < 128; i++) if (bits[i]) position = 7'(i);
    end
endmodule
