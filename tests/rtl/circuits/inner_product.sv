// A machine of four processing elements with an inner-join unit each: LoAS, or SparTen-SNN with a pass for each timestep.

package inner_product_types;
    localparam int PES = 4;
    localparam int SLOTS = 4;     // of the cache, for fibers of B
    localparam int LINES = 16;    // most that are asked for at once
    localparam int BUFFER = 16;   // most chunks of B between the broadcast and the slowest element
    localparam int TILE = 4;      // most groups of rows in a tile
    localparam int AT_ONCE = 4;   // most chunks that are read at once
    localparam int UNITS = 12;    // most laggy units and tables of an element
    localparam int WINDOW = 1152; // bits of memory that a chunk's words lie in
    typedef logic [15:0] count_t;
    typedef struct packed {
        count_t rows, columns, inputs, timesteps, passes;
        count_t pes, groups, tile;
        count_t pass_chunks;                     // from a timestep's spikes to those of the next
        count_t word_bits, word_byte_a, word_byte_b;
        count_t stride;                          // from a line of a row to its next
        count_t line_shift, beat_shift;          // of its bytes
        count_t slots, free_slots;               // those filled without a credit
        count_t late, refetch;                   // a fiber is fetched for the last step before it, and for each group
        count_t row_groups;                      // groups of rows fetched ahead, or none
        count_t buffer;                          // chunks of B
        count_t barrier;                         // behind each column
        count_t mode, adders, depth, overhead, units, tables, places, output_buffer;
        count_t interval, latency, chunk_cycles;
        count_t threshold, fraction_bits, leak_shift;
        count_t row_bytes;                       // of the output: without packed words
    } layer_t;

    // Where an agent is in the nest; `first` is the first group of the tile.
    typedef struct packed {
        logic   done;
        count_t first, column, group, passed, chunk;
    } place_t;
    typedef struct packed {
        count_t line, size;  // where it begins, its bytes
    } fiber_t;
    typedef struct packed {
        count_t line, stride;   // of a fiber
        count_t first, behind;  // bytes of it
        count_t epoch;
    } range_t;
    typedef struct packed {
        logic [127:0] mask;
        logic [127:0][7:0] weights;
    } chunk_t;

    function automatic count_t least(count_t a, count_t b);
        return a < b ? a : b;
    endfunction
    function automatic count_t chunks_of(layer_t layer);
        return (layer.inputs + 16'd127) >> 7;
    endfunction
    function automatic count_t tile_end(place_t place, layer_t layer);
        return least(place.first + layer.tile, layer.groups);
    endfunction
    function automatic place_t next_column(place_t place, layer_t layer);
        place_t next = place;
        next.group  = place.first;
        next.column = place.column + 16'd1;
        if (next.column == layer.columns) begin
            next.column = '0;
            next.first  = place.first + layer.tile;
            next.group  = next.first;
            next.done   = next.first >= layer.groups;
        end
        return next;
    endfunction
    function automatic place_t next_step(place_t place, layer_t layer);
        place_t next = place;
        {next.passed, next.chunk} = '0;
        next.group = place.group + 16'd1;
        if (next.group == tile_end(place, layer)) next = next_column(next, layer);
        return next;
    endfunction
    // Behind `chunks` chunks of a pass.
    function automatic place_t next_chunk(place_t place, count_t chunks, layer_t layer);
        place_t next = place;
        next.chunk = place.chunk + chunks;
        if (next.chunk == chunks_of(layer)) begin
            next.chunk  = '0;
            next.passed = place.passed + 16'd1;
            if (next.passed == layer.passes) next = next_step(next, layer);
        end
        return next;
    endfunction
    // Bits of a chunk that stand for inputs: behind them comes something else.
    function automatic logic [127:0] inputs_of(count_t chunk, layer_t layer);
        count_t left = layer.inputs - (chunk << 7);
        return left >= 16'd128 ? '1 : ~(128'hffffffffffffffffffffffffffffffff << left[6:0]);
    endfunction
    function automatic count_t lines_of(count_t bytes, layer_t layer);
        return (bytes + (16'd1 << layer.line_shift) - 16'd1) >> layer.line_shift;
    endfunction
endpackage

// An element goes through the chunks of its rows. With a join it asks for the bitmask of the next, and for the words of
// this one if anything matches. In a step for which it has no row it drops chunks, as many at once as there are.
//
// Chunks that come in a cycle can be taken in it. Whether there is room for them depends on what is taken of those before:
// `takes_stored` says how many, whatever comes.
module element
    import inner_product_types::*;
(
    input  count_t  me,
    input  logic    clk,
    input  logic    rst,
    input  layer_t  layer,
    input  logic    go,
    input  count_t  stored,      // chunks of B
    input  count_t  coming,
    output count_t  takes_stored,
    output count_t  takes,
    input  chunk_t  chunk_b,
    output logic    asks_mask,   // of the next chunk
    output logic    asks_words,
    input  logic    mask_answered,
    input  logic    words_answered,
    output place_t  place,       // of the next chunk
    output place_t  following,   // of the one behind it
    input  logic [127:0] memory_mask,
    output count_t  row,
    output count_t  words_so_far,  // in front of those of the next chunk
    output count_t  words_before,  // in front of those of the chunk that was taken last
    input  logic [127:0][15:0] words,
    output logic    arrived,     // at the end of a step
    output logic    arrived_stored,
    input  logic    opens,       // the barrier
    input  logic    opens_stored,
    input  logic    neuron_ready,
    output logic    begins,      // a join
    output logic    ended,
    output logic    summed,      // a sum is joined, and there is a place for the next
    output logic    passes,      // on to the next sum
    output logic    begun_group, // at the end of its first join
    output logic    taken,       // a sum
    output logic [15:0][31:0] sums,
    output logic    idle
);
    logic started, exists, has_row, join_ready, unfinished, waits_mask, mask_there;
    count_t chunks;
    assign exists     = me < layer.pes;
    assign chunks     = chunks_of(layer);
    assign row        = place.group * layer.pes + me;
    assign has_row    = row < layer.rows;
    assign mask_there = !waits_mask || mask_answered;

    // Chunks until the next step with a row, or until the barrier. The bitmask of that row is read with the last of them.
    logic alone, idle_reads;
    count_t left, dropped;
    assign alone      = layer.barrier == '0 && place.first + 16'd1 == layer.groups;
    assign left       = (alone ? layer.columns - place.column : 16'd1) * layer.passes * chunks - dropped;
    assign idle_reads = place.first + 16'd1 != layer.groups && place.column + 16'd1 != layer.columns;

    // At the end of a sum the element goes on if there is a place for the next one, at that of a step if the barrier opens.
    logic owes, owes_barrier, can, arrives_idle;
    logic ready, ready_stored;
    count_t available;
    assign available      = stored + coming;
    logic at_end, waits_at_end, of_row;
    assign at_end         = owes && join_ready && !unfinished && mask_there;
    assign summed         = at_end && !waits_at_end && of_row;
    assign passes         = at_end && (!owes_barrier || opens) || arrives_idle && opens;
    assign can            = started && exists && !place.done && mask_there && join_ready;
    assign ready          = can && (!owes || at_end && (!owes_barrier || opens));
    assign ready_stored   = can && (!owes || at_end && (!owes_barrier || opens_stored));
    assign arrives_idle   = can && !owes && !has_row && !idle_reads && available >= left;
    assign arrived        = !exists || at_end && owes_barrier || arrives_idle;
    assign arrived_stored = !exists || at_end && owes_barrier || can && !owes && !has_row && !idle_reads && stored >= left;

    assign takes_stored = !ready_stored ? '0 : has_row ? 16'(stored != '0) : least(stored, left);
    assign takes        = !ready ? '0 : has_row ? 16'(available != '0) : least(available, left);
    assign begins       = takes != '0 && has_row;
    always_comb begin
        following = place;
        if (takes != '0 && has_row) following = next_chunk(place, 16'd1, layer);
        else if (takes != '0 && alone) following.done = takes == left;
        else if (takes != '0 && takes == left) following = next_step(place, layer);
    end

    logic moves, ends_sum, ends_step, next_row;
    assign moves      = takes != '0;
    assign next_row   = !following.done && following.group * layer.pes + me < layer.rows;
    assign ends_sum   = moves && (has_row ? following.chunk == '0 : takes == left);
    assign ends_step  = ends_sum && (!has_row || following.passed == '0);
    assign asks_mask  = go && exists || moves && next_row;
    assign asks_words = begins && layer.mode != 16'd4 && (memory_mask & chunk_b.mask) != '0;
    assign idle       = !exists || started && place.done && mask_there && (!owes || passes);

    logic tells, join_ended;
    assign begun_group = tells && (ended || join_ended) && mask_there;
    always_ff @(posedge clk)
        if (rst) {started, owes, owes_barrier, waits_mask, place, dropped, tells, join_ended} <= '0;
        else begin
            started    <= started || go;
            waits_mask <= asks_mask || waits_mask && !mask_answered;
            join_ended <= (join_ended || ended) && !begins;
            waits_at_end <= at_end && !passes;
            if (moves) {place, of_row} <= {following, has_row};
            dropped <= ends_sum || has_row ? '0 : dropped + takes;
            if (begins) tells <= place.column == '0 && place.passed == '0 && place.chunk == '0;
            else if (begun_group) tells <= 1'b0;
            if (ends_sum) begin
                owes         <= !(arrives_idle && (opens || layer.barrier == '0));
                owes_barrier <= ends_step && layer.barrier != '0;
            end else if (passes) owes <= 1'b0;
        end

    // The first word of a chunk is behind those of all chunks before it.
    always_ff @(posedge clk)
        if (rst) words_so_far <= '0;
        else if (begins) begin
            words_before <= words_so_far;
            words_so_far <= place.chunk + 16'd1 == chunks ? '0 : words_so_far + 16'($countones(memory_mask));
        end

    logic waits_words;
    logic [47:0] unused;
    inner_join #(.UNITS(UNITS)) join_unit(
        .clk, .rst, .mode(layer.mode[2:0]), .adders(layer.adders[7:0]), .depth(layer.depth[4:0]),
        .overhead(layer.overhead[6:0]), .timesteps(layer.timesteps[4:0]), .units(layer.units[4:0]),
        .tables(layer.tables[4:0]), .places(layer.places[4:0]), .output_buffer(layer.output_buffer[4:0]), .neuron_ready,
        .holds_back(owes && of_row && !mask_there), .in_valid(begins), .in_ready(join_ready), .mask_a(memory_mask), .mask_b(chunk_b.mask), .weights(chunk_b.weights),
        .last(place.chunk + 16'd1 == chunks), .words_valid(words_answered), .words_ready(waits_words), .words,
        .pushed(unused[0]), .pushed_position(unused[7:1]), .pushed_weight(unused[15:8]), .corrected(unused[16]),
        .corrected_word(unused[32:17]), .ended, .unfinished, .taken, .sums, .running(unused[37:33]), .held(unused[42:38]),
        .queued(unused[47:43])
    );
endmodule

// The neuron unit of an element, with the words of a tile's rows, its compressor, and what writes rows that are complete.
module row_neurons
    import inner_product_types::*;
(
    input  count_t  me,
    input  logic    clk,
    input  logic    rst,
    input  layer_t  layer,
    output logic    ready,
    input  logic    taken,
    input  logic [15:0][31:0] sums,
    output logic    released,  // ready again, behind a sum
    output logic    fired,
    output logic [15:0] word,
    output logic    compressed,
    output logic [127:0] bitmask,
    output logic [7:0] number,
    output logic [127:0][15:0] packed_words,
    output logic    asks,
    output count_t  row,
    output count_t  first_line,
    output count_t  lines,
    output count_t  bytes,
    input  logic    answered,
    output logic    idle
);
    // The next of the rows that the element has.
    function automatic place_t next_own(place_t place);
        place_t next = place;
        next.passed = place.passed + 16'd1;
        if (next.passed == layer.passes) begin
            next = next_step(place, layer);
            if (!next.done && next.group * layer.pes + me >= layer.rows) begin
                next = next_column(next, layer);
                if (next.group * layer.pes + me >= layer.rows) next.done = 1'b1;
            end
        end
        return next;
    endfunction
    place_t place, leaving;  // of the sum that is taken, and of the word that fires
    logic serial, last_pass, last_neuron, ends_group, booked, finishing, behind_sum;
    assign serial      = layer.passes != 16'd1;
    assign last_pass   = place.passed + 16'd1 == layer.passes;
    assign last_neuron = last_pass && place.column + 16'd1 == layer.columns;
    assign ends_group  = last_pass && (place.column[6:0] == 7'd127 || last_neuron);
    neuron_booking booking(
        .clk, .rst, .take(taken), .ends_group, .place(place.column[6:0]), .interval(layer.interval[11:0]),
        .latency(layer.latency[11:0]), .chunk_cycles(layer.chunk_cycles[11:0]), .ready(booked)
    );

    // All timesteps at once, or one with each sum.
    logic all_fired, step_fired, one_fired;
    logic [15:0] all_word, collected, now_collected;
    logic [6:0] step_left;
    logic signed [63:0] potential, behind;
    neuron_unit unit(
        .clk, .rst, .take(taken && !serial), .sums, .bias('0), .threshold(32'(layer.threshold)),
        .timesteps(layer.timesteps[4:0]), .fraction_bits(layer.fraction_bits[5:0]), .leak_shift(layer.leak_shift[5:0]),
        .leak_subtracts(1'b0), .reset(3'd0), .at_threshold(1'b0), .cycles(7'd1), .latency(layer.latency[7:0]),
        .serial(1'b0), .done(all_fired), .word(all_word)
    );
    neuron_step step(
        .potential(place.passed == '0 ? '0 : potential), .arriving(64'(signed'(sums[0])) <<< layer.fraction_bits),
        .limit(64'(layer.threshold) <<< layer.fraction_bits), .leak_shift(layer.leak_shift[5:0]), .leak_subtracts(1'b0),
        .reset(3'd0), .at_threshold(1'b0), .fired(one_fired), .behind
    );
    always_comb begin
        now_collected = place.passed == '0 ? '0 : collected;
        now_collected[place.passed[3:0]] = one_fired;
    end
    assign step_fired = step_left == 7'd1;
    assign fired      = all_fired || step_fired;
    assign word       = serial ? collected : all_word;

    // Words wait for those of their group, row by row.
    logic [127:0][15:0] waiting[TILE];
    logic [127:0][15:0] group_words;
    count_t held_group, held_row;
    logic [7:0] held_neurons, now_neurons;
    logic holds, fills, begins, working, last_held, last_now, last_packed;
    count_t active[TILE], group_in_tile, now_group, packed_group, all_active;
    assign group_in_tile = leaving.group - leaving.first;
    assign fills       = fired && (leaving.column[6:0] == 7'd127 || leaving.column + 16'd1 == layer.columns);
    assign begins      = (fills || holds) && !working;
    assign now_group   = holds ? held_group : group_in_tile;
    assign now_neurons = holds ? held_neurons : 8'(leaving.column[6:0]) + 8'd1;
    assign last_now    = holds ? last_held : leaving.column + 16'd1 == layer.columns;
    always_comb begin
        group_words = waiting[now_group[1:0]];
        if (!holds) group_words[leaving.column[6:0]] = word;
    end
    word_packer packer(
        .clk, .rst, .begins, .group(group_words), .neurons(now_neurons), .chunk_cycles(layer.chunk_cycles[11:0]),
        .mask_fire_once(1'b0), .working, .done(compressed), .bitmask, .number, .packed_words
    );

    // A row that is complete is written, up to `LINES` lines at once.
    logic writing, write_begins;
    count_t row_lines, now_left, left;
    assign all_active   = active[packed_group[1:0]] + 16'(number);
    assign bytes        = layer.row_bytes + (layer.mode == 16'd4 ? '0 : (all_active * layer.timesteps + 16'd7) >> 3);
    assign row_lines    = lines_of(bytes, layer);
    assign write_begins = compressed && last_packed;
    assign asks         = write_begins || writing && answered && left != '0;
    assign now_left     = write_begins ? row_lines : left;
    assign lines        = least(16'(LINES), now_left);
    assign first_line   = row_lines - now_left;
    assign ready        = booked && (!finishing || writing && answered && left == '0);
    assign released     = behind_sum && (finishing ? write_begins : booked);
    assign idle         = place.done && ready || me >= layer.pes;
    always_ff @(posedge clk)
        if (rst) begin
            {place, leaving, finishing, behind_sum, step_left, holds, writing} <= '0;
            active <= '{default: '0};
        end else begin
            if (taken) begin
                place     <= next_own(place);
                collected <= now_collected;
                potential <= behind;
            end
            step_left  <= taken && serial && last_pass ? layer.latency[6:0] : step_left - 7'(step_left != '0);
            behind_sum <= taken || behind_sum && !released;
            if (taken) finishing <= last_neuron;
            else if (ready) finishing <= 1'b0;
            if (fired) begin
                waiting[group_in_tile[1:0]][leaving.column[6:0]] <= word;
                leaving <= next_own('{leaving.done, leaving.first, leaving.column, leaving.group, layer.passes - 16'd1,
                    leaving.chunk});
            end
            holds <= (fills || holds) && !begins;
            if (fills) {held_group, held_row, held_neurons, last_held} <= {
                group_in_tile, leaving.group * layer.pes + me, now_neurons, last_now};
            if (begins) begin
                {packed_group, last_packed} <= {now_group, last_now};
                row <= holds ? held_row : leaving.group * layer.pes + me;
            end
            // It stays as it is while its row is written.
            if (compressed && !last_packed) active[packed_group[1:0]] <= all_active;
            if (writing && answered && left == '0) active[packed_group[1:0]] <= '0;
            if (asks) begin
                left    <= now_left - lines;
                writing <= 1'b1;
            end else if (answered) writing <= 1'b0;
        end
endmodule

// Brings every `slots`-th fiber of B into its slot of the cache, when the broadcaster is done with the one before.
module fiber_fetcher
    import inner_product_types::*;
(
    input  count_t me,
    input  logic   clk,
    input  logic   rst,
    input  layer_t layer,
    input  logic   go,
    input  logic   credit,
    output place_t visit,    // that it fetches, or fetches next
    input  count_t all_lines,
    output logic   takes_turn,
    output logic   asks,
    output count_t first_line,
    output count_t lines,
    input  logic   answered,
    output logic   fetched,
    output logic   idle
);
    logic started, busy, free, exists, level;
    place_t held;
    count_t left, now_left;
    assign exists     = me < layer.slots;
    assign fetched    = busy && answered && left == '0;
    always_comb begin
        visit = held;
        for (int i = 0; i < SLOTS; i++)
            if (16'(i) < (go ? me : fetched ? layer.slots : '0) && !visit.done) begin
                if (layer.refetch == '0) visit.group = tile_end(visit, layer) - 16'd1;
                visit = next_step(visit, layer);
            end
    end
    assign takes_turn = (go || started) && exists && (!busy || fetched) && !visit.done && (free || level || credit);
    assign asks       = takes_turn || busy && answered && left != '0;
    assign idle       = !exists || (go || started) && visit.done && (!busy || fetched);
    assign now_left   = takes_turn ? all_lines : left;
    assign lines      = least(16'(LINES), now_left);
    assign first_line = all_lines - now_left;
    always_ff @(posedge clk)
        if (rst) begin
            {started, busy, level, held} <= '0;
            free <= me < layer.free_slots;
        end else begin
            started <= started || go;
            held    <= visit;
            busy    <= asks || busy && !answered;
            level   <= (level || credit) && !(takes_turn && !free);
            if (takes_turn) free <= 1'b0;
            if (asks) left <= now_left - lines;
        end
endmodule

// Reads the chunks of a fiber of B, those of a line of bitmask at once, when it is there, and sends them to all elements
// when there is room.
module broadcaster
    import inner_product_types::*;
(
    input  logic   clk,
    input  logic   rst,
    input  layer_t layer,
    input  logic   go,
    input  logic [SLOTS-1:0] fetched,
    input  logic   room,       // for `number` chunks
    output count_t number,
    output logic   asks,
    output place_t asked,
    output count_t asked_number,
    input  logic   answered,
    output logic   sends,
    output place_t place,      // of the chunks that it reads or sends
    output logic [SLOTS-1:0] credits,
    output logic   idle
);
    logic started, reading, has, fresh, there;
    logic [SLOTS-1:0] level;
    logic [1:0] slot, next_slot;
    place_t following;
    count_t at_once;
    assign at_once   = 16'd1 << (layer.line_shift - 16'd4);
    assign number    = least(at_once, chunks_of(layer) - place.chunk);
    assign sends     = (reading && answered || has) && room;
    assign following = next_chunk(place, number, layer);
    logic ends_step, ends_visit;
    assign ends_step  = sends && following.chunk == '0 && following.passed == '0;
    assign ends_visit = ends_step && (layer.refetch != '0 || following.group == following.first);
    function automatic logic [1:0] behind_slot(logic [1:0] from);
        return 16'(from) + 16'd1 == layer.slots ? 2'd0 : from + 2'd1;
    endfunction
    assign next_slot = ends_visit ? behind_slot(slot) : slot;
    assign credits   = ends_visit ? 4'd1 << (layer.late != '0 ? behind_slot(slot) : slot) : '0;

    assign asked        = sends ? following : place;
    assign asked_number = least(at_once, chunks_of(layer) - asked.chunk);
    assign fresh = asked.passed == '0 && asked.chunk == '0 && (layer.refetch != '0 || asked.group == asked.first);
    assign there = level[next_slot] || fetched[next_slot];
    assign asks  = (go || started) && (sends || !reading && !has) && !asked.done && (!fresh || there);
    assign idle  = started && (place.done || sends && following.done);
    always_ff @(posedge clk)
        if (rst) {started, reading, has, level, slot, place} <= '0;
        else begin
            started <= started || go;
            reading <= asks || reading && !answered;
            has     <= (reading && answered || has) && !sends;
            level   <= level | fetched;
            if (asks && fresh) level[next_slot] <= 1'b0;
            slot    <= next_slot;
            if (sends) place <= following;
        end
endmodule

// Brings rows into the cache, `row_groups` groups ahead of the one in use.
module row_fetcher
    import inner_product_types::*;
(
    input  logic   clk,
    input  logic   rst,
    input  layer_t layer,
    input  logic   go,
    input  logic   begun,
    output count_t group,
    output count_t first,      // group of its tile
    input  count_t all_lines,  // of the rows of the group
    output logic   takes_turn,
    output logic   asks,
    output count_t first_line,
    output count_t lines,
    input  logic   answered,
    output logic   idle
);
    logic started, busy, through, has_credit;
    count_t level, left, now_left, now_group;
    assign through    = busy && answered && left == '0;
    assign group      = now_group;
    count_t held_group, held_first;
    assign first      = now_group == held_first + layer.tile ? now_group : held_first;
    assign now_group  = through ? held_group + 16'd1 : held_group;
    assign has_credit = now_group <= layer.row_groups || level != '0 || begun;
    assign takes_turn = (go || started) && layer.row_groups != '0 && (!busy || through) && now_group < layer.groups
        && has_credit;
    assign asks       = takes_turn || busy && answered && left != '0;
    assign now_left   = takes_turn ? all_lines : left;
    assign lines      = least(16'(LINES), now_left);
    assign first_line = all_lines - now_left;
    assign idle       = layer.row_groups == '0 || started && now_group == layer.groups;
    always_ff @(posedge clk)
        if (rst) {started, busy, level, held_group, held_first} <= '0;
        else begin
            started <= started || go;
            busy    <= asks || busy && !answered;
            held_group <= now_group;
            held_first <= first;
            level   <= level + 16'(begun) - 16'(takes_turn && now_group > layer.row_groups);
            if (asks) left <= now_left - lines;
        end
endmodule

// Asks for all lines that ranges of bytes of some fibers touch, one behind the other.
module range_port
    import inner_product_types::*, cache_types::wanted_t, cache_types::mode_t, cache_types::PREFETCH;
#(
    parameter int RANGES = 1
) (
    input  logic   clk,
    input  logic   rst,
    input  layer_t layer,
    input  logic   ideal,
    input  mode_t  mode,
    input  logic   begins,
    input  range_t ranges[RANGES],
    output logic   asks,
    output logic [3:0] place,
    output wanted_t wants,
    input  logic [LINES-1:0] done,
    output logic   ended,
    output logic [RANGES-1:0] range_ended
);
    range_t held[RANGES], now[RANGES];
    count_t counts[RANGES];
    logic [7:0] all;
    logic [LINES-1:0] of_range[RANGES], left[RANGES], now_left[RANGES];
    always_comb begin
        all = '0;
        for (int r = 0; r < RANGES; r++) begin
            now[r] = begins ? ranges[r] : held[r];
            counts[r] = now[r].first < now[r].behind
                ? ((now[r].behind - 16'd1) >> layer.line_shift) - (now[r].first >> layer.line_shift) + 16'd1 : '0;
            of_range[r] = 16'((32'd1 << (all + counts[r][7:0])) - (32'd1 << all));
            all = all + counts[r][7:0];
        end
    end
    memory_port #(.PLACES(LINES)) port(
        .clk, .rst, .ideal, .begins, .count(all), .asks, .place, .done, .ended
    );
    count_t number, index, from, to;
    always_comb begin
        {number, index, from, to} = '0;
        wants = '0;
        number = 16'(place);
        for (int r = 0; r < RANGES; r++) begin
            if (number < counts[r] && of_range[r][place]) begin
                index = (now[r].first >> layer.line_shift) + number;
                from  = number == '0 ? now[r].first : index << layer.line_shift;
                to    = least(now[r].behind, (index + 16'd1) << layer.line_shift);
                wants.line  = now[r].line + index * now[r].stride;
                wants.beats = mode == PREFETCH ? 8'd1
                    : 8'((to - from + (16'd1 << layer.beat_shift) - 16'd1) >> layer.beat_shift);
                wants.mode  = mode;
                wants.epoch = now[r].epoch;
            end
            number = number - counts[r];
        end
    end
    for (genvar r = 0; r < RANGES; r++) begin : all_ranges
        assign now_left[r]    = ideal && ended ? '0 : left[r] & ~done;
        assign range_ended[r] = left[r] != '0 && now_left[r] == '0;
        always_ff @(posedge clk) left[r] <= rst ? '0 : begins ? of_range[r] : now_left[r];
    end
    always_ff @(posedge clk) held <= now;
endmodule
