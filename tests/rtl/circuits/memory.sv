// The memory of a machine: a banked cache behind crossbar switches and a broadcast bus, miss registers or those of a DMA,
// and DRAM channels. Who asks has a port (`memory_port`) with places for the requests of an operation. It says when a
// request is done; words are not stored here.

package memory_types;
    typedef logic [31:0] word_t;
    typedef struct packed {
        word_t banks, sets, ways, fill_beats;
        word_t registers;                               // of misses, or of a DMA
        word_t keeps_live;                              // 1: lines of the epoch stay
        word_t read_cycles, own_cycles, write_cycles;   // from the last beat to its data: read, read by another path, write
        word_t read_inputs, read_outputs, write_inputs, write_outputs;  // of the switches
        word_t channels, turn, row_lines, dram_banks;   // lines of a channel's turn, of a row
        word_t per_cycle, per_line;                     // fractions of a cycle and of a line
        word_t hit_cycles, miss_cycles;                 // of a row
        word_t refresh_interval, refresh_cycles;
        word_t ideal;                                   // 1: every port has all that it asks for a cycle later
    } memory_t;
    localparam int MEMORY_WORDS = 24;
endpackage

// Sends the requests of an operation, one a cycle: in the cycle in which it begins the one in place 0. `ended` is the cycle
// in which the last of them is done.
module memory_port #(
    parameter int PLACES = 8,
    localparam type place_t = logic [$clog2(PLACES)-1:0]
) (
    input  logic              clk,
    input  logic              rst,
    input  logic              ideal,
    input  logic              begins,
    input  logic [7:0]        count,  // of requests, at least one
    output logic              asks,
    output place_t            place,
    input  logic [PLACES-1:0] done,
    output logic              ended
);
    logic busy;
    logic [7:0] sent, held, so_far;
    assign asks   = !ideal && (begins || busy && sent < held);
    assign place  = begins ? '0 : place_t'(sent);
    assign ended  = busy && (ideal || so_far + 8'($countones(done)) == held);
    always_ff @(posedge clk) begin
        if (begins) held <= count;
        sent   <= begins ? 8'd1 : sent + 8'(asks);
        so_far <= begins ? 8'd0 : so_far + 8'($countones(done));
        busy   <= !rst && (begins || busy && !ended);
    end
endmodule

// The line in place `place` of those that bytes `first` to `behind` of a fiber touch, and the beats of its part.
module lines_of_bytes
    import cache_types::*;
(
    input  logic [31:0] base,        // the fiber's first line
    input  logic [31:0] first,
    input  logic [31:0] behind,
    input  logic [4:0]  line_shift,  // of its bytes
    input  logic [4:0]  beat_shift,
    input  logic [7:0]  place,
    output line_t       line,
    output cycles_t     beats,
    output logic [7:0]  count
);
    logic [31:0] index, begins, ends;
    assign index  = (first >> line_shift) + 32'(place);
    assign begins = place == '0 ? first : index << line_shift;
    assign ends   = behind < (index + 32'd1) << line_shift ? behind : (index + 32'd1) << line_shift;
    assign line   = line_t'(base + index);
    assign beats  = cycles_t'((ends - begins + (32'd1 << beat_shift) - 32'd1) >> beat_shift);
    assign count  = first < behind ? 8'(((behind - 32'd1) >> line_shift) - (first >> line_shift) + 32'd1) : '0;
endmodule

module memory
    import cache_types::*, memory_types::*;
#(
    parameter int PORTS = 8,
    parameter int PLACES = 8,      // requests of an operation, at most
    parameter int REGISTERS = 16,  // at most
    localparam type place_t = logic [$clog2(PLACES)-1:0]
) (
    input  logic                 clk,
    input  logic                 rst,
    input  memory_t              spec,
    input  lane_t [PORTS-1:0]    lane,
    input  logic [PORTS-1:0]     asks,
    input  place_t [PORTS-1:0]   place,
    input  wanted_t [PORTS-1:0]  wants,
    output logic [PORTS-1:0][PLACES-1:0] done
);
    localparam int REQUESTS = PORTS * PLACES;
    typedef logic [$clog2(REQUESTS)-1:0] number_t;  // of a request, by port and place
    typedef logic [$clog2(REQUESTS+1)-1:0] count_t;
    typedef logic [$clog2(REGISTERS)-1:0] register_t;
    typedef enum logic [3:0] {AT_BANK, AT_DISPLACED, AT_MSHR, AT_CHANNEL, AT_ROW, AT_FILL, AT_DELIVERY, DONE} stage_t;

    // --- Requests: what they want, where they go next and in how many cycles -----------------------------------------
    typedef struct packed {
        wanted_t    of;
        logic [1:0] bank;
        logic [3:0] index;         // the set
        logic       writes;
        logic [2:0] enters, leaves;
    } known_t;
    typedef struct packed {
        stage_t      next;
        logic        under_way;    // to it, for so many cycles more, or fractions of one on the bus of a channel
        logic        on_bus;
        logic [39:0] left;
        logic [15:0] row_cycles;   // behind its burst
        logic        kept;         // the line has a way
        logic [2:0]  way;
        line_t       displaced;
        number_t     fetched_by;   // who brings in its line
        register_t   from;         // the register that has, or hands on, its line
        logic        listed;       // it waits for no more than its turn
    } request_t;
    known_t known[REQUESTS], wanted[REQUESTS];
    request_t request[REQUESTS], following[REQUESTS];
    stage_t at[REQUESTS];
    logic [REQUESTS-1:0] issued, arrives, picked, wants_line, switched, bus, writes, to_bank, to_mshr, granted;
    logic [REQUESTS-1:0][1:0] bank;
    logic [REQUESTS-1:0][2:0] enters, leaves;
    logic [CHANNELS-1:0][REQUESTS-1:0] to_channel;
    logic [CHANNELS-1:0] channel_grants;
    number_t [CHANNELS-1:0] channel_first;
    logic [CHANNELS-1:0][39:0] until_end;
    logic [CHANNELS-1:0][15:0] row_cycles;

    function automatic known_t decoded(wanted_t one, lane_t from);
        word_t line = 32'(one.line), entry = 32'(from) - 32'd2;
        known_t found;
        found.of     = one;
        found.bank   = 2'(line % spec.banks);
        found.index  = 4'(line / spec.banks % spec.sets);
        found.writes = one.mode inside {STREAM_WRITE, RESIDENT_WRITE, CACHED_WRITE};
        found.enters = 3'(entry % (found.writes ? spec.write_inputs : spec.read_inputs));
        found.leaves = 3'(32'(found.bank) % (found.writes ? spec.write_outputs : spec.read_outputs));
        return found;
    endfunction
    always_comb
        for (int r = 0; r < REQUESTS; r++) begin
            arrives[r] = request[r].under_way && request[r].left == '0;
            done[r / PLACES][r % PLACES] = arrives[r] && request[r].next == DONE;
        end
    line_t sent;
    always_comb begin
        sent = '0;
        to_channel = '0;
        for (int r = 0; r < REQUESTS; r++) begin
            issued[r] = asks[r / PLACES] && 32'(place[r / PLACES]) == r % PLACES;
            wanted[r] = known[r];
            if (issued[r]) wanted[r] = decoded(wants[r / PLACES], lane[r / PLACES]);
            at[r]      = issued[r] ? AT_BANK : picked[r] ? AT_DELIVERY : request[r].next;
            to_bank[r] = issued[r] && wanted[r].of.mode != STREAM_READ || picked[r]
                || arrives[r] && request[r].next == AT_FILL;
            to_mshr[r] = issued[r] && wanted[r].of.mode == STREAM_READ || arrives[r] && request[r].next == AT_MSHR;
            if (arrives[r] && request[r].next inside {AT_CHANNEL, AT_DISPLACED}) begin
                sent = request[r].next == AT_DISPLACED ? request[r].displaced : wanted[r].of.line;
                to_channel[2'(32'(sent) / spec.turn % spec.channels)][r] = 1'b1;
            end
            wants_line[r] = wanted[r].of.mode inside {CACHED_READ, CONSUME};
            writes[r]     = wanted[r].writes;
            bank[r]       = wanted[r].bank;
            switched[r]   = lane[r / PLACES] > OWN_PATH && at[r] != AT_FILL;
            bus[r]        = lane[r / PLACES] == BUS && at[r] != AT_FILL && !writes[r];
            {enters[r], leaves[r]} = {wanted[r].enters, wanted[r].leaves};
        end
    end

    // --- Banks, and the paths to them -----------------------------------------------------------------------------------
    number_t bank_queue[REQUESTS], unused_bank[REQUESTS];
    count_t bank_count, unused_bank_count;
    cycles_t bank_left[BANKS], bus_left;
    cycles_t [1:0][SWITCH_PORTS-1:0] input_left, output_left;
    logic [BANKS-1:0] bank_held;
    logic [1:0][SWITCH_PORTS-1:0] input_held, output_held;
    always_comb begin
        for (int b = 0; b < BANKS; b++) bank_held[b] = bank_left[b] != '0;
        for (int s = 0; s < 2; s++)
            for (int p = 0; p < SWITCH_PORTS; p++) begin
                input_held[s][p]  = input_left[s][p] != '0;
                output_held[s][p] = output_left[s][p] != '0;
            end
    end
    age_queue #(.NUMBERS(REQUESTS)) waits_for_bank(
        .clk, .rst, .arriving(to_bank), .leaving(granted), .held(unused_bank), .held_count(unused_bank_count),
        .queue(bank_queue), .count(bank_count)
    );
    bank_arbiter #(.REQUESTS(REQUESTS)) arbiter(
        .queue(bank_queue), .count(bank_count), .bank, .switched, .bus, .writes, .enters, .leaves, .bank_held, .input_held,
        .output_held, .bus_held(bus_left != '0), .granted
    );
    logic [BANKS-1:0] serves, filled, delivered, looks_up, displaces, misses;
    number_t served[BANKS], brought_by[BANKS];
    cycles_t hold[BANKS], until_data[BANKS];
    outcome_t outcome[BANKS];
    logic [2:0] found_way[BANKS];
    line_t displaced_line[BANKS];
    always_comb begin
        serves = '0;
        for (int b = 0; b < BANKS; b++) served[b] = '0;
        if (granted != '0)
            for (int r = 0; r < REQUESTS; r++)
                if (granted[r]) {serves[bank[r]], served[bank[r]]} = {1'b1, number_t'(r)};
    end
    for (genvar b = 0; b < BANKS; b++) begin : all_banks
        number_t r;
        known_t asked;
        access_t access;
        assign r      = served[b];
        assign asked  = wanted[r];
        assign access = asked.of.mode == CACHED_WRITE ? WRITE : asked.of.mode == CONSUME ? TAKE : READ;
        assign looks_up[b] = serves[b] && at[r] == AT_BANK
            && asked.of.mode inside {CACHED_READ, PREFETCH, CACHED_WRITE, CONSUME};
        assign filled[b]    = serves[b] && at[r] == AT_FILL;
        assign delivered[b] = serves[b] && at[r] == AT_DELIVERY;
        cache_tags #(.number_t(number_t)) bank_tags(
            .clk, .rst, .ways(4'(spec.ways)), .keeps_live(spec.keeps_live[0]), .looks_up(looks_up[b]),
            .line(asked.of.line), .index(asked.index), .epoch(asked.of.epoch), .access, .request(r), .outcome(outcome[b]),
            .way(found_way[b]), .displaces(displaces[b]), .displaced(displaced_line[b]), .fetched_by(brought_by[b]),
            .fills(filled[b] && request[r].kept), .fill_way(request[r].way)
        );
        assign misses[b] = looks_up[b] && asked.of.mode != CACHED_WRITE && outcome[b] != HIT;
        always_comb begin
            hold[b] = filled[b] ? 8'(spec.fill_beats) : misses[b] ? 8'd1 : asked.of.beats;
            until_data[b] = misses[b] ? 8'd1
                : asked.of.beats - 8'd1
                + 8'(asked.writes ? spec.write_cycles : switched[r] ? spec.read_cycles : spec.own_cycles);
            if (looks_up[b] && displaces[b]) begin
                hold[b]       = hold[b] + 8'(spec.fill_beats);
                until_data[b] = until_data[b] + 8'(spec.fill_beats);
            end
        end
        always_ff @(posedge clk)
            if (rst) bank_left[b] <= '0;
            else if (serves[b]) bank_left[b] <= hold[b] - 8'd1;
            else if (bank_left[b] != '0) bank_left[b] <= bank_left[b] - 8'd1;
    end
    always_ff @(posedge clk) begin
        for (int s = 0; s < 2; s++)
            for (int p = 0; p < SWITCH_PORTS; p++) begin
                if (input_left[s][p] != '0) input_left[s][p] <= input_left[s][p] - 8'd1;
                if (output_left[s][p] != '0) output_left[s][p] <= output_left[s][p] - 8'd1;
            end
        if (bus_left != '0) bus_left <= bus_left - 8'd1;
        for (int b = 0; b < BANKS; b++)
            if (serves[b]) begin
                if (switched[served[b]]) begin
                    input_left[writes[served[b]]][enters[served[b]]]  <= hold[b] - 8'd1;
                    output_left[writes[served[b]]][leaves[served[b]]] <= hold[b] - 8'd1;
                end
                if (bus[served[b]]) bus_left <= hold[b] - 8'd1;
            end
        if (rst) {input_left, output_left, bus_left} <= '0;
    end

    // --- Registers of misses: who waits for one, and who waits for the line of one ----------------------------------------
    number_t mshr_queue[REQUESTS], unused_mshr[REQUESTS], waiting[REQUESTS], unused_waiting[REQUESTS];
    count_t mshr_count, unused_mshr_count, waiting_count, unused_waiting_count;
    logic [REQUESTS-1:0] joins, mshr_granted;
    register_t mshr_of[REQUESTS];
    logic [REGISTERS-1:0] taken, serving, turns, handed, released, free;
    cycles_t turn_in[REGISTERS];  // of the next that waits for its line
    age_queue #(.NUMBERS(REQUESTS)) waits_for_mshr(
        .clk, .rst, .arriving(to_mshr), .leaving(mshr_granted), .held(unused_mshr), .held_count(unused_mshr_count),
        .queue(mshr_queue), .count(mshr_count)
    );
    age_queue #(.NUMBERS(REQUESTS)) waits_for_line(
        .clk, .rst, .arriving(joins), .leaving(picked), .held(waiting), .held_count(waiting_count),
        .queue(unused_waiting), .count(unused_waiting_count)
    );
    number_t one;
    always_comb begin
        for (int m = 0; m < REGISTERS; m++) turns[m] = serving[m] && turn_in[m] == '0;
        handed = '0;
        picked = '0;
        one    = '0;
        if (turns != '0)
            for (int i = 0; i < REQUESTS; i++)
                if (count_t'(i) < waiting_count) begin
                    one = waiting[i];
                    if (request[one].listed && turns[request[one].from] && !handed[request[one].from])
                        {handed[request[one].from], picked[one]} = 2'b11;
                end
        released = turns & ~handed;
    end
    always_comb begin
        mshr_granted = '0;
        free = ~taken | released;
        for (int r = 0; r < REQUESTS; r++) mshr_of[r] = '0;
        if (mshr_count != '0) begin
            for (int i = 0; i < REQUESTS; i++)
                if (count_t'(i) < mshr_count && free != '0) begin
                    for (int m = REGISTERS - 1; m >= 0; m--) if (free[m]) mshr_of[mshr_queue[i]] = register_t'(m);
                    free = free & (free - 1'b1);
                    mshr_granted[mshr_queue[i]] = 1'b1;
                end
        end
    end
    always_comb begin
        joins = '0;
        for (int b = 0; b < BANKS; b++) if (misses[b] && wants_line[served[b]]) joins[served[b]] = 1'b1;
    end
    always_ff @(posedge clk) begin
        for (int m = 0; m < REGISTERS; m++) begin
            if (serving[m]) turn_in[m] <= turn_in[m] - 8'd1;
            if (turns[m]) serving[m] <= 1'b0;
            taken[m] <= rst ? m >= spec.registers : !free[m];
        end
        for (int b = 0; b < BANKS; b++)
            if (filled[b] || delivered[b]) begin
                serving[request[served[b]].from] <= 1'b1;
                turn_in[request[served[b]].from] <= hold[b] - 8'd1;
            end
        if (rst) serving <= '0;
    end

    // --- Channels ---------------------------------------------------------------------------------------------------------
    for (genvar c = 0; c < CHANNELS; c++) begin : all_channels
        number_t queue[REQUESTS], unused[REQUESTS];
        count_t count, unused_count;
        line_t line;
        word_t turn, row;
        age_queue #(.NUMBERS(REQUESTS)) waits(
            .clk, .rst, .arriving(to_channel[c]), .leaving(channel_grants[c] ? REQUESTS'(1) << queue[0] : '0), .held(unused),
            .held_count(unused_count), .queue, .count
        );
        assign channel_first[c] = queue[0];
        assign line = request[queue[0]].next == AT_DISPLACED ? request[queue[0]].displaced : wanted[queue[0]].of.line;
        always_comb begin
            {turn, row} = '0;
            if (count != '0) begin
                turn = 32'(line) / spec.turn / spec.channels;
                row  = (turn * spec.turn + 32'(line) % spec.turn) / spec.row_lines;
            end
        end
        dram_channel channel(
            .clk, .rst, .asks(count != '0), .row(row[15:0]), .bank(2'(row % spec.dram_banks)), .per_cycle(spec.per_cycle),
            .per_line(spec.per_line), .hit_cycles(spec.hit_cycles[15:0]), .miss_cycles(spec.miss_cycles[15:0]),
            .refresh_interval(spec.refresh_interval[15:0]), .refresh_cycles(spec.refresh_cycles[15:0]),
            .granted(channel_grants[c]), .until_end(until_end[c]), .latency(row_cycles[c])
        );
    end

    // --- What comes next ----------------------------------------------------------------------------------------------------
    logic [1:0] b;
    number_t first;
    always_comb begin
        {b, first} = '0;
        for (int r = 0; r < REQUESTS; r++) begin
            b = bank[r];
            following[r] = request[r];
            following[r].next = at[r];
            if (arrives[r]) {following[r].under_way, following[r].on_bus} = '0;
            else if (request[r].on_bus)
                following[r].left = request[r].left > 40'(spec.per_cycle) ? request[r].left - 40'(spec.per_cycle) : '0;
            else if (request[r].under_way) following[r].left = request[r].left - 40'd1;
            if (arrives[r] && request[r].next == AT_ROW) begin
                following[r].next      = AT_FILL;
                following[r].under_way = 1'b1;
                following[r].left      = 40'(request[r].row_cycles) - 40'd1;
            end
            // What those before in its place have found is forgotten.
            if (issued[r]) {following[r].kept, following[r].listed} = '0;
            if (picked[r]) following[r].listed = 1'b0;
            if (granted[r] && at[r] == AT_FILL) begin
                following[r].listed = wants_line[r];
                if (!wants_line[r]) begin
                    following[r].next      = DONE;
                    following[r].under_way = 1'b1;
                    following[r].left      = 40'(spec.fill_beats) - 40'd1;
                end
            end else if (granted[r]) begin
                following[r].left      = 40'(until_data[b]) - 40'd1;
                following[r].under_way = !(looks_up[b] && outcome[b] == MERGED);
                following[r].next      = wanted[r].of.mode == STREAM_WRITE ? AT_CHANNEL : DONE;
                if (looks_up[b]) begin
                    if (outcome[b] == MERGED) following[r].next = AT_BANK;
                    else if (displaces[b]) following[r].next = AT_DISPLACED;
                    else if (misses[b]) following[r].next = AT_MSHR;
                    following[r].way        = found_way[b];
                    following[r].kept       = outcome[b] == MISS || outcome[b] == MERGED;
                    following[r].displaced  = displaced_line[b];
                    following[r].fetched_by = outcome[b] == MERGED ? brought_by[b] : number_t'(r);
                end
            end else if (filled[b] && request[r].next == AT_BANK && !request[r].under_way && !request[r].listed
                    && request[r].kept && request[r].fetched_by == served[b]) begin
                following[r].from   = request[served[b]].from;
                following[r].listed = wants_line[r];
                if (!wants_line[r]) begin
                    following[r].next      = DONE;
                    following[r].under_way = 1'b1;
                    following[r].left      = 40'(spec.fill_beats) - 40'd1;
                end
            end
            if (mshr_granted[r]) begin
                following[r].next      = AT_CHANNEL;
                following[r].under_way = 1'b1;
                following[r].left      = '0;
                following[r].from      = mshr_of[r];
            end
        end
        for (int c = 0; c < CHANNELS; c++)
            if (channel_grants[c]) begin
                first = channel_first[c];
                following[first].under_way  = 1'b1;
                following[first].on_bus     = 1'b1;
                following[first].left       = until_end[c] > 40'(spec.per_cycle) ? until_end[c] - 40'(spec.per_cycle) : '0;
                following[first].row_cycles = row_cycles[c];
                following[first].next       = wanted[first].of.mode inside {STREAM_WRITE, CACHED_WRITE} ? DONE
                    : request[first].next == AT_DISPLACED ? AT_MSHR : AT_ROW;
            end
        if (rst) for (int r = 0; r < REQUESTS; r++) following[r] = '0;
    end
    always_ff @(posedge clk) begin
        known   <= wanted;
        request <= following;
    end
endmodule
