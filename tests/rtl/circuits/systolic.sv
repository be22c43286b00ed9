// A machine around a systolic array with any of its operands stationary: lanes of a DMA that bring operands into the
// cache, feeders of the edges, the array, adders and neuron units at its columns, a writer, a reader of partial sums.

package systolic_types;
    import memory_types::*, cache_types::*;
    localparam int R = 2, C = 2;
    localparam int STEPS = 4;   // most of a load
    localparam int LOADS = 4;   // most operand buffers of an edge
    localparam int DONE_BLOCKS = 16, LEFT_ROWS = 64;  // blocks that are through, and rows of sums that have left the array
    localparam int POSITIONS = 16, NEURONS = 64, ROW_BITS = 160;
    localparam int LINE_BITS = 128, LINE_SHIFT = 4;
    localparam int LANES = 4;   // most of a DMA at an edge
    localparam int PLACES = 8;  // most requests of an operation
    localparam int PORTS = 2 * LANES + 4;
    // Ports, in the order of arbitration.
    localparam int WEST = 0, NORTH = 1, WEST_LANES = 2, NORTH_LANES = 2 + LANES, WRITER = 2 + 2 * LANES, READER = WRITER + 1;
    localparam logic [4:0] WHOLE_LINE = 5'(LINE_SHIFT);
    typedef logic [31:0] count_t;
    localparam count_t OUTPUT = 0, WEIGHT = 1;  // which operand is stationary; else the input
    typedef struct packed {
        count_t dataflow;
        count_t inputs, neurons, positions, timesteps;
        count_t group, span;  // positions, and timesteps of each, that stand in the columns together
        count_t tile;         // positions whose inputs stay in the cache
        count_t load_steps, loads, blocks;
        count_t stays;        // 1: what enters at the west stays in the cache, where another operand is stationary
        count_t folds, parts; // in all; of the neurons
        count_t north_line, sums_line, output_line;  // what enters at the west is from line 0 on
        count_t sums_lines, sums_epoch, sum_bytes;   // of a block; of a sum
        count_t row_bytes, burst, beat_shift;
        count_t lanes, share, ahead;                 // of a DMA; folds that it may be ahead
        count_t threshold, fraction_bits, leak_shift, neuron_cycles;
    } layer_t;
    localparam int LAYER_WORDS = 30;

    function automatic count_t least(count_t a, count_t b);
        return a < b ? a : b;
    endfunction

    // --- Folds: which positions, timesteps, neurons and inputs, from the first one on; `tile` is the first position of its tile.
    typedef struct packed {
        logic   done;  // there are no more
        count_t tile, neuron, position, timestep, first_input;
    } fold_t;
    function automatic fold_t next_fold(fold_t fold, layer_t layer);
        fold_t next = fold;
        if (layer.dataflow != OUTPUT) begin
            next.first_input = fold.first_input + R;
            if (next.first_input < layer.inputs) return next;
            next.first_input = '0;
        end
        if (layer.dataflow == WEIGHT) begin
            next.neuron = fold.neuron + C;
            next.done   = next.neuron >= layer.neurons;
            return next;
        end
        next.timestep = fold.timestep + layer.span;
        if (next.timestep < layer.timesteps) return next;
        next.timestep = '0;
        next.position = fold.position + layer.group;
        if (layer.dataflow != OUTPUT) begin
            next.done = next.position >= layer.positions;
            return next;
        end
        if (next.position < least(fold.tile + layer.tile, layer.positions)) return next;
        next.position = fold.tile;
        next.neuron   = fold.neuron + R;
        if (next.neuron < layer.neurons) return next;
        next.neuron   = '0;
        next.tile     = fold.tile + layer.tile;
        next.position = next.tile;
        next.done     = next.tile >= layer.positions;
        return next;
    endfunction
    function automatic count_t positions_of(fold_t fold, layer_t layer);
        return least(layer.group, layer.positions - fold.position);
    endfunction
    function automatic count_t timesteps_of(fold_t fold, layer_t layer);
        return least(layer.span, layer.timesteps - fold.timestep);
    endfunction
    function automatic count_t rows_of(fold_t fold, layer_t layer);
        return layer.dataflow == OUTPUT ? least(R, layer.neurons - fold.neuron) : least(R, layer.inputs - fold.first_input);
    endfunction
    function automatic count_t columns_of(fold_t fold, layer_t layer);
        return layer.dataflow == WEIGHT ? least(C, layer.neurons - fold.neuron)
            : 32'(positions_of(fold, layer) * timesteps_of(fold, layer));
    endfunction
    function automatic count_t steps_of(fold_t fold, layer_t layer);  // that are streamed
        return layer.dataflow == OUTPUT ? layer.inputs
            : layer.dataflow == WEIGHT ? 32'(layer.positions * layer.timesteps) : layer.neurons;
    endfunction
    function automatic logic ends_sums(fold_t fold, layer_t layer);  // of all inputs
        return layer.dataflow == OUTPUT || fold.first_input + R >= layer.inputs;
    endfunction
    function automatic logic goes_on(fold_t fold, layer_t layer);  // with sums of the fold before
        return layer.dataflow != OUTPUT && fold.first_input != '0;
    endfunction

    // --- Operands: what of an edge's tensor enters in a fold ---------------------------------------------------------
    typedef struct packed {
        fold_t  fold;
        count_t number, epoch;
        count_t at;             // first bit
        count_t begin_of_tile;
    } operand_t;
    function automatic count_t bits_of(operand_t operand, layer_t layer, logic west);  // of a step
        if (west) return rows_of(operand.fold, layer) << (layer.dataflow == WEIGHT ? 0 : 3);
        return columns_of(operand.fold, layer) << (layer.dataflow == WEIGHT ? 3 : 0);
    endfunction
    function automatic count_t steps_at(operand_t operand, layer_t layer, logic west);
        return west || layer.dataflow == OUTPUT ? steps_of(operand.fold, layer) : rows_of(operand.fold, layer);
    endfunction
    function automatic count_t behind_of(operand_t operand, layer_t layer, logic west);
        return operand.at + steps_at(operand, layer, west) * bits_of(operand, layer, west);
    endfunction
    function automatic operand_t first_operand(layer_t layer, logic west);
        operand_t first = '0;
        if (!west) first.at = layer.north_line << (LINE_SHIFT + 3);
        first.begin_of_tile = first.at;
        first.epoch = layer.dataflow == OUTPUT ? west ? '0 : layer.parts - 32'd1 : west && layer.stays[0] ? layer.folds : '0;
        return first;
    endfunction
    function automatic operand_t next_operand(operand_t operand, layer_t layer, logic west);
        operand_t next = operand;
        count_t behind = (behind_of(operand, layer, west) + 32'd7) & ~32'd7;
        next.fold   = next_fold(operand.fold, layer);
        next.number = operand.number + 32'd1;
        next.at     = behind;
        if (layer.dataflow != OUTPUT) begin
            if (west && next.fold.first_input == '0) next.at = '0;
            if (!(west && layer.stays[0])) next.epoch = next.number;
        end else if (west) begin
            if (next.fold.tile != operand.fold.tile) next.at = '0;
            else if (next.fold.neuron == operand.fold.neuron) next.at = operand.at;
            if (next.fold.tile != operand.fold.tile || next.fold.neuron != operand.fold.neuron) next.epoch = operand.epoch + 32'd1;
        end else begin
            if (next.fold.tile != operand.fold.tile) begin
                next.begin_of_tile = behind;
                next.epoch = operand.epoch + layer.parts;
            end else if (next.fold.neuron != operand.fold.neuron) next.at = operand.begin_of_tile;
        end
        return next;
    endfunction
    // Whether it was not asked for before.
    function automatic logic is_new(operand_t operand, layer_t layer, logic west);
        if (layer.dataflow != OUTPUT)
            return !west || !layer.stays[0] || (operand.fold.neuron | operand.fold.position | operand.fold.timestep) == '0;
        return west ? operand.fold.position == operand.fold.tile && operand.fold.timestep == '0 : operand.fold.neuron == '0;
    endfunction

    // The one behind a new one that is new too.
    function automatic operand_t next_new(operand_t operand, layer_t layer, logic west);
        operand_t next = next_operand(operand, layer, west);
        logic all_neurons = !west || operand.fold.neuron + R >= layer.neurons;
        if (layer.dataflow != OUTPUT) begin
            if (west && layer.stays[0] && next.fold.first_input == '0) next.fold.done = 1'b1;
            return next;
        end
        if (!west && (next.fold.tile != operand.fold.tile || next.fold.neuron == '0)) return next;
        next.fold = operand.fold;
        next.fold.neuron = all_neurons ? '0 : operand.fold.neuron + R;
        if (all_neurons) next.fold.tile = operand.fold.tile + layer.tile;
        next.fold.position = next.fold.tile;
        next.fold.timestep = '0;
        next.fold.done     = next.fold.tile >= layer.positions;
        next.at    = (behind_of(operand, layer, west) + 32'd7) & ~32'd7;
        next.epoch = operand.epoch + (west ? 32'd1 : layer.parts);
        if (west && all_neurons) next.at = '0;
        if (!west) next.begin_of_tile = next.at;
        return next;
    endfunction

    localparam int OPERANDS = 512;  // new ones, at most
    typedef struct packed {
        line_t  first, behind;
        epoch_t epoch;
    } descriptor_t;

    // What enters at an edge in the steps of a load; of a stationary operand, the last of R rows is the first row's.
    typedef struct packed {
        logic [2:0] steps;
        logic       last;  // of the fold
        logic [STEPS-1:0][1:0][7:0] operand;
    } load_t;

    // --- Blocks: sums, or what has fired, of some steps; a row of the array for each where the output is stationary ----
    typedef logic [STEPS-1:0][C-1:0][31:0] block_t;
endpackage

// Reads the loads of an edge, one behind the other, as soon as there is an operand buffer for them, and keeps them until
// the array takes them. Operands lie in memory fold by fold and step by step, and begin at whole bytes. It tells the lanes
// of its DMA which operands they may fetch.
module edge_feeder
    import systolic_types::*, cache_types::*;
#(
    parameter logic AT_WEST = 1'b1
) (
    input  logic    clk,
    input  logic    rst,
    input  layer_t  layer,
    input  logic    ideal,
    input  logic    go,
    input  logic    freed,      // an operand buffer
    output count_t  announced,  // operands that may be fetched
    output logic    asks,
    output logic [$clog2(PLACES)-1:0] place,
    output wanted_t wants,
    input  logic [PLACES-1:0] done,
    output count_t  line,       // of the load that is on its way
    input  logic [2*LINE_BITS-1:0] lines,
    output logic    answered,
    output logic    valid,
    output load_t   load,
    input  logic    taken,
    output logic    idle        // behind its last load
);
    // The next load.
    operand_t operand, following;
    count_t step, steps, bits, at, all_steps;
    logic last, stationary;
    assign stationary = !AT_WEST && layer.dataflow != OUTPUT;
    assign following  = next_operand(operand, layer, AT_WEST);
    assign bits       = bits_of(operand, layer, AT_WEST);
    assign all_steps  = steps_at(operand, layer, AT_WEST);
    assign steps      = stationary ? all_steps : least(layer.load_steps, all_steps - step);
    assign last       = step + steps == all_steps;
    assign at         = operand.at + step * bits;

    logic started, busy, begins, ahead, told;
    count_t free, held_announced;
    assign begins    = (go || started) && !operand.fold.done && (!busy || answered) && free + 32'(freed) != '0;
    assign idle      = operand.fold.done && (!busy || answered);
    // It goes on to a new operand as soon as it has the last load before.
    assign ahead     = !told && (!busy || answered) && !operand.fold.done && is_new(operand, layer, AT_WEST);
    assign announced = held_announced + (go ? layer.ahead : '0) + 32'((go || started) && ahead);
    always_ff @(posedge clk) begin
        if (rst) begin
            {started, busy, step, told, held_announced} <= '0;
            free    <= layer.loads;
            operand <= first_operand(layer, AT_WEST);
        end else begin
            started <= started || go;
            busy    <= begins || (busy && !answered);
            free    <= free + 32'(freed) - 32'(begins);
            held_announced <= announced;
            if ((go || started) && ahead) told <= 1'b1;
            if (begins) begin
                step <= last ? '0 : step + steps;
                if (last) begin
                    operand <= following;
                    told    <= 1'b0;
                end
            end
        end
    end

    // The load that is on its way.
    count_t held_at, held_behind, held_bits, first_byte, byte_behind;
    epoch_t held_epoch, epoch;
    load_t held, coming;
    logic held_stationary;
    logic [2*LINE_BITS-1:0] from_first;
    logic [7:0] count;
    assign first_byte  = (begins ? at : held_at) >> 3;
    assign byte_behind = ((begins ? at + steps * bits : held_behind) + 32'd7) >> 3;
    assign epoch       = begins ? 16'(operand.epoch) : held_epoch;
    memory_port #(.PLACES(PLACES)) port(.clk, .rst, .ideal, .begins, .count, .asks, .place, .done, .ended(answered));
    lines_of_bytes range(
        .base('0), .first(first_byte), .behind(byte_behind), .line_shift(WHOLE_LINE), .beat_shift(layer.beat_shift[4:0]),
        .place(8'(place)), .line(wants.line), .beats(wants.beats), .count
    );
    assign {wants.mode, wants.epoch} = {CACHED_READ, epoch};
    assign line       = held_at >> $clog2(LINE_BITS);
    assign from_first = lines >> held_at[$clog2(LINE_BITS)-1:0];
    always_ff @(posedge clk)
        if (begins) begin
            {held_at, held_behind, held_bits, held_epoch} <= {at, at + steps * bits, bits, epoch};
            held <= {3'(steps), last, {$bits(held.operand){1'b0}}};
            held_stationary <= stationary;
        end
    logic bytes;
    assign bytes = AT_WEST ? layer.dataflow != WEIGHT : layer.dataflow == WEIGHT;
    always_comb begin
        coming = held;
        // Rows that there are not come first.
        if (held_stationary) coming.steps = 3'(R);
        for (int k = 0; k < STEPS; k++)
            for (int i = 0; i < 2; i++)
                if (k < 32'(held.steps) && i < (bytes ? held_bits >> 3 : held_bits))
                    coming.operand[held_stationary ? k + R - 32'(held.steps) : k][i] =
                        bytes ? from_first[8'(k * held_bits + 8 * i) +: 8] : 8'(from_first[8'(k * held_bits + i)]);
    end

    // Operand buffers that are filled.
    load_t filled[LOADS];
    logic [1:0] read_at, write_at;
    logic [2:0] level;
    assign valid = level != '0 || answered;
    assign load  = level != '0 ? filled[read_at] : coming;
    always_ff @(posedge clk)
        if (rst) {read_at, write_at, level} <= '0;
        else begin
            if (answered) begin
                filled[write_at] <= coming;
                write_at <= write_at + 2'd1;
            end
            read_at <= read_at + 2'(taken);
            level   <= level + 3'(answered) - 3'(taken);
        end
endmodule

// Descriptors of an edge's DMA, one for each new operand, written one a cycle before the start.
module dma_descriptors
    import systolic_types::*, cache_types::*;
#(
    parameter logic AT_WEST = 1'b1
) (
    input  logic        clk,
    input  logic        rst,
    input  layer_t      layer,
    output descriptor_t descriptors[OPERANDS],
    output count_t      number
);
    operand_t operand;
    descriptor_t found;
    assign found.first  = 16'(operand.at >> (LINE_SHIFT + 3));
    assign found.behind = 16'((((behind_of(operand, layer, AT_WEST) + 32'd7) >> 3) + 32'((1 << LINE_SHIFT) - 1)) >> LINE_SHIFT);
    assign found.epoch  = 16'(operand.epoch);
    always_ff @(posedge clk)
        if (rst) begin
            operand <= first_operand(layer, AT_WEST);
            number  <= '0;
        end else if (!operand.fold.done) begin
            descriptors[9'(number)] <= found;
            number  <= number + 32'd1;
            operand <= next_new(operand, layer, AT_WEST);
        end
endmodule

// A lane of an edge's DMA. Shares of a few lines, those of all operands one behind the other, go to the lanes in turn. A
// lane asks for its next share when it has the one before and the operand was announced.
module dma_lane
    import systolic_types::*, cache_types::*;
#(
    parameter int NUMBER = 0
) (
    input  logic    clk,
    input  logic    rst,
    input  layer_t  layer,
    input  logic    ideal,
    input  logic    go,
    input  descriptor_t descriptors[OPERANDS],
    input  count_t  number,     // of them
    input  count_t  announced,
    output logic    asks,
    output logic [$clog2(PLACES)-1:0] place,
    output wanted_t wants,
    input  logic [PLACES-1:0] done,
    output logic    ended,      // a share
    output logic    idle
);
    typedef struct packed {
        count_t seen;          // operands
        count_t turn;          // the lane that has the next one's first share
        count_t line, behind;  // of the last one's
        epoch_t epoch;
    } state_t;
    state_t state, now;
    logic started, busy, free, built;
    count_t shares;
    descriptor_t next;
    always_comb begin
        now = state;
        next = '0;
        shares = '0;
        // On to the next operand of which it has a share; it has one of each `lanes` shares.
        if (free)
            for (int i = 0; i < LANES; i++)
                if (now.line >= now.behind && now.seen < number && now.seen < announced) begin
                    next       = descriptors[9'(now.seen)];
                    shares     = (32'(next.behind) - 32'(next.first) + layer.share - 32'd1) / layer.share;
                    now.line   = 32'(next.first) + (NUMBER + layer.lanes - now.turn) % layer.lanes * layer.share;
                    now.behind = 32'(next.behind);
                    now.epoch  = next.epoch;
                    now.turn   = (now.turn + shares) % layer.lanes;
                    now.seen   = now.seen + 32'd1;
                end
    end
    logic begins;
    logic [7:0] count;
    count_t base;
    assign built  = 32'(NUMBER) < layer.lanes && layer.ahead != '0;
    assign free   = (go || started) && (!busy || ended) && built;
    assign begins = free && now.line < now.behind;
    assign count  = 8'(least(layer.share, now.behind - now.line));
    assign idle   = !built || free && now.seen == number && now.line >= now.behind;
    memory_port #(.PLACES(PLACES)) port(.clk, .rst, .ideal, .begins, .count, .asks, .place, .done, .ended);
    assign wants = '{line_t'((begins ? now.line : base) + 32'(place)), 8'd1, PREFETCH, begins ? now.epoch : state.epoch};
    always_ff @(posedge clk)
        if (rst) {started, busy, state} <= '0;
        else begin
            started <= started || go;
            busy    <= begins || busy && !ended;
            state   <= now;
            if (begins) begin
                base <= now.line;
                state.line <= now.line + layer.lanes * layer.share;
            end
        end
endmodule

// At the columns' ends: rows of sums leave, the last column's sum last. Partial sums are added to a row, and neurons fire,
// `neuron_cycles` for each row. Columns of a position are its timesteps, so a potential goes from column to column, and to
// timesteps of a later fold through a register; or steps are timesteps, and it stays in the column.
module column_ends
    import systolic_types::*;
(
    input  logic   clk,
    input  logic   rst,
    input  layer_t layer,
    input  logic [C-1:0] leaving,
    input  logic [C-1:0][31:0] sums,
    input  count_t read_blocks,   // partial sums that are there, in all
    output count_t added,         // blocks that partial sums were added to, in all
    input  block_t psums,         // of the next
    output logic   block_ends,    // in this cycle
    output count_t blocks,        // that were through before, in all; the last of them are here
    output block_t block[DONE_BLOCKS]
);
    // Rows that have left.
    logic [C-1:0][31:0] kept_rows[LEFT_ROWS];
    logic [C-1:0][$clog2(LEFT_ROWS)-1:0] write_at;
    logic [$clog2(LEFT_ROWS)-1:0] read_at;
    logic [C-1:0][31:0] row;
    always_comb
        for (int j = 0; j < C; j++)
            row[j] = write_at[j] == read_at ? sums[j] : kept_rows[read_at][j];
    always_ff @(posedge clk) begin
        for (int j = 0; j < C; j++)
            if (leaving[j]) begin
                kept_rows[write_at[j]][j] <= sums[j];
                write_at[j] <= write_at[j] + 1'b1;
            end
        if (rst) write_at <= '0;
    end

    fold_t fold;
    count_t step, number, rows;  // of the fold; of the block
    logic takes, fires, adds, last_row, last_block;
    count_t busy;
    assign rows       = layer.dataflow == OUTPUT ? R : least(layer.load_steps, steps_of(fold, layer) - step);
    assign fires      = ends_sums(fold, layer);
    assign adds       = goes_on(fold, layer);
    assign takes      = (write_at[C-1] != read_at || leaving[C-1]) && busy == '0 && (!adds || read_blocks > added) && !fold.done;
    assign last_row   = number + 32'd1 == rows;
    assign last_block = layer.dataflow == OUTPUT || step + rows == steps_of(fold, layer);
    logic [1:0] place;  // in the block
    assign place = layer.dataflow == OUTPUT ? 2'(R - 1 - number) : 2'(number);

    logic signed [63:0] kept[NEURONS][C];  // by position
    logic signed [63:0] after[C];
    logic [C-1:0] fired, begins, ends;
    logic [C-1:0][$clog2(C)-1:0] position;
    logic [C-1:0][31:0] total;
    logic [$clog2(NEURONS)-1:0] neuron;
    count_t timestep, others;
    assign neuron = $clog2(NEURONS)'(layer.dataflow == OUTPUT ? 32'(place) : step + number);
    always_comb begin
        {timestep, others} = '0;
        for (int j = 0; j < C; j++) begin
            total[j]    = row[j] + (adds ? psums[place][j] : '0);
            position[j] = $clog2(C)'(others);
            begins[j]   = timestep == '0;
            timestep    = timestep + 32'd1;
            ends[j]     = timestep == timesteps_of(fold, layer);
            if (ends[j]) {timestep, others} = {32'd0, others + 32'd1};
        end
    end
    for (genvar j = 0; j < C; j++) begin : columns
        logic signed [63:0] first, potential, behind;
        always_comb begin
            first = fold.timestep == '0 ? '0 : kept[neuron][position[j]];
            if (layer.dataflow == WEIGHT) first = (step + number) % layer.timesteps == '0 ? '0 : kept[0][j];
        end
        if (j == 0) assign potential = first;
        else assign potential = begins[j] || layer.dataflow == WEIGHT ? first : columns[j-1].behind;
        assign after[j] = behind;
        neuron_step unit(
            .potential, .arriving(64'(signed'(total[j])) <<< layer.fraction_bits),
            .limit(64'(signed'(layer.threshold)) <<< layer.fraction_bits), .leak_shift(layer.leak_shift[5:0]),
            .leak_subtracts(1'b0), .reset(3'd0), .at_threshold(1'b0), .fired(fired[j]), .behind
        );
    end
    // A row is through when its neurons have fired.
    logic through;
    assign through    = takes && (!fires || layer.neuron_cycles == 32'd1) || busy == 32'd1;
    assign block_ends = through && (busy == 32'd1 ? number == '0 : last_row);
    always_ff @(posedge clk)
        if (rst) {fold, step, number, read_at, busy, blocks, added} <= '0;
        else begin
            if (busy != '0) busy <= busy - 32'd1;
            else if (takes && fires) busy <= layer.neuron_cycles - 32'd1;
            if (takes) begin
                read_at <= read_at + 1'b1;
                number  <= last_row ? '0 : number + 32'd1;
                for (int j = 0; j < C; j++) begin
                    block[4'(blocks)][place][j] <= fires ? 32'(fired[j]) : total[j];
                    if (layer.dataflow == WEIGHT) begin
                        if (fires) kept[0][j] <= after[j];
                    end else if (fires && ends[j]) kept[neuron][position[j]] <= after[j];
                end
                if (last_row) begin
                    added <= added + 32'(adds);
                    step <= last_block ? '0 : step + rows;
                    if (last_block) fold <= next_fold(fold, layer);
                end
            end
            blocks <= blocks + 32'(block_ends);
        end
endmodule

// Takes blocks, waits until they are through at the columns' ends, puts their spikes into rows of the output and writes
// rows that are complete, or partial sums into the cache.
module row_writer
    import systolic_types::*, cache_types::*;
(
    input  logic   clk,
    input  logic   rst,
    input  layer_t layer,
    input  logic   ideal,
    input  logic   waits,        // a block
    output logic   takes,
    input  logic   psums_wait,   // partial sums, for a block that they are added to
    output logic   takes_psums,
    input  count_t blocks,       // that are through
    output count_t taken,        // in all
    input  block_t block,        // the one before the next
    output logic   fired,
    output logic   asks,
    output logic [$clog2(PLACES)-1:0] place,
    output wanted_t wants,
    input  logic [PLACES-1:0] done,
    output logic   kept,         // partial sums: those of block `kept_block` of the fold, since the cycle before
    output count_t kept_block,
    output block_t kept_sums,
    output logic   psums_written,
    output logic   rows_written,
    output logic [POSITIONS-1:0][ROW_BITS-1:0] stored,
    output logic   idle          // behind its last block
);
    typedef enum logic [2:0] {WAIT, PSUMS, ADD, FIRE, MOVE} phase_t;
    typedef struct packed {
        fold_t  fold;
        count_t step, steps, number;       // in the fold
        count_t first_row, behind_row;     // of those that are complete with it
    } place_t;
    phase_t phase;
    place_t next, now, through;  // the block that is taken next, the one that fires or is written
    fold_t fold;
    count_t step, block_number, rows_so_far;
    logic last_block, fires, adds;
    assign fires      = ends_sums(fold, layer);
    assign adds       = goes_on(fold, layer);
    always_comb begin
        next = '0;
        next.fold   = fold;
        next.step   = step;
        next.steps  = layer.dataflow == OUTPUT ? R : least(layer.load_steps, steps_of(fold, layer) - step);
        next.number = block_number;
        last_block  = layer.dataflow == OUTPUT || step + next.steps == steps_of(fold, layer);
        next.first_row  = layer.dataflow == WEIGHT ? rows_so_far : fold.position;
        next.behind_row = next.first_row;
        if (fires)
            if (layer.dataflow == WEIGHT) begin
                if (fold.neuron + C >= layer.neurons) next.behind_row = (step + next.steps) / layer.timesteps;
            end else if (last_block && fold.timestep + layer.span >= layer.timesteps
                    && (layer.dataflow != OUTPUT || fold.neuron + R >= layer.neurons))
                next.behind_row = fold.position + positions_of(fold, layer);
    end

    logic free, ready, keeps, begins, more, ended, has, rows_complete;
    count_t row_lines, left_lines, line_number, next_line, lines;
    assign row_lines     = (layer.row_bytes + 32'((1 << LINE_SHIFT) - 1)) >> LINE_SHIFT;
    assign fired         = phase == FIRE;
    assign rows_complete = now.behind_row != now.first_row;
    assign more          = phase == MOVE && ended && left_lines != '0;
    assign free          = phase == WAIT || fired && !rows_complete || phase == MOVE && ended && left_lines == '0;
    assign takes         = free && waits;
    assign has           = takes || phase == PSUMS;
    assign takes_psums   = has && adds && psums_wait;
    assign ready         = (phase == ADD || has && (!adds || psums_wait)) && blocks > taken;
    assign keeps         = ready && !fires;
    assign begins        = keeps || fired && rows_complete || more;
    assign idle          = fold.done && free;
    assign lines         = fired ? (now.behind_row - now.first_row) * row_lines : left_lines;
    logic [7:0] count;
    assign count = 8'(keeps ? (sums_bytes + 32'((1 << LINE_SHIFT) - 1)) >> LINE_SHIFT : least(layer.burst, lines));
    memory_port #(.PLACES(PLACES)) port(.clk, .rst, .ideal, .begins, .count, .asks, .place, .done, .ended);

    // Lines of partial sums, or of rows one behind the other; the last line of either is filled in part.
    logic sums, held_sums;
    count_t bytes, line, sums_bytes;
    assign sums_bytes = through.steps * columns_of(through.fold, layer) * layer.sum_bytes;
    assign sums    = begins ? keeps : held_sums;
    assign through = keeps ? next : now;
    assign line    = fired ? now.first_row * row_lines : more ? next_line : line_number;
    always_comb begin
        if (sums) begin
            wants.line  = line_t'(layer.sums_line + through.number * layer.sums_lines + 32'(place));
            wants.mode  = CACHED_WRITE;
            wants.epoch = 16'(layer.sums_epoch);
            bytes       = sums_bytes - (32'(place) << LINE_SHIFT);
        end else begin
            wants.line  = line_t'(layer.output_line + line + 32'(place));
            wants.mode  = STREAM_WRITE;
            wants.epoch = '0;
            bytes       = layer.row_bytes - ((line + 32'(place)) % row_lines << LINE_SHIFT);
        end
        wants.beats = cycles_t'((least(bytes, 1 << LINE_SHIFT) + (32'd1 << layer.beat_shift[4:0]) - 32'd1) >> layer.beat_shift[4:0]);
    end
    assign kept_block    = now.number;
    assign kept_sums     = block;
    assign psums_written = ended && held_sums;
    assign rows_written  = ended && !held_sums;
    block_t spikes;
    assign spikes = block;
    always_ff @(posedge clk)
        if (rst) {phase, fold, step, block_number, taken, stored, rows_so_far, kept} <= '0;
        else begin
            kept <= keeps;
            if (ready) phase <= keeps ? MOVE : FIRE;
            else if (takes || takes_psums) phase <= takes_psums || !adds ? ADD : PSUMS;
            else if (fired && rows_complete) phase <= MOVE;
            else if (free) phase <= WAIT;
            if (ready) begin
                now          <= next;
                taken        <= taken + 32'd1;
                step         <= last_block ? '0 : step + next.steps;
                block_number <= last_block ? '0 : block_number + 32'd1;
                rows_so_far  <= next.behind_row;
                if (last_block) fold <= next_fold(fold, layer);
            end
            if (begins) begin
                held_sums  <= keeps;
                left_lines <= keeps ? '0 : lines - 32'(count);
                {line_number, next_line} <= {line, line + 32'(count)};
            end
            if (fired)
                for (int i = 0; i < STEPS; i++)
                    for (int j = 0; j < C; j++)
                        if (i < now.steps && j < columns_of(now.fold, layer)) begin
                            if (layer.dataflow == WEIGHT)
                                stored[4'((now.step + i) / layer.timesteps)][8'((now.fold.neuron + j) * layer.timesteps
                                    + (now.step + i) % layer.timesteps)] <= spikes[i][j][0];
                            else if (layer.dataflow != OUTPUT || i < rows_of(now.fold, layer))
                                stored[4'(now.fold.position + j / timesteps_of(now.fold, layer))][8'((
                                    layer.dataflow == OUTPUT ? now.fold.neuron + i : now.step + i) * layer.timesteps
                                    + now.fold.timestep + j % timesteps_of(now.fold, layer))] <= spikes[i][j][0];
                        end
        end
endmodule

// Reads partial sums back that were written, block by block, and keeps them until they are added.
module psum_reader
    import systolic_types::*, cache_types::*;
(
    input  logic   clk,
    input  logic   rst,
    input  layer_t layer,
    input  logic   ideal,
    input  logic   written,      // a block
    input  logic   taken,        // by the writer
    output logic   waits,        // for the writer
    output count_t read_blocks,  // in all
    output logic   asks,
    output logic [$clog2(PLACES)-1:0] place,
    output wanted_t wants,
    input  logic [PLACES-1:0] done,
    output logic   ended,
    output count_t number        // of the block that is read, in its fold
);
    fold_t fold;
    count_t step, next_number, steps, written_blocks, level, bytes, held_bytes, so_far;
    logic busy, holds, begins, reads, last_block, pushes;
    assign steps       = least(layer.load_steps, steps_of(fold, layer) - step);
    assign last_block  = step + steps == steps_of(fold, layer);
    assign reads       = !fold.done && goes_on(fold, layer);
    assign waits       = level != '0 || ended || holds;
    assign pushes      = (ended || holds) && (level < layer.blocks || taken);
    assign begins      = reads && (!busy || pushes) && (written_blocks != '0 || written);
    assign read_blocks = so_far + 32'(ended);
    assign bytes       = begins ? 32'(steps * columns_of(fold, layer) * layer.sum_bytes) : held_bytes;
    logic [7:0] count;
    memory_port #(.PLACES(PLACES)) port(.clk, .rst, .ideal, .begins, .count, .asks, .place, .done, .ended);
    lines_of_bytes range(
        .base(layer.sums_line + (begins ? next_number : number) * layer.sums_lines), .first('0), .behind(bytes),
        .line_shift(WHOLE_LINE), .beat_shift(layer.beat_shift[4:0]), .place(8'(place)), .line(wants.line),
        .beats(wants.beats), .count
    );
    assign {wants.mode, wants.epoch} = {CONSUME, 16'(layer.sums_epoch)};
    always_ff @(posedge clk)
        if (rst) {fold, step, next_number, written_blocks, level, so_far, busy, holds} <= '0;
        else begin
            written_blocks <= written_blocks + 32'(written) - 32'(begins);
            level  <= level + 32'(pushes) - 32'(taken);
            so_far <= read_blocks;
            holds  <= (ended || holds) && !pushes;
            busy   <= begins || busy && !pushes;
            if (begins) begin
                {number, held_bytes} <= {next_number, bytes};
                step        <= last_block ? '0 : step + steps;
                next_number <= last_block ? '0 : next_number + 32'd1;
            end
            // On, and over folds that have nothing to read.
            if (begins ? last_block : !reads && !fold.done) fold <= next_fold(fold, layer);
        end
endmodule

// The array and what is around it. Its memory has the words of `lines` at `line`.
module systolic
    import systolic_types::*, cache_types::*, memory_types::*;
(
    input  logic    clk,
    input  logic    rst,
    input  logic    rst_descriptors,  // those are written before the start
    input  layer_t  layer,
    input  memory_t spec,
    input  logic    go,
    output count_t  west_line, north_line,
    input  logic [2*LINE_BITS-1:0] west_lines, north_lines,
    output logic    west_answered, north_answered, load_ended,
    output count_t  blocks_left,   // the array in this cycle
    output logic    block_fired, rows_are_written, psums_written, psums_read,
    output logic [2*LANES-1:0] shares_fetched,
    output logic [POSITIONS-1:0][ROW_BITS-1:0] rows,
    output logic    finished
);
    logic [PORTS-1:0] asks;
    logic [PORTS-1:0][$clog2(PLACES)-1:0] place;
    wanted_t [PORTS-1:0] wants;
    logic [PORTS-1:0][PLACES-1:0] done;
    memory #(.PORTS(PORTS), .PLACES(PLACES), .REGISTERS(16)) all(
        .clk, .rst, .spec, .lane({PORTS{OWN_PATH}}), .asks, .place, .wants, .done
    );

    // --- Operands ---------------------------------------------------------------------------------------------------
    load_t west, north;
    logic west_valid, north_valid, west_taken, north_taken, west_freed, north_freed, west_idle, north_idle;
    count_t west_announced, north_announced;
    edge_feeder #(.AT_WEST(1'b1)) west_feeder(
        .clk, .rst, .layer, .ideal(spec.ideal[0]), .go, .freed(west_freed), .announced(west_announced), .asks(asks[WEST]),
        .place(place[WEST]), .wants(wants[WEST]), .done(done[WEST]), .line(west_line), .lines(west_lines),
        .answered(west_answered), .valid(west_valid), .load(west), .taken(west_taken), .idle(west_idle)
    );
    edge_feeder #(.AT_WEST(1'b0)) north_feeder(
        .clk, .rst, .layer, .ideal(spec.ideal[0]), .go, .freed(north_freed), .announced(north_announced),
        .asks(asks[NORTH]), .place(place[NORTH]), .wants(wants[NORTH]), .done(done[NORTH]), .line(north_line),
        .lines(north_lines), .answered(north_answered), .valid(north_valid), .load(north), .taken(north_taken),
        .idle(north_idle)
    );
    descriptor_t west_descriptors[OPERANDS], north_descriptors[OPERANDS];
    count_t west_number, north_number;
    dma_descriptors #(.AT_WEST(1'b1)) of_west(
        .clk, .rst(rst_descriptors), .layer, .descriptors(west_descriptors), .number(west_number)
    );
    dma_descriptors #(.AT_WEST(1'b0)) of_north(
        .clk, .rst(rst_descriptors), .layer, .descriptors(north_descriptors), .number(north_number)
    );
    logic [2*LANES-1:0] lanes_idle;
    for (genvar i = 0; i < LANES; i++) begin : lanes
        dma_lane #(.NUMBER(i)) west_lane(
            .clk, .rst, .layer, .ideal(spec.ideal[0]), .go, .descriptors(west_descriptors), .number(west_number),
            .announced(west_announced), .asks(asks[WEST_LANES+i]), .place(place[WEST_LANES+i]),
            .wants(wants[WEST_LANES+i]), .done(done[WEST_LANES+i]), .ended(shares_fetched[i]), .idle(lanes_idle[i])
        );
        dma_lane #(.NUMBER(i)) north_lane(
            .clk, .rst, .layer, .ideal(spec.ideal[0]), .go, .descriptors(north_descriptors), .number(north_number),
            .announced(north_announced), .asks(asks[NORTH_LANES+i]), .place(place[NORTH_LANES+i]),
            .wants(wants[NORTH_LANES+i]), .done(done[NORTH_LANES+i]), .ended(shares_fetched[LANES+i]),
            .idle(lanes_idle[LANES+i])
        );
    end

    // --- The array: the stationary operand or none, then loads; it hands on blocks of sums ----------------------------
    logic stationary, ready, taken, ends, ended, all_taken, leaves, loads_weights, was_weights;
    logic [3:0][3:0][R-1:0][7:0] rows_enter;
    logic [3:0][3:0][C-1:0][7:0] columns_enter;
    logic [R-1:0][C-1:0][3:0][31:0] all_sums;
    logic [C-1:0] leaving;
    logic [C-1:0][31:0] sums;
    assign stationary = layer.dataflow != OUTPUT;
    always_comb begin
        {rows_enter, columns_enter} = '0;
        for (int k = 0; k < STEPS; k++) begin
            rows_enter[k][0]    = west.operand[k];
            columns_enter[k][0] = north.operand[k];
        end
    end
    systolic_array #(.R(R), .C(C)) array(
        .clk, .rst, .stationary, .leaves(!stationary), .skips(1'b0), .ticks(3'd1), .in_valid(taken), .in_ready(ready),
        .steps(loads_weights ? north.steps : west.steps), .weights(loads_weights), .last(!loads_weights && west.last),
        .west(rows_enter), .north(columns_enter), .ends, .out_valid(leaves), .out_columns(leaving), .out_sums(sums),
        .taken(all_taken), .all_sums, .ended
    );
    // Of the fold, loads that are through and blocks that were handed on. Steps push sums out of the array: a block has left
    // it when enough steps have followed, and is handed on when a load is through, the rest behind the last one.
    count_t loads_through, handed, level, owed, held_owed;
    logic held_last, load_through, blocked, takes;
    always_comb begin
        owed = held_owed;
        if (ended) owed = loads_through - handed;
        else if (stationary && load_through && !held_last
            && (loads_through - 32'd1 - handed) * layer.load_steps >= R + C - 2) owed = 32'd1;
        if (ended && !stationary) owed = 32'd1;
    end
    assign blocks_left = least(owed, layer.blocks + 32'(takes) - level);
    assign blocked     = owed != blocks_left;
    assign load_through = load_ended;
    assign taken        = ready && !blocked && (loads_weights ? north_valid : west_valid && (stationary || north_valid));
    assign west_taken   = taken && !loads_weights;
    assign north_taken  = taken && (loads_weights || !stationary);
    assign west_freed   = load_ended;
    assign north_freed  = stationary ? was_weights : load_ended;
    always_ff @(posedge clk)
        if (rst) begin
            {load_ended, was_weights, loads_through, handed, level, held_owed, held_last} <= '0;
            loads_weights <= stationary;
        end else begin
            load_ended  <= ends && !now_weights;
            was_weights <= ends && now_weights;
            if (taken) begin
                loads_weights <= stationary && !loads_weights && west.last;
                held_weights  <= loads_weights;
                held_last     <= west.last && !loads_weights;
            end
            loads_through <= north_taken && loads_weights ? '0 : loads_through + 32'(ends && !now_weights);
            handed        <= north_taken && loads_weights ? '0 : handed + blocks_left;
            held_owed     <= owed - blocks_left;
            level         <= level + blocks_left - 32'(takes);
        end
    logic held_weights, now_weights;
    assign now_weights = taken ? loads_weights : held_weights;

    // --- Behind it --------------------------------------------------------------------------------------------------
    count_t blocks, read_blocks, read_number, kept_block;
    count_t added, taken_blocks;
    block_t block[DONE_BLOCKS], psums_kept[NEURONS], psums_read_back[DONE_BLOCKS], psums, kept_sums;
    logic psums_wait, takes_psums, kept, block_ends, writer_idle;
    // The last sum of a block stands at its column's end when the block is handed on, where an operand is stationary: so it
    // may be taken in the cycle in which it is through.
    column_ends ends_of_columns(
        .clk, .rst, .layer, .leaving, .sums, .read_blocks, .added, .psums, .block_ends, .blocks, .block
    );
    row_writer writer(
        .clk, .rst, .layer, .ideal(spec.ideal[0]), .waits(level != '0 || owed != '0), .takes, .psums_wait, .takes_psums,
        .blocks(blocks + 32'(stationary && block_ends)), .taken(taken_blocks),
        .block(block[4'(taken_blocks - 32'd1)]), .fired(block_fired), .asks(asks[WRITER]), .place(place[WRITER]), .wants(wants[WRITER]),
        .done(done[WRITER]), .kept, .kept_block, .kept_sums, .psums_written, .rows_written(rows_are_written),
        .stored(rows), .idle(writer_idle)
    );
    psum_reader reader(
        .clk, .rst, .layer, .ideal(spec.ideal[0]), .written(psums_written), .taken(takes_psums), .waits(psums_wait),
        .read_blocks, .asks(asks[READER]), .place(place[READER]), .wants(wants[READER]), .done(done[READER]),
        .ended(psums_read), .number(read_number)
    );
    // Words of partial sums, by the block's number in its fold; those that were read stay until they are added.
    assign psums = psums_read && added + 32'd1 == read_blocks ? psums_kept[6'(read_number)] : psums_read_back[4'(added)];
    always_ff @(posedge clk) begin
        if (kept) psums_kept[6'(kept_block)] <= kept_sums;
        if (psums_read) psums_read_back[4'(read_blocks - 32'd1)] <= psums_kept[6'(read_number)];
    end
    assign finished = west_idle && north_idle && writer_idle && lanes_idle == '1;
endmodule
