// Memory and tables of fibers in, then the start; out: what each element, neuron unit and fetcher does in a cycle, the
// words that fire, compressed rows, and the end.
// needs: age_queue.sv cache.sv dram.sv memory.sv inner_join.sv prefix_sums.sv neurons.sv inner_product.sv
module circuit
    import inner_product_types::*, cache_types::*, memory_types::*;
(
    input  logic           clk,
    input  logic           rst,
    input  logic [1951:0]  settings,  // fields of layer_t and of memory_t
    input  logic [2:0]     in_valid,
    output logic [2:0]     in_ready,
    input  logic [1535:0]  in_data,   // 512 bits of memory; 0 to 2: row of A, column of B, row of the output; its number,
                                      // line and bytes; nothing
    output logic [20:0]    out_valid,
    output logic [7391:0]  out_data
);
    // Settings and the start go through registers, so that little follows the inputs directly.
    localparam int FIELDS = $bits(layer_t) / 16;
    layer_t layer;
    memory_t spec;
    always_ff @(posedge clk)
        if (rst) begin
            for (int i = 0; i < FIELDS; i++) layer[16 * (FIELDS - 1 - i) +: 16] <= settings[32 * i +: 16];
            for (int i = 0; i < MEMORY_WORDS; i++)
                spec[32 * (MEMORY_WORDS - 1 - i) +: 32] <= settings[32 * (FIELDS + i) +: 32];
        end
    localparam int WORDS = 4096;
    logic [127:0] image[WORDS];
    fiber_t fibers_a[64], fibers_b[256], rows[64];
    logic [11:0] loaded;
    logic go, started;
    assign in_ready = '1;
    always_ff @(posedge clk) begin
        go      <= in_valid[2] && !rst;
        started <= (go || started) && !rst;
    end
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

    // It begins with the machine, as its refreshes count from there.
    // Ports of the memory: of the elements, of their neuron units, of the slots, of the broadcaster, of the row fetcher.
    localparam int PORTS = 2 * PES + SLOTS + 2, SENDER = 2 * PES + SLOTS, ROWS = SENDER + 1;
    lane_t [PORTS-1:0] lane;
    logic [PORTS-1:0] asks;
    logic [PORTS-1:0][3:0] places;
    wanted_t [PORTS-1:0] wants;
    logic [PORTS-1:0][LINES-1:0] done;
    logic ideal;
    assign ideal = spec.ideal[0];
    memory #(.PORTS(PORTS), .PLACES(LINES), .REGISTERS(16)) all_memory(
        .clk, .rst(rst || !(go || started)), .spec, .lane, .asks, .place(places), .wants, .done
    );
    always_comb
        for (int i = 0; i < PORTS; i++)
            lane[i] = i < PES ? 8'(i + 2) : i < 2 * PES ? 8'(i - PES + 2) : i == SENDER ? BUS : OWN_PATH;

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
    logic [PES-1:0] arrived_stored, begun, answered, mask_answered, words_answered, asks_rows, rows_answered, compressed;
    logic [PES-1:0][15:0] word_of;
    logic opens, opens_stored;
    assign opens        = layer.barrier != '0 && arrived == '1;
    assign opens_stored = layer.barrier != '0 && arrived_stored == '1;
    for (genvar p = 0; p < PES; p++) begin : elements
        place_t place, following;
        chunk_t next_b;
        logic asks_mask, asks_words, neuron_ready, taken;
        count_t row, words_so_far, words_before, first_line, lines, bytes, written_row, words_row;
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
            .words_answered(words_answered[p]), .place, .following, .memory_mask(mask), .row, .words_so_far, .words_before,
            .words,
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
        assign out_data[352 * (9 + p) +: 352] = {packed_words[11:0], 24'd0, number_packed, bitmask};
        always_ff @(posedge clk) begin
            if (begins[p]) words_row <= row;
            taken_of[p] <= rst ? '0 : taken_of[p] + takes_of[p];
        end
        // The bitmask of the next chunk, and the words of the one that is taken.
        count_t next_row, next_byte;
        range_t reads[2], writes[1];
        assign next_row  = following.group * layer.pes + 16'(p);
        assign next_byte = (following.passed * layer.pass_chunks + following.chunk) << 4;
        always_comb begin
            reads = '{default: '0};
            if (asks_mask) reads[0] = '{fibers_a[next_row[5:0]].line, layer.stride, next_byte, next_byte + 16'd16,
                following.first};
            if (asks_words) begin
                reads[1] = '{fibers_a[row[5:0]].line, layer.stride, words_so_far * layer.word_bits,
                    (words_so_far + 16'($countones(mask))) * layer.word_bits + 16'd7, place.first};
                reads[1].first  = layer.word_byte_a + (reads[1].first >> 3);
                reads[1].behind = layer.word_byte_a + (reads[1].behind >> 3);
            end
        end
        range_port #(.RANGES(2)) read_port(
            .clk, .rst, .layer, .ideal, .mode(CACHED_READ), .begins(asks_mask || asks_words),
            .ranges(reads), .asks(asks[p]), .place(places[p]), .wants(wants[p]), .done(done[p]), .ended(answered[p]),
            .range_ended({words_answered[p], mask_answered[p]})
        );
        always_comb begin
            writes[0] = '{rows[written_row[5:0]].line, 16'd1, first_line << layer.line_shift, bytes, '0};
            writes[0].behind = least(bytes, (first_line + lines) << layer.line_shift);
        end
        logic unused;
        range_port write_port(
            .clk, .rst, .layer, .ideal, .mode(STREAM_WRITE), .begins(asks_rows[p]), .ranges(writes),
            .asks(asks[PES + p]), .place(places[PES + p]), .wants(wants[PES + p]), .done(done[PES + p]),
            .ended(rows_answered[p]), .range_ended(unused)
        );
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
        range_t reads[1];
        always_comb begin
            reads[0] = '{fibers_b[visit.column[7:0]].line, 16'd1, first_line << layer.line_shift, '0, '0};
            reads[0].behind = least(fibers_b[visit.column[7:0]].size, (first_line + lines) << layer.line_shift);
        end
        logic unused;
        range_port port(
            .clk, .rst, .layer, .ideal, .mode(STREAM_READ), .begins(asks_fibers[s]), .ranges(reads),
            .asks(asks[2 * PES + s]), .place(places[2 * PES + s]), .wants(wants[2 * PES + s]), .done(done[2 * PES + s]),
            .ended(fibers_answered[s]), .range_ended(unused)
        );
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
    assign coming = sends ? number : '0;
    // Bitmask and values of the chunks that are read. How many values they have was counted when the fiber came from DRAM.
    range_t sender_reads[2];
    count_t asked_values, asked_line, asked_byte;
    always_comb begin
        asked_byte   = '0;
        asked_line   = fibers_b[asked_place.column[7:0]].line;
        asked_values = '0;
        sender_reads = '{default: '0};
        if (reads) begin
            for (int i = 0; i < AT_ONCE; i++)
                if (16'(i) < asked_number)
                    asked_values = asked_values + 16'($countones(unit_of(asked_line, 16'd1, asked_place.chunk + 16'(i))
                        & inputs_of(asked_place.chunk + 16'(i), layer)));
            asked_byte = layer.word_byte_b + (asked_place.chunk == '0 ? '0 : sends ? values : values_before);
            sender_reads[0] = '{asked_line, 16'd1, asked_place.chunk << 4,
                least((asked_place.chunk + asked_number) << 4, (layer.inputs + 16'd7) >> 3), '0};
            sender_reads[1] = '{asked_line, 16'd1, asked_byte, asked_byte + asked_values, '0};
        end
    end
    logic [1:0] unused_ranges;
    range_port #(.RANGES(2)) sender_port(
        .clk, .rst, .layer, .ideal, .mode(RESIDENT_READ), .begins(reads), .ranges(sender_reads),
        .asks(asks[SENDER]), .place(places[SENDER]), .wants(wants[SENDER]), .done(done[SENDER]), .ended(read_answered),
        .range_ended(unused_ranges)
    );
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
    count_t fetched_group, first_of_tile, fetched_line, fetched_lines, group_lines, row_number;
    always_comb begin
        {group_lines, row_number} = '0;
        for (int p = 0; p < PES; p++) begin
            row_number = fetched_group * layer.pes + 16'(p);
            if (16'(p) < layer.pes && row_number < layer.rows)
                group_lines = group_lines + lines_of(fibers_a[row_number[5:0]].size, layer);
        end
    end
    row_fetcher rows_ahead(
        .clk, .rst, .layer, .go, .begun(begun[0]), .group(fetched_group), .first(first_of_tile), .all_lines(group_lines), .takes_turn(row_turns),
        .asks(asks_lines), .first_line(fetched_line), .lines(fetched_lines), .answered(lines_answered), .idle(idle_rows)
    );
    // The part of each row's lines that is in turn.
    range_t rows_read[PES];
    count_t lines_before, row_lines;
    always_comb begin
        {lines_before, row_lines} = '0;
        rows_read = '{default: '0};
        for (int p = 0; p < PES; p++)
            if (16'(p) < layer.pes && fetched_group * layer.pes + 16'(p) < layer.rows) begin
                row_lines = lines_of(fibers_a[6'(fetched_group * layer.pes + 16'(p))].size, layer);
                rows_read[p] = '{fibers_a[6'(fetched_group * layer.pes + 16'(p))].line, layer.stride,
                    fetched_line > lines_before ? fetched_line - lines_before : '0,
                    fetched_line + fetched_lines > lines_before
                        ? least(row_lines, fetched_line + fetched_lines - lines_before) : '0, first_of_tile};
                rows_read[p].first  = rows_read[p].first << layer.line_shift;
                rows_read[p].behind = rows_read[p].behind << layer.line_shift;
                lines_before = lines_before + row_lines;
            end
    end
    logic [PES-1:0] unused_rows;
    range_port #(.RANGES(PES)) rows_port(
        .clk, .rst, .layer, .ideal, .mode(PREFETCH), .begins(asks_lines), .ranges(rows_read),
        .asks(asks[ROWS]), .place(places[ROWS]), .wants(wants[ROWS]), .done(done[ROWS]), .ended(lines_answered),
        .range_ended(unused_rows)
    );

    logic over;
    assign over = idle_elements == '1 && idle_neurons == '1 && idle_slots == '1 && idle_sender && idle_rows;
    assign out_valid = {
        over, sends, reads, lines_answered, row_turns, fibers_answered != '0, turns != '0, rows_answered != '0, compressed,
        fired != '0, released != '0, takes_sum != '0, passes != '0, summed != '0, ended != '0,
        answered != '0, coming_takes != '0, begins != '0
    };
    logic [31:0] coming_takes;
    always_comb for (int p = 0; p < PES; p++) coming_takes[8 * p +: 8] = begins[p] ? '0 : takes_of[p][7:0];
    assign out_data[352 * 0 +: 352] = 352'(begins);
    assign out_data[352 * 1 +: 352] = 352'(coming_takes);
    assign out_data[352 * 2 +: 352] = 352'(answered);
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
