// GoSPA's processing elements with a bank of partial sums each: rows of B come to all, each adds them for its own spikes.

// The walk of one element through a row: for every spike through all chunks of 128 columns, a non-zero a cycle.
module row_walker #(
    parameter int COLUMNS = 288,
    parameter int PLACES = 12,
    parameter int WORDS = PLACES * COLUMNS
) (
    input  logic        clk,
    input  logic        rst,
    input  logic [3:0]  spike_overhead,
    input  logic [3:0]  chunk_overhead,
    input  logic [5:0]  sum_bits,
    input  logic [8:0]  width,        // columns of the tile
    input  logic        take,
    input  logic [COLUMNS-1:0] mask,
    input  logic [COLUMNS-1:0][7:0] values,
    input  logic [PLACES-1:0] spikes, // a place for each row and timestep
    output logic        ends,         // in the row's last cycle
    input  logic        write,        // of a partial sum that comes back
    input  logic        clear,        // of one that leaves
    input  logic [11:0] address,
    input  logic [31:0] written,
    output logic [31:0] read,
    output logic [31:0] overflows
);
    logic [31:0] bank[WORDS];
    logic [WORDS-1:0] filled;         // what is not is zero
    assign read = filled[address] ? bank[address] : '0;

    logic walking;
    logic [COLUMNS-1:0] row_mask;
    logic [COLUMNS-1:0][7:0] row_values;
    logic [PLACES-1:0] left;
    logic [4:0] waits;
    logic [1:0] chunk, chunks;
    logic [127:0] here, lowest;
    logic [8:0] number;               // of the non-zero in its row
    assign chunks = 2'((width + 9'd127) >> 7);

    logic [3:0] place;
    logic [6:0] bit_of;
    logic [11:0] target;
    logic adds, chunk_ends, spike_ends;
    logic signed [31:0] total, limit;
    assign limit = 32'sd1 <<< (sum_bits - 6'd1);
    logic signed [7:0] value;
    logic [127:0] following;
    always_comb begin
        place = '0;
        for (int i = PLACES - 1; i >= 0; i--) if (left[i]) place = 4'(i);
        lowest = here & -here;
        bit_of = '0;
        for (int b = 0; b < 7; b++)
            for (int i = 0; i < 128; i++) if (i[b] && lowest[i]) bit_of[b] = 1'b1;
        adds = walking && waits == '0 && here != '0;
        value = row_values[number];
        target = 12'(place) * 12'(width) + {3'd0, chunk, bit_of};
        total = (filled[target] ? bank[target] : '0) + 32'(value);
        following = adds ? here ^ lowest : here;
        chunk_ends = walking && following == '0 && (waits == '0 || (waits == 5'd1 && chunk_overhead != '0));
        spike_ends = chunk_ends && chunk + 2'd1 == chunks;
        ends = spike_ends && (left & (left - 12'd1)) == '0;
    end
    logic [383:0] padded, fresh;
    assign padded = 384'(row_mask);
    assign fresh = 384'(mask);
    logic [1:0] next_chunk;
    assign next_chunk = spike_ends ? '0 : chunk + 2'd1;
    always_ff @(posedge clk) begin
        if (rst) begin
            walking <= 1'b0;
            overflows <= '0;
            filled <= '0;
        end else begin
            if (walking) begin
                if (waits != '0) waits <= waits - 5'd1;
                here <= following;
                if (adds) begin
                    bank[target] <= total;
                    filled[target] <= 1'b1;
                    number <= number + 9'd1;
                    if (total >= limit || total < -limit) overflows <= overflows + 1;
                end
                if (chunk_ends) begin
                    chunk <= next_chunk;
                    here <= padded[128 * next_chunk +: 128];
                    waits <= {1'b0, chunk_overhead};
                end
                if (spike_ends) begin
                    left <= left & (left - 12'd1);
                    number <= '0;
                    waits <= 5'(spike_overhead) + 5'(chunk_overhead);
                end
                if (ends) walking <= 1'b0;
            end
            if (take) begin
                walking <= 1'b1;
                row_mask <= mask;
                row_values <= values;
                left <= spikes;
                number <= '0;
                chunk <= '0;
                here <= fresh[127:0];
                waits <= 5'(spike_overhead) + 5'(chunk_overhead);
            end
            if (write) bank[address] <= written;
            if (write || clear) filled[address] <= write;
        end
    end
endmodule

// Elements with what feeds them. A descriptor of each visit says how many rows of B it has, whether partial sums come
// first, and what becomes of them: they stay, are put away, or go to the neurons.
module gospa #(
    parameter int PES = 3,
    parameter int VISITS = 8,
    parameter int COLUMNS = 288,
    parameter int PLACES = 12
) (
    input  logic        clk,
    input  logic        rst,
    input  logic [1:0]  pes,
    input  logic        barrier,
    input  logic [2:0]  row_buffers,
    input  logic [3:0]  spike_overhead,
    input  logic [3:0]  chunk_overhead,
    input  logic [5:0]  sum_bits,
    input  logic [3:0]  neuron_cycles,
    input  logic [3:0]  visits,
    input  logic [VISITS-1:0][95:0] descriptor,
    input  logic        row_valid,
    output logic        row_ready,
    input  logic [COLUMNS-1:0] mask,
    input  logic [COLUMNS-1:0][7:0] values,
    input  logic [PES-1:0][PLACES-1:0] spikes,
    input  logic        line_valid,
    output logic        line_ready,
    input  logic [PES-1:0][7:0][31:0] line,
    output logic [PES-1:0] word_valid,
    output logic [PES-1:0][31:0] word,
    output logic [PES-1:0][31:0] overflows,
    output logic [PES-1:0][3:0] rows_done  // in this cycle
);
    localparam int ROWS = 4, LINES = 8, MOVED = 4;  // of the row buffer, of the line buffer, of a move
    typedef enum logic [1:0] {BRING, WALK, LEAVE, FINISHED} phase_t;
    typedef struct packed {
        phase_t phase;
        logic [3:0] visit;
        logic busy;          // walks, or moves words
        logic arrived;       // at the barrier
        logic [2:0] row;     // next to be taken from the buffer; counted on
        logic [7:0] rows;    // that are done in the visit
        logic [8:0] lines;   // that have come in the visit
        logic [3:0] line;    // next to be taken from the buffer; counted on
        logic [11:0] words;  // that have been moved in the visit
        logic [5:0] left;    // words of the move
        logic [3:0] cycle;   // of the neuron
    } element_t;
    element_t [PES-1:0] element, next;
    logic [2:0] row_end, next_row_end;
    logic [3:0] line_end, next_line_end;
    logic [ROWS-1:0][PES-1:0][PLACES-1:0] kept_spikes;
    logic [ROWS-1:0][COLUMNS-1:0] kept_mask;
    logic [ROWS-1:0][COLUMNS-1:0][7:0] kept_values;
    logic [LINES-1:0][PES-1:0][7:0][31:0] kept_lines;
    logic [PES-1:0][MOVED-1:0][7:0][31:0] moved;     // lines that are on their way into a bank
    logic [PES-1:0] take, walk_ends, loads;
    logic [PES-1:0][2:0] taken_row;
    logic [PES-1:0][3:0] loaded_line;

    // What the descriptor of an element's visit says.
    logic [PES-1:0][95:0] own;
    logic [PES-1:0][11:0] owned;
    function automatic logic [95:0] described(input logic [3:0] visit);
        return descriptor[visit[2:0]];
    endfunction
    function automatic logic [11:0] owned_by(input logic [95:0] of_visit, input int pe);
        return of_visit[32 + 16 * pe +: 12];
    endfunction

    logic all_arrived;
    logic [95:0] now_own;
    logic [8:0] lines_of;
    logic [3:0] batch;
    logic [11:0] rest;
    logic [2:0] most_rows;
    logic [3:0] most_lines;
    always_comb begin
        next = element;
        next_row_end = row_end;
        next_line_end = line_end;
        take = '0;
        loads = '0;
        taken_row = '0;
        loaded_line = '0;
        row_ready = 1'b0;
        line_ready = 1'b0;
        rows_done = '0;
        now_own = '0;
        lines_of = '0;
        batch = '0;
        rest = '0;
        // What ends.
        for (int p = 0; p < PES; p++) begin
            word_valid[p] = 1'b0;
            if (element[p].busy)
                case (element[p].phase)
                    WALK: if (walk_ends[p]) begin
                        next[p].busy = 1'b0;
                        next[p].arrived = 1'b1;
                    end
                    BRING: begin
                        next[p].words = element[p].words + 12'd1;
                        next[p].left = element[p].left - 6'd1;
                        next[p].busy = next[p].left != '0;
                    end
                    default: begin
                        next[p].cycle = element[p].cycle + 4'd1;
                        if (next[p].cycle == (own[p][10] ? neuron_cycles : 4'd1)) begin
                            word_valid[p] = 1'b1;
                            next[p].cycle = '0;
                            next[p].words = element[p].words + 12'd1;
                            next[p].busy = next[p].words != owned[p];
                        end
                    end
                endcase
        end
        // What begins; rows and lines that nobody works on pass in no time.
        for (int i = 0; i < 12; i++) begin
            most_rows = '0;
            most_lines = '0;
            for (int p = 0; p < PES; p++)
                if (p < 32'(pes)) begin
                    if (next_row_end - next[p].row > most_rows) most_rows = next_row_end - next[p].row;
                    if (next_line_end - next[p].line > most_lines) most_lines = next_line_end - next[p].line;
                end
            if (row_valid && !row_ready && most_rows < row_buffers) begin
                row_ready = 1'b1;
                next_row_end = next_row_end + 3'd1;
            end
            if (line_valid && !line_ready && most_lines < 4'(LINES)) begin
                line_ready = 1'b1;
                next_line_end = next_line_end + 4'd1;
            end
            for (int p = 0; p < PES; p++) begin
                now_own = described(next[p].visit);
                if (p < 32'(pes) && !next[p].busy)
                    case (next[p].phase)
                        BRING: begin
                            lines_of = now_own[8] ? 9'((owned_by(now_own, 0) + 12'd7) >> 3) : '0;
                            batch = lines_of - next[p].lines < 9'(MOVED) ? 4'(lines_of - next[p].lines) : 4'(MOVED);
                            rest = owned_by(now_own, p) - next[p].words;
                            if (batch == '0) begin
                                next[p].phase = WALK;
                                next[p].words = '0;
                            end else if (next_line_end - next[p].line >= batch) begin
                                loads[p] = 1'b1;
                                loaded_line[p] = next[p].line;
                                next[p].line = next[p].line + batch;
                                next[p].lines = next[p].lines + 9'(batch);
                                next[p].left = rest < 12'd32 ? 6'(rest) : 6'd32;
                                next[p].busy = rest != '0;
                            end
                        end
                        WALK:
                            if (!next[p].arrived)
                                if (next[p].rows == now_own[7:0]) begin
                                    next[p].phase = LEAVE;
                                    next[p].rows = '0;
                                    next[p].busy = now_own[10:9] != '0 && owned_by(now_own, p) != '0;
                                end else if (next_row_end != next[p].row) begin
                                    if ((next[p].row == row_end ? spikes[p] : kept_spikes[next[p].row[1:0]][p]) != '0) begin
                                        take[p] = 1'b1;
                                        taken_row[p] = next[p].row;
                                        next[p].busy = 1'b1;
                                    end else next[p].arrived = 1'b1;
                                    next[p].row = next[p].row + 3'd1;
                                end
                        LEAVE: begin
                            next[p].visit = next[p].visit + 4'd1;
                            next[p].phase = next[p].visit == visits ? FINISHED : BRING;
                            next[p].words = '0;
                            next[p].lines = '0;
                        end
                        default: ;
                    endcase
            end
            all_arrived = 1'b1;
            for (int p = 0; p < PES; p++) if (p < 32'(pes) && !next[p].arrived) all_arrived = 1'b0;
            for (int p = 0; p < PES; p++)
                if (next[p].arrived && (all_arrived || !barrier)) begin
                    next[p].arrived = 1'b0;
                    next[p].rows = next[p].rows + 8'd1;
                    rows_done[p] = rows_done[p] + 4'd1;
                end
        end
    end

    always_ff @(posedge clk) begin
        if (row_ready) begin
            kept_mask[row_end[1:0]] <= mask;
            kept_values[row_end[1:0]] <= values;
            kept_spikes[row_end[1:0]] <= spikes;
        end
        if (line_ready) kept_lines[line_end[2:0]] <= line;
        {row_end, line_end} <= rst ? '0 : {next_row_end, next_line_end};
        element <= rst ? '0 : next;
    end

    for (genvar p = 0; p < PES; p++) begin : banks
        assign own[p] = described(element[p].visit);
        assign owned[p] = owned_by(own[p], p);
        logic arrives;  // what is taken comes in this cycle
        assign arrives = taken_row[p] == row_end;
        for (genvar i = 0; i < MOVED; i++) begin : of_move
            logic [3:0] from;
            assign from = loaded_line[p] + 4'(i);
            always_ff @(posedge clk) if (loads[p]) moved[p][i] <= from == line_end ? line[p] : kept_lines[from[2:0]][p];
        end
        row_walker #(.COLUMNS(COLUMNS), .PLACES(PLACES)) walker(
            .clk, .rst, .spike_overhead, .chunk_overhead, .sum_bits, .width(own[p][24:16]), .take(take[p]),
            .mask(arrives ? mask : kept_mask[taken_row[p][1:0]]),
            .values(arrives ? values : kept_values[taken_row[p][1:0]]),
            .spikes(arrives ? spikes[p] : kept_spikes[taken_row[p][1:0]][p]), .ends(walk_ends[p]),
            .write(element[p].busy && element[p].phase == BRING), .clear(word_valid[p]), .address(element[p].words),
            .written(moved[p][element[p].words[4:3]][element[p].words[2:0]]), .read(word[p]), .overflows(overflows[p])
        );
    end
endmodule
