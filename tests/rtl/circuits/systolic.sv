// A machine around a systolic array, output stationary: loaders of its edges, neuron units at its columns, a writer.

package systolic_types;
    localparam int R = 2, C = 2;
    localparam int STEPS = 4;   // most of a load
    localparam int LOADS = 4;   // most operand buffers of an edge
    localparam int BLOCKS = 4;  // most that wait for the writer
    localparam int POSITIONS = 16, ROW_BITS = 160;
    localparam int LINE_BITS = 128;
    typedef logic [31:0] count_t;
    typedef struct packed {
        count_t inputs, neurons, positions, timesteps;
        count_t group, span;  // positions, and timesteps of each, that stand in the columns together
        count_t tile;         // positions whose inputs stay in the cache
        count_t load_steps, loads, blocks;
        count_t input_line;   // weights are from line 0 on
        count_t row_lines, burst;
        count_t threshold, fraction_bits, leak_shift;
    } layer_t;

    // A fold: neurons from `neuron` on in the rows, positions from `position` on, each with timesteps from `timestep` on,
    // in the columns; `tile` is the first position of its tile.
    typedef struct packed {
        logic   done;  // there are no more
        count_t tile, neuron, position, timestep;
    } fold_t;

    function automatic count_t least(count_t a, count_t b);
        return a < b ? a : b;
    endfunction
    function automatic fold_t next_fold(fold_t fold, layer_t layer);
        fold_t next = fold;
        next.timestep = fold.timestep + layer.span;
        if (next.timestep >= layer.timesteps) begin
            next.timestep = '0;
            next.position = fold.position + layer.group;
            if (next.position >= least(fold.tile + layer.tile, layer.positions)) begin
                next.position = fold.tile;
                next.neuron   = fold.neuron + R;
                if (next.neuron >= layer.neurons) begin
                    next.neuron   = '0;
                    next.tile     = fold.tile + layer.tile;
                    next.position = next.tile;
                    next.done     = next.tile >= layer.positions;
                end
            end
        end
        return next;
    endfunction
    function automatic count_t rows_of(fold_t fold, layer_t layer);
        return least(R, layer.neurons - fold.neuron);
    endfunction
    function automatic count_t positions_of(fold_t fold, layer_t layer);
        return least(layer.group, layer.positions - fold.position);
    endfunction
    function automatic count_t timesteps_of(fold_t fold, layer_t layer);
        return least(layer.span, layer.timesteps - fold.timestep);
    endfunction

    // What enters at an edge in the steps of a load.
    typedef struct packed {
        logic [2:0] steps;
        logic       last;  // of the fold
        logic [STEPS-1:0][1:0][7:0] operand;
    } load_t;
endpackage

// Asks for the loads of an edge, one behind the other, as soon as there is an operand buffer for them, and keeps them
// until the array takes them. Weights lie in memory fold by fold and step by step, a byte for each row; inputs too, a bit
// for each column, and begin at whole bytes.
module edge_feeder
    import systolic_types::*;
#(
    parameter bit WEST = 1'b1
) (
    input  logic   clk,
    input  logic   rst,
    input  layer_t layer,
    input  logic   go,
    input  logic   freed,      // an operand buffer
    output logic   asks,
    input  logic   answered,
    output count_t line,       // of the load that is on its way
    input  logic [2*LINE_BITS-1:0] lines,
    output logic   valid,
    output load_t  load,
    input  logic   taken,
    output logic   idle        // behind its last load
);
    // The next load.
    fold_t fold, following;
    count_t step, at, begin_of_fold, begin_of_tile;
    count_t steps, bits, behind, whole;
    logic last;
    assign following = next_fold(fold, layer);
    assign bits   = WEST ? rows_of(fold, layer) << 3 : 32'(positions_of(fold, layer) * timesteps_of(fold, layer));
    assign steps  = least(layer.load_steps, layer.inputs - step);
    assign last   = step + steps == layer.inputs;
    assign behind = at + steps * bits;
    assign whole  = (behind + 32'd7) & ~32'd7;

    logic started, busy;
    count_t free;
    assign asks = (go || started) && !fold.done && (!busy || answered) && free + 32'(freed) != '0;
    assign idle = fold.done && (!busy || answered);
    always_ff @(posedge clk) begin
        if (rst) begin
            {started, busy, fold, step} <= '0;
            free <= layer.loads;
            {at, begin_of_fold, begin_of_tile} <= WEST ? '0 : {3{layer.input_line << $clog2(LINE_BITS)}};
        end else begin
            started <= started || go;
            busy    <= asks || (busy && !answered);
            free    <= free + 32'(freed) - 32'(asks);
            if (asks && !last) begin
                step <= step + steps;
                at   <= behind;
            end else if (asks) begin
                step <= '0;
                fold <= following;
                if (WEST) begin
                    if (following.tile != fold.tile) {at, begin_of_fold} <= '0;
                    else if (following.neuron != fold.neuron) {at, begin_of_fold} <= {2{behind}};
                    else at <= begin_of_fold;
                end else begin
                    at <= whole;
                    if (following.tile != fold.tile) begin_of_tile <= whole;
                    else if (following.neuron != fold.neuron) at <= begin_of_tile;
                end
            end
        end
    end

    // The load that is on its way.
    count_t held_at, held_bits;
    load_t held, coming;
    logic [2*LINE_BITS-1:0] from_first;
    assign line       = held_at >> $clog2(LINE_BITS);
    assign from_first = lines >> held_at[$clog2(LINE_BITS)-1:0];
    always_ff @(posedge clk)
        if (asks) begin
            {held_at, held_bits, held} <= {at, bits, 3'(steps), last, {$bits(held.operand){1'b0}}};
        end
    always_comb begin
        coming = held;
        for (int k = 0; k < STEPS; k++)
            for (int i = 0; i < 2; i++)
                if (k < 32'(held.steps) && i < (WEST ? held_bits >> 3 : held_bits))
                    coming.operand[k][i] = WEST ? from_first[8'(k * held_bits + 8 * i) +: 8]
                        : 8'(from_first[8'(k * held_bits + i)]);
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

// Neuron units at the columns' ends: a row of sums a cycle, the bottom row first. Columns of a position are its timesteps,
// so a potential goes from column to column, and to timesteps of a later fold through a register. What fires in a fold is
// a block.
module column_neurons
    import systolic_types::*;
(
    input  logic   clk,
    input  logic   rst,
    input  layer_t layer,
    input  logic   leaves,
    input  logic [C-1:0][31:0] sums,
    input  logic   fold_ends,  // the cycle behind its last row
    output logic [R-1:0][C-1:0] block
);
    fold_t fold;
    logic [$clog2(R)-1:0] row;
    logic signed [63:0] kept[R][C];  // of a row, by position
    logic signed [63:0] after[C];
    logic [C-1:0] fires, begins, ends;
    logic [C-1:0][$clog2(C)-1:0] position;
    count_t timestep, number;
    always_comb begin
        {timestep, number} = '0;
        for (int j = 0; j < C; j++) begin
            position[j] = $clog2(C)'(number);
            begins[j]   = timestep == '0;
            timestep    = timestep + 32'd1;
            ends[j]     = timestep == timesteps_of(fold, layer);
            if (ends[j]) {timestep, number} = {32'd0, number + 32'd1};
        end
    end
    for (genvar j = 0; j < C; j++) begin : columns
        logic signed [63:0] first, potential, behind;
        assign first = fold.timestep == '0 ? '0 : kept[row][position[j]];
        if (j == 0) assign potential = first;
        else assign potential = begins[j] ? first : columns[j-1].behind;
        assign after[j] = behind;
        neuron_step step(
            .potential, .arriving(64'(signed'(sums[j])) <<< layer.fraction_bits),
            .limit(64'(signed'(layer.threshold)) <<< layer.fraction_bits), .leak_shift(layer.leak_shift[5:0]),
            .leak_subtracts(1'b0), .reset(3'd0), .at_threshold(1'b0), .fired(fires[j]), .behind
        );
    end
    always_ff @(posedge clk)
        if (rst) begin
            fold <= '0;
            row  <= $clog2(R)'(R - 1);
        end else begin
            if (leaves) begin
                block[row] <= fires;
                row <= row == '0 ? $clog2(R)'(R - 1) : row - 1'b1;
                for (int j = 0; j < C; j++) if (ends[j]) kept[row][position[j]] <= after[j];
            end
            if (fold_ends) fold <= next_fold(fold, layer);
        end
endmodule

// Takes blocks, a cycle each, puts their spikes into rows of the output, and writes rows that are complete, `burst` lines
// at once.
module row_writer
    import systolic_types::*;
(
    input  logic   clk,
    input  logic   rst,
    input  layer_t layer,
    input  logic   waits,      // a block
    input  logic [R-1:0][C-1:0] block,
    output logic   takes,
    output logic   fired,
    output logic   asks,
    input  logic   answered,
    output count_t first,      // position of the rows that are written
    output count_t number,
    output logic [C-1:0][ROW_BITS-1:0] rows,
    output logic   idle        // behind its last block
);
    typedef enum logic [1:0] {WAIT, FIRE, WRITE} phase_t;
    phase_t phase;
    fold_t fold, following;
    logic [R-1:0][C-1:0] held;
    logic complete, free;
    count_t lines, left, timesteps;
    logic [POSITIONS-1:0][ROW_BITS-1:0] stored;
    assign following = next_fold(fold, layer);
    assign timesteps = timesteps_of(fold, layer);
    assign fired     = phase == FIRE;
    // Rows are complete with the last timesteps of the last neurons.
    assign complete  = fold.neuron + R >= layer.neurons && fold.timestep + layer.span >= layer.timesteps;
    assign free      = phase == WAIT || fired && !complete || phase == WRITE && answered && left == '0;
    assign takes     = free && waits;
    assign asks      = fired && complete || phase == WRITE && answered && left != '0;
    assign lines     = fired ? positions_of(fold, layer) * layer.row_lines : left;
    assign idle      = fold.done && free;
    for (genvar i = 0; i < C; i++) begin : written
        assign rows[i] = stored[4'(first + i)];
    end
    always_ff @(posedge clk)
        if (rst) {phase, fold, stored} <= '0;
        else begin
            if (takes) held <= block;
            if (free) phase <= takes ? FIRE : WAIT;
            else if (fired) phase <= WRITE;
            if (asks) left <= lines - least(layer.burst, lines);
            if (fired) begin
                fold <= following;
                {first, number} <= {fold.position, positions_of(fold, layer)};
                for (int p = 0; p < C; p++)
                    for (int t = 0; t < C; t++)
                        for (int i = 0; i < R; i++)
                            if (p < positions_of(fold, layer) && t < timesteps && i < rows_of(fold, layer))
                                stored[4'(fold.position + p)][8'((fold.neuron + i) * layer.timesteps + fold.timestep
                                    + t)] <= held[i][$clog2(C)'(p * timesteps + t)];
            end
        end
endmodule

// The array and what is around it. Its memory answers at `west`, `north` and `rows`.
module systolic
    import systolic_types::*;
(
    input  logic   clk,
    input  logic   rst,
    input  layer_t layer,
    input  logic   go,
    output logic   west_asks, north_asks, rows_ask,
    input  logic   west_answered, north_answered, rows_answered,
    output count_t west_line, north_line,
    input  logic [2*LINE_BITS-1:0] west_lines, north_lines,
    output logic   load_ended,
    output logic   fold_ended,
    output logic   block_fired,
    output count_t first_row, rows_written,
    output logic [C-1:0][ROW_BITS-1:0] rows,
    output logic   finished
);
    load_t west, north;
    logic west_valid, north_valid, ready, taken, ends, west_idle, north_idle, writer_idle;
    edge_feeder #(.WEST(1'b1)) west_feeder(
        .clk, .rst, .layer, .go, .freed(load_ended), .asks(west_asks), .answered(west_answered), .line(west_line),
        .lines(west_lines), .valid(west_valid), .load(west), .taken, .idle(west_idle)
    );
    edge_feeder #(.WEST(1'b0)) north_feeder(
        .clk, .rst, .layer, .go, .freed(load_ended), .asks(north_asks), .answered(north_answered),
        .line(north_line), .lines(north_lines), .valid(north_valid), .load(north), .taken, .idle(north_idle)
    );
    always_ff @(posedge clk) load_ended <= ends && !rst;

    logic [3:0][3:0][R-1:0][7:0] rows_enter;
    logic [3:0][3:0][C-1:0][7:0] columns_enter;
    logic [R-1:0][C-1:0][3:0][31:0] all_sums;
    logic [C-1:0] leaving;
    logic [C-1:0][31:0] sums;
    logic leaves, all_taken, ended;
    always_comb begin
        {rows_enter, columns_enter} = '0;
        for (int k = 0; k < STEPS; k++) begin
            rows_enter[k][0]    = west.operand[k];
            columns_enter[k][0] = north.operand[k];
        end
    end
    systolic_array #(.R(R), .C(C)) array(
        .clk, .rst, .stationary(1'b0), .leaves(1'b1), .skips(1'b0), .ticks(3'd1), .in_valid(taken), .in_ready(ready),
        .steps(west.steps), .weights(1'b0), .last(west.last), .west(rows_enter), .north(columns_enter), .ends,
        .out_valid(leaves), .out_columns(leaving), .out_sums(sums), .taken(all_taken), .all_sums, .ended
    );
    logic [R-1:0][C-1:0] block, first_block;
    column_neurons neurons(.clk, .rst, .layer, .leaves, .sums, .fold_ends(ended), .block);

    // Blocks that wait for the writer. The next fold begins when that of the last one is among them.
    logic [R-1:0][C-1:0] waiting[BLOCKS];
    logic [1:0] read_at, write_at;
    logic [2:0] level;
    logic pending, held, takes;
    assign pending     = ended || held;
    assign fold_ended  = pending && (32'(level) < layer.blocks || takes);
    assign first_block = level != '0 ? waiting[read_at] : block;
    assign taken       = ready && west_valid && north_valid && (!pending || fold_ended);
    always_ff @(posedge clk)
        if (rst) {read_at, write_at, level, held} <= '0;
        else begin
            held <= pending && !fold_ended;
            if (fold_ended) begin
                waiting[write_at] <= block;
                write_at <= write_at + 2'd1;
            end
            read_at <= read_at + 2'(takes);
            level   <= level + 3'(fold_ended) - 3'(takes);
        end
    row_writer writer(
        .clk, .rst, .layer, .waits(level != '0 || pending), .block(first_block), .takes, .fired(block_fired),
        .asks(rows_ask), .answered(rows_answered), .first(first_row), .number(rows_written), .rows, .idle(writer_idle)
    );
    assign finished = west_idle && north_idle && writer_idle;
endmodule
