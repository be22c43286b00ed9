// Memory and tables of fibers in, then the start; out: what each element, neuron unit and fetcher does in a cycle, the
// words that fire, compressed rows, and the end.
// needs: inner_join.sv prefix_sums.sv neurons.sv inner_product.sv
module circuit
    import inner_product_types::*;
(
    input  logic           clk,
    input  logic           rst,
    input  logic [1151:0]  settings,  // fields of layer_t
    input  logic [2:0]     in_valid,
    output logic [2:0]     in_ready,
    input  logic [1535:0]  in_data,   // 512 bits of memory; 0 to 2: row of A, column of B, row of the output; its number,
                                      // line and bytes; nothing
    output logic [20:0]    out_valid,
    output logic [7391:0]  out_data
);
    layer_t layer;
    for (genvar i = 0; i < $bits(layer_t) / 16; i++) begin : fields
        assign layer[$bits(layer_t) - 16 - 16 * i +: 16] = settings[32 * i +: 16];
    end
    localparam int WORDS = 4096;
    logic [127:0] image[WORDS];
    fiber_t fibers_a[64], fibers_b[256], rows[64];
    logic [11:0] loaded;
    logic go;
    assign in_ready = '1;
    assign go = in_valid[2];
    always_ff @(posedge clk)
        if (rst) loaded <= '0;
        else begin
            if (in_valid[0]) begin
                for (int i = 0; i < 4; i++) image[loaded + 12'(i)] <= in_data[128 * i +: 128];
                loaded <= loaded + 12'd4;
            end
            if (in_valid[1])
                case (in_data[513:512])
                    2'd0: fibers_a[in_data[549:544]] <= '{in_data[591:576], in_data[623:608]};
                    2'd1: fibers_b[in_data[551:544]] <= '{in_data[591:576], in_data[623:608]};
                    default: rows[in_data[549:544]] <= '{in_data[591:576], in_data[623:608]};
                endcase
        end

    // Bits of a fiber, from a byte on.
    function automatic logic [127:0] unit_of(count_t line, count_t stride, count_t number);
        count_t shift = layer.line_shift - 16'd4;
        return image[12'(((line + (number >> shift) * stride) << shift) | (number & ((16'd1 << shift) - 16'd1)))];
    endfunction
    function automatic logic [WINDOW-1:0] bits_of(count_t line, count_t stride, logic [19:0] first);
        logic [WINDOW-1:0] found;
        for (int i = 0; i < WINDOW / 128; i++) found[128 * i +: 128] = unit_of(line, stride, 16'(first >> 7) + 16'(i));
        return found >> first[6:0];
    endfunction

    // --- Elements and their neurons -----------------------------------------------------------------------------------
    count_t written, number, coming;
    chunk_t chunks[BUFFER], coming_chunks[AT_ONCE];
    count_t taken_of[PES], takes_of[PES], takes_stored_of[PES];
    logic [PES-1:0] begins, ended, summed, passes, takes_sum, released, fired, idle_elements, idle_neurons, arrived;
    logic [PES-1:0] arrived_stored, begun, asked, mask_answered, words_answered, asks_rows, rows_answered, compressed;
    logic [PES-1:0][15:0] word_of;
    logic opens, opens_stored;
    assign opens        = layer.barrier != '0 && arrived == '1;
    assign opens_stored = layer.barrier != '0 && arrived_stored == '1;
    for (genvar p = 0; p < PES; p++) begin : elements
        place_t place;
        chunk_t next_b;
        logic asks_mask, asks_words, neuron_ready, taken;
        count_t row, words_before, first_line, lines, bytes, written_row, words_row;
        logic [127:0] mask;
        logic [127:0][15:0] words;
        logic [WINDOW-1:0] window;
        logic [15:0][31:0] sums;
        logic [127:0] bitmask;
        logic [7:0] number_packed;
        logic [127:0][15:0] packed_words;
        logic inputs_wait, words_wait;
        assign next_b = written != taken_of[p] ? chunks[taken_of[p][3:0]] : coming_chunks[0];
        assign mask = unit_of(fibers_a[row[5:0]].line, layer.stride, place.passed * layer.pass_chunks + place.chunk)
            & inputs_of(place.chunk, layer);
        always_comb begin
            {window, words} = '0;
            if (words_answered[p]) begin
                window = bits_of(fibers_a[words_row[5:0]].line, layer.stride,
                    (20'(layer.word_byte_a) << 3) + 20'(words_before * layer.word_bits));
                for (int i = 0; i < 128; i++)
                    words[i] = window[11'(i * layer.word_bits) +: 16] & ((16'd1 << layer.word_bits) - 16'd1);
            end
        end
        element processing(
            .me(16'(p)), .clk, .rst, .layer, .go, .stored(written - taken_of[p]), .coming, .takes_stored(takes_stored_of[p]),
            .takes(takes_of[p]), .chunk_b(next_b), .asks_mask, .asks_words, .mask_answered(mask_answered[p]),
            .words_answered(words_answered[p]), .place, .memory_mask(mask), .row, .words_before, .words,
            .arrived(arrived[p]), .arrived_stored(arrived_stored[p]), .opens, .opens_stored, .neuron_ready,
            .begins(begins[p]), .ended(ended[p]), .summed(summed[p]), .passes(passes[p]), .begun_group(begun[p]), .taken,
            .sums, .idle(idle_elements[p])
        );
        row_neurons neurons(
            .me(16'(p)), .clk, .rst, .layer, .ready(neuron_ready), .taken, .sums, .released(released[p]), .fired(fired[p]),
            .word(word_of[p]), .compressed(compressed[p]), .bitmask, .number(number_packed), .packed_words,
            .asks(asks_rows[p]), .row(written_row), .first_line, .lines, .bytes, .answered(rows_answered[p]),
            .idle(idle_neurons[p])
        );
        assign takes_sum[p] = taken;
        assign asked[p]     = asks_mask || asks_words;
        assign out_data[352 * (9 + p) +: 352] = {packed_words[11:0], 24'd0, number_packed, bitmask};
        always_ff @(posedge clk) begin
            if (begins[p]) words_row <= row;
            taken_of[p] <= rst ? '0 : taken_of[p] + takes_of[p];
        end
        // The memory answers in the next cycle, however much is asked for.
        always_ff @(posedge clk) begin
            mask_answered[p]  <= asks_mask && !rst;
            words_answered[p] <= asks_words && !rst;
            rows_answered[p]  <= asks_rows[p] && !rst;
        end
    end

    // --- Fibers of B ----------------------------------------------------------------------------------------------------
    logic [SLOTS-1:0] fetched, credits, turns, asks_fibers, fibers_answered, idle_slots;
    for (genvar s = 0; s < SLOTS; s++) begin : slots
        place_t visit;
        count_t first_line, lines;
        fiber_fetcher fetcher(
            .me(16'(s)), .clk, .rst, .layer, .go, .credit(credits[s]), .visit, .all_lines(lines_of(fibers_b[visit.column[7:0]].size, layer)),
            .takes_turn(turns[s]), .asks(asks_fibers[s]), .first_line, .lines, .answered(fibers_answered[s]),
            .fetched(fetched[s]), .idle(idle_slots[s])
        );
        always_ff @(posedge clk) fibers_answered[s] <= asks_fibers[s] && !rst;
    end
    logic room, reads, read_answered, sends, idle_sender;
    place_t asked_place, sent;
    count_t asked_number, furthest_behind;
    always_comb begin
        furthest_behind = '0;
        for (int p = 0; p < PES; p++)
            if (16'(p) < layer.pes && written - taken_of[p] - takes_stored_of[p] > furthest_behind)
                furthest_behind = written - taken_of[p] - takes_stored_of[p];
    end
    assign room = furthest_behind + number <= layer.buffer;
    broadcaster sender(
        .clk, .rst, .layer, .go, .fetched, .room, .number, .asks(reads), .asked(asked_place), .asked_number,
        .answered(read_answered), .sends, .place(sent), .credits, .idle(idle_sender)
    );
    always_ff @(posedge clk) read_answered <= reads && !rst;
    assign coming = sends ? number : '0;
    // Values of a chunk are behind those of all chunks before it.
    count_t values_before, values;
    count_t column_line;
    assign column_line = fibers_b[sent.column[7:0]].line;
    always_comb begin
        values = values_before;
        for (int i = 0; i < AT_ONCE; i++) coming_chunks[i] = '0;
        if (sends)
            for (int i = 0; i < AT_ONCE; i++)
                if (16'(i) < number) begin
                    coming_chunks[i].mask = unit_of(column_line, 16'd1, sent.chunk + 16'(i))
                        & inputs_of(sent.chunk + 16'(i), layer);
                    coming_chunks[i].weights = 1024'(bits_of(column_line, 16'd1, {1'b0, layer.word_byte_b + values, 3'd0}));
                    values = values + 16'($countones(coming_chunks[i].mask));
                end
    end
    always_ff @(posedge clk)
        if (rst) {written, values_before} <= '0;
        else if (sends) begin
            written       <= written + number;
            values_before <= sent.chunk + number == chunks_of(layer) ? '0 : values;
            for (int i = 0; i < AT_ONCE; i++) if (16'(i) < number) chunks[4'(written) + 4'(i)] <= coming_chunks[i];
        end

    // --- Rows of A --------------------------------------------------------------------------------------------------------
    logic row_turns, asks_lines, lines_answered, idle_rows;
    count_t fetched_group, fetched_line, fetched_lines, group_lines, row_number;
    always_comb begin
        {group_lines, row_number} = '0;
        for (int p = 0; p < PES; p++) begin
            row_number = fetched_group * layer.pes + 16'(p);
            if (16'(p) < layer.pes && row_number < layer.rows)
                group_lines = group_lines + lines_of(fibers_a[row_number[5:0]].size, layer);
        end
    end
    row_fetcher rows_ahead(
        .clk, .rst, .layer, .go, .begun(begun[0]), .group(fetched_group), .all_lines(group_lines), .takes_turn(row_turns),
        .asks(asks_lines), .first_line(fetched_line), .lines(fetched_lines), .answered(lines_answered), .idle(idle_rows)
    );
    always_ff @(posedge clk) lines_answered <= asks_lines && !rst;

    logic over;
    assign over = idle_elements == '1 && idle_neurons == '1 && idle_slots == '1 && idle_sender && idle_rows;
    assign out_valid = {
        over, sends, reads, lines_answered, row_turns, fibers_answered != '0, turns != '0, rows_answered != '0, compressed,
        fired != '0, released != '0, takes_sum != '0, passes != '0, summed != '0, ended != '0,
        (mask_answered | words_answered) != '0, coming_takes != '0, begins != '0
    };
    logic [31:0] coming_takes;
    always_comb for (int p = 0; p < PES; p++) coming_takes[8 * p +: 8] = begins[p] ? '0 : takes_of[p][7:0];
    assign out_data[352 * 0 +: 352] = 352'(begins);
    assign out_data[352 * 1 +: 352] = 352'(coming_takes);
    assign out_data[352 * 2 +: 352] = 352'({mask_answered | words_answered});
    assign out_data[352 * 3 +: 352] = 352'(ended);
    assign out_data[352 * 4 +: 352] = 352'(summed);
    assign out_data[352 * 5 +: 352] = 352'(passes);
    assign out_data[352 * 6 +: 352] = 352'(takes_sum);
    assign out_data[352 * 7 +: 352] = 352'(released);
    assign out_data[352 * 8 +: 352] = 352'({word_of, 28'd0, fired});
    assign out_data[352 * 13 +: 352] = 352'(rows_answered);
    assign out_data[352 * 14 +: 352] = 352'(turns);
    assign out_data[352 * 15 +: 352] = 352'(fibers_answered);
    assign out_data[352 * 16 +: 1760] = '0;
endmodule
