// Inner-join unit of a TPPE with its accumulators: bitmasks of A and B in, sums of all timesteps out.

// AND, priority encoder and fast prefix-sum find a match a cycle. Its weight is added to the pseudo-sum at once, and
// goes with its position into the FIFOs. A laggy prefix-sum finds the places of the packed words meanwhile: bitmasks wait
// for one in a queue. It leaves the offsets in a table, which belongs to the chunk until its last match is corrected. Once
// offsets and words are there, an entry a cycle leaves the FIFOs, and its weight is added to the corrections of the
// timesteps that were silent. A sum has a place, a pseudo-sum and corrections of its own, from its first chunk until it is
// finished and the output buffer, in front of the neuron unit, takes it.
//
// Without a laggy unit (SparTen-SNN) a match is added and that is all.
module inner_join #(
    parameter int UNITS = 18
) (
    input  logic         clk,
    input  logic         rst,
    input  logic [2:0]   mode,      // hidden, literal, early stop, queued; 4: no laggy unit
    input  logic [7:0]   adders,
    input  logic [4:0]   depth,     // of the FIFOs
    input  logic [6:0]   overhead,
    input  logic [4:0]   timesteps,
    input  logic [4:0]   units,
    input  logic [4:0]   tables,
    input  logic [4:0]   places,    // of sums
    input  logic [4:0]   output_buffer,
    input  logic         neuron_ready,
    input  logic         holds_back,   // the sum that has been joined last
    input  logic         in_valid,
    output logic         in_ready,
    input  logic [127:0] mask_a,
    input  logic [127:0] mask_b,
    input  logic         last,      // chunk of a sum
    input  logic [127:0][7:0]  weights,
    input  logic         words_valid,  // of the chunk that was taken last, if anything in it matches
    output logic         words_ready,
    input  logic [127:0][15:0] words,
    output logic         pushed,
    output logic [6:0]   pushed_position,
    output logic [7:0]   pushed_weight,
    output logic         corrected,
    output logic [15:0]  corrected_word,
    output logic         ended,     // in the cycle behind the chunk's last
    output logic         unfinished,  // a sum, of which chunks follow
    output logic         taken,     // a sum, by the neuron unit
    output logic [15:0][31:0] sums,
    output logic [4:0]   running,   // laggy passes, tables that chunks have, bitmasks that wait
    output logic [4:0]   held,
    output logic [4:0]   queued
);
    localparam int DEPTH = 16, SUMS = 16, CHUNKS = 32;
    typedef logic [$clog2(UNITS)-1:0] unit_t;
    logic laggy, take;
    assign laggy = mode != 3'd4;
    assign take = in_valid && in_ready;

    // The chunk in the fast path: as it comes in, then in registers.
    logic occupied, last_held, now_last;
    logic [127:0] pending, both, now_pending, mask_b_held, now_mask_b, left;
    logic [127:0][7:0] weights_held, now_weights;
    logic [6:0] waiting, now_waiting;
    logic [6:0] position, offset, last_match;
    logic [7:0] weight;
    logic found, push, pop, full, ends, enters;
    assign both     = mask_a & mask_b;
    assign enters  = laggy && take && both != '0;
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
    last_one last_of(.bits(both), .position(last_match));

    // Laggy units and tables take turns. A pass begins in the cycle in which its chunk comes if nothing waits and both are
    // free; its chunk's table is known by then.
    typedef struct packed {
        logic [127:0] mask;
        logic [6:0]   last;
        unit_t        slot;  // number of the table
    } pass_t;
    pass_t queue[CHUNKS], incoming, next_pass;
    logic [4:0] queue_write, queue_read, queue_level;
    unit_t unit, slot, now_slot;
    logic [UNITS-1:0] busy, goes_on, start, done, live, filled;
    logic [UNITS-1:0][127:0][6:0] offsets;
    logic [127:0][6:0] table_of[UNITS];
    unit_t slot_of[UNITS];
    logic begins, waits_for_pass, passing, now_passing, passed;
    assign now_slot  = !enters ? slot : 5'(slot) + 5'd1 == tables ? '0 : slot + 1'b1;
    assign incoming  = '{mask_a, mode == 3'd2 ? last_match : 7'd127, now_slot};
    assign next_pass = queue_level != '0 ? queue[queue_read] : incoming;
    assign begins    = (queue_level != '0 || enters) && !busy[unit] && !live[next_pass.slot];
    for (genvar u = 0; u < UNITS; u++) begin : passes
        assign start[u] = begins && unit == unit_t'(u);
        laggy_prefix_sum prefix_sum(
            .clk, .rst, .start(start[u]), .mask(next_pass.mask), .adders, .last(next_pass.last),
            .busy(busy[u]), .goes_on(goes_on[u]), .done(done[u]), .offsets(offsets[u])
        );
    end
    assign waits_for_pass = mode == 3'd1 || mode == 3'd2;
    assign passed      = ((busy | start) & ~goes_on) != '0;
    assign now_passing = take ? enters : passing;
    assign ends = (take || occupied) && left == '0 && now_waiting <= 7'd1 && !(waits_for_pass && now_passing && !passed);

    // Packed words come when they come; the next chunk is not taken before.
    logic [127:0][15:0] words_held[CHUNKS];
    logic [CHUNKS-1:0] words_there;
    logic [4:0] chunk, now_chunk;
    logic awaiting, arriving, joined, open, room;
    assign now_chunk   = chunk + 5'(enters);
    assign words_ready = awaiting;
    assign arriving    = awaiting && words_valid;
    assign ended       = joined && (!awaiting || arriving);
    assign in_ready    = !occupied && (!awaiting || arriving) && (open || room);
    assign unfinished  = open;

    // FIFOs.
    typedef struct packed {
        logic [6:0] position;
        logic [7:0] weight;
        unit_t      slot;
        logic [4:0] chunk;
        logic [3:0] sum;
        logic       last;  // match of its chunk
    } entry_t;
    entry_t fifo[DEPTH], head;
    logic [3:0] write_at, read_at;
    logic [4:0] level;
    logic [127:0][6:0] head_offsets;
    logic [127:0][15:0] head_words;
    logic has_offsets;
    assign head = fifo[read_at];
    always_comb begin
        has_offsets  = filled[head.slot];
        head_offsets = table_of[head.slot];
        for (int u = 0; u < UNITS; u++)
            if (done[u] && slot_of[u] == head.slot) begin  // on their way into the table
                has_offsets  = 1'b1;
                head_offsets = offsets[u];
            end
    end
    assign head_words = words_there[head.chunk] ? words_held[head.chunk] : words;
    assign pop  = level != '0 && has_offsets && (words_there[head.chunk] || (arriving && chunk == head.chunk));
    assign full = laggy && level == depth && !pop;
    logic [15:0] word;
    assign word = head_words[head_offsets[head.position]];

    // Sums. Corrections of later ones come while an earlier one waits for its turn to leave.
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
    logic [15:0][31:0] correction[SUMS], corrected_sums, finished_sums, buffer[SUMS];
    logic [3:0] buffer_write, buffer_read;
    logic [4:0] buffer_level;
    logic finished, leaves;
    assign pseudo_after  = pseudo + (push ? 32'(signed'(weight)) : '0);
    assign matched_after = matched + 16'(push);
    assign oldest   = waiting_sums[sum_read];
    assign finished = sum_level != '0 && corrections[sum_read] == (laggy ? oldest.number : '0)
        && !(holds_back && sum_level == 5'd1 && !occupied && !open);
    assign taken    = neuron_ready && (buffer_level != '0 || finished);
    assign leaves   = finished && (buffer_level < output_buffer || taken);
    assign room     = sum_level - 5'(leaves) < places;
    assign corrected_sums = correction[head.sum];
    for (genvar t = 0; t < 16; t++) assign finished_sums[t] = oldest.pseudo - correction[sum_read][t];
    assign sums = buffer_level != '0 ? buffer[buffer_read] : finished_sums;

    assign pushed          = push;
    assign pushed_position = position;
    assign pushed_weight   = weight;
    assign corrected       = pop;
    assign corrected_word  = word;
    assign running         = 5'($countones(busy | start));
    assign held            = 5'($countones(live)) + 5'(begins);
    assign queued          = queue_level;

    always_ff @(posedge clk) begin
        if (rst) begin
            {occupied, joined, open, awaiting, passing, words_there, live, filled} <= '0;
            {write_at, read_at, level, queue_write, queue_read, queue_level, unit, chunk} <= '0;
            {sum_write, sum_read, sum_level, pseudo, matched, buffer_write, buffer_read, buffer_level} <= '0;
            slot <= unit_t'(tables - 5'd1);
            corrections <= '{default: '0};
            correction  <= '{default: '0};
        end else begin
            joined   <= ends || (joined && !ended);
            awaiting <= enters || (awaiting && !arriving);
            if (take || occupied) begin
                occupied     <= !ends;
                pending      <= left;
                waiting      <= now_waiting == '0 ? '0 : now_waiting - 7'd1;
                mask_b_held  <= now_mask_b;
                weights_held <= now_weights;
                last_held    <= now_last;
                slot         <= now_slot;
                chunk        <= now_chunk;
                passing      <= now_passing && !passed;
                pseudo       <= ends && now_last ? '0 : pseudo_after;
                matched      <= ends && now_last ? '0 : matched_after;
            end
            if (take) open <= !last;
            if (enters && !(begins && queue_level == '0)) begin
                queue[queue_write] <= incoming;
                queue_write <= queue_write + 5'd1;
            end
            queue_read  <= queue_read + 5'(begins && queue_level != '0);
            queue_level <= queue_level + 5'(enters) - 5'(begins);
            for (int u = 0; u < UNITS; u++)
                if (done[u]) begin
                    table_of[slot_of[u]] <= offsets[u];
                    filled[slot_of[u]]   <= 1'b1;
                end
            if (arriving) begin
                words_held[chunk]  <= words;
                words_there[chunk] <= 1'b1;
            end
            if (enters) words_there[now_chunk] <= 1'b0;
            if (push && laggy) begin
                fifo[write_at] <= '{position, weight, now_slot, now_chunk, sum_write, left == '0};
                write_at <= write_at + 4'd1;
            end
            if (pop) begin
                read_at <= read_at + 4'd1;
                if (head.last) {live[head.slot], filled[head.slot]} <= '0;
            end
            if (begins) begin
                slot_of[unit]        <= next_pass.slot;
                live[next_pass.slot] <= 1'b1;
                unit <= 5'(unit) + 5'd1 == units ? '0 : unit + 1'b1;
            end
            level <= level + 5'(push && laggy) - 5'(pop);
            if (ends && now_last) begin
                waiting_sums[sum_write] <= '{pseudo_after, matched_after};
                sum_write <= 5'(sum_write) + 5'd1 == places ? '0 : sum_write + 4'd1;
            end
            sum_level <= sum_level + 5'(ends && now_last) - 5'(leaves);
            if (pop) begin
                corrections[head.sum] <= corrections[head.sum] + 16'd1;
                for (int t = 0; t < 16; t++)
                    if (!word[t] && t < 32'(timesteps))
                        correction[head.sum][t] <= corrected_sums[t] + 32'(signed'(head.weight));
            end
            if (leaves) begin
                sum_read <= 5'(sum_read) + 5'd1 == places ? '0 : sum_read + 4'd1;
                corrections[sum_read] <= '0;
                correction[sum_read]  <= '0;
                if (!taken || buffer_level != '0) begin
                    buffer[buffer_write] <= finished_sums;
                    buffer_write <= buffer_write + 4'd1;
                end
            end
            buffer_read  <= buffer_read + 4'(taken && buffer_level != '0);
            buffer_level <= buffer_level + 5'(leaves) - 5'(taken);
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
