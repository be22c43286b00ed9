// Requests of eight agents in; out: which of them are done in a cycle, for each agent, and when all are.
// needs: cache.sv
module circuit
    import cache_types::*;
(
    input  logic          clk,
    input  logic          rst,
    input  logic [831:0]  settings,  // requests in all, banks, sets, ways, beats of a fill, miss registers, 1: live lines
                                     // stay, channels, lines of a channel's turn, cycles of a burst, of the latency behind
                                     // it, from the last beat to its data: read, read by another path, write; inputs and
                                     // outputs of the read and of the write switch; for each agent its lane + 2, 1: a path
                                     // of its own, 0: the bus
    input  logic [7:0]    in_valid,
    output logic [7:0]    in_ready,
    input  logic [1023:0] in_data,   // line, beats, mode, epoch
    output logic [8:0]    out_valid,
    output logic [287:0]  out_data
);
    logic [31:0] banks, sets, ways, channels, turn;
    cycles_t fill_beats, burst, latency, read_cycles, own_cycles, write_cycles;
    logic [3:0] inputs[2], outputs[2];
    assign in_ready     = '1;
    assign banks        = settings[32 * 1 +: 32];
    assign sets         = settings[32 * 2 +: 32];
    assign ways         = settings[32 * 3 +: 32];
    assign fill_beats   = settings[32 * 4 +: 8];
    assign channels     = settings[32 * 7 +: 32];
    assign turn         = settings[32 * 8 +: 32];
    assign burst        = settings[32 * 9 +: 8];
    assign latency      = settings[32 * 10 +: 8];
    assign read_cycles  = settings[32 * 11 +: 8];
    assign own_cycles   = settings[32 * 12 +: 8];
    assign write_cycles = settings[32 * 13 +: 8];
    assign inputs[0]    = settings[32 * 14 +: 4];
    assign outputs[0]   = settings[32 * 15 +: 4];
    assign inputs[1]    = settings[32 * 16 +: 4];
    assign outputs[1]   = settings[32 * 17 +: 4];

    // --- Requests: what they want, where they go next and in how many cycles -----------------------------------------
    typedef struct packed {
        line_t      line;
        logic [3:0] beats;
        mode_t      mode;
        logic [7:0] epoch;
    } wanted_t;
    typedef struct packed {
        stage_t     next;
        logic       under_way;   // to it, for so many cycles more
        cycles_t    left;
        logic       kept;        // the line has a way
        logic [1:0] way;
        line_t      displaced;
        number_t    fetched_by;  // who brings in its line
        logic       serving;     // its line is in its miss register, and the next one's turn is in so many cycles
        cycles_t    turn_in;
    } request_t;
    wanted_t stored[REQUESTS], wanted[REQUESTS];
    request_t request[REQUESTS], following[REQUESTS];
    stage_t at[REQUESTS];
    logic [REQUESTS-1:0] issued, arrives, picked, done, writes, wants_line, switched, bus, to_bank, to_mshr;
    logic [REQUESTS-1:0] granted, mshr_granted;
    logic [REQUESTS-1:0][1:0] bank;
    logic [REQUESTS-1:0][2:0] enters, leaves;
    logic [CHANNELS-1:0][REQUESTS-1:0] to_channel, channel_granted;
    logic [AGENTS-1:0][3:0] place;
    logic [31:0] channel, lane;
    line_t sent;
    logic [2:0] agent;
    always_comb begin
        {channel, lane, sent, agent} = '0;
        for (int r = 0; r < REQUESTS; r++) begin
            agent     = 3'(r / PLACES);
            lane      = settings[32 * (18 + 32'(agent)) +: 32];
            issued[r] = in_valid[agent] && 32'(place[agent]) == r % PLACES;
            wanted[r] = stored[r];
            if (issued[r]) begin
                wanted[r].line  = in_data[128 * 32'(agent) +: 8];
                wanted[r].beats = in_data[128 * 32'(agent) + 32 +: 4];
                wanted[r].mode  = mode_t'(in_data[128 * 32'(agent) + 64 +: 3]);
                wanted[r].epoch = in_data[128 * 32'(agent) + 96 +: 8];
            end
            writes[r]     = wanted[r].mode inside {STREAM_WRITE, RESIDENT_WRITE, CACHED_WRITE};
            wants_line[r] = wanted[r].mode inside {CACHED_READ, CONSUME};
            arrives[r]    = request[r].under_way && request[r].left == '0;
            at[r]         = issued[r] ? AT_BANK : picked[r] ? AT_DELIVERY : request[r].next;
            done[r]       = arrives[r] && request[r].next == DONE;
            to_bank[r]    = issued[r] && wanted[r].mode != STREAM_READ || picked[r]
                || arrives[r] && request[r].next == AT_FILL;
            to_mshr[r]    = issued[r] && wanted[r].mode == STREAM_READ || arrives[r] && request[r].next == AT_MSHR;
            sent          = request[r].next == AT_DISPLACED ? request[r].displaced : wanted[r].line;
            channel       = 32'(sent) / turn % channels;
            for (int c = 0; c < CHANNELS; c++)
                to_channel[c][r] = arrives[r] && request[r].next inside {AT_CHANNEL, AT_DISPLACED} && channel == c;
            bank[r]     = 2'(32'(wanted[r].line) % banks);
            switched[r] = lane >= 32'd2 && at[r] != AT_FILL;
            bus[r]      = lane == '0 && at[r] != AT_FILL && !writes[r];
            enters[r]   = 3'((lane - 32'd2) % 32'(inputs[writes[r]]));
            leaves[r]   = 3'(32'(bank[r]) % 32'(outputs[writes[r]]));
        end
    end

    // --- Banks, and the paths to them -----------------------------------------------------------------------------------
    number_t bank_queue[REQUESTS], unused_bank[REQUESTS], bank_count, unused_bank_count;
    cycles_t bank_left[BANKS], bus_left;
    cycles_t [1:0][PORTS-1:0] input_left, output_left;
    logic [BANKS-1:0] bank_held;
    logic [1:0][PORTS-1:0] input_held, output_held;
    always_comb begin
        for (int b = 0; b < BANKS; b++) bank_held[b] = bank_left[b] != '0;
        for (int s = 0; s < 2; s++)
            for (int p = 0; p < PORTS; p++) begin
                input_held[s][p]  = input_left[s][p] != '0;
                output_held[s][p] = output_left[s][p] != '0;
            end
    end
    age_queue waits_for_bank(
        .clk, .rst, .arriving(to_bank), .leaving(granted), .held(unused_bank), .held_count(unused_bank_count),
        .queue(bank_queue), .count(bank_count)
    );
    bank_arbiter arbiter(
        .queue(bank_queue), .count(bank_count), .bank, .switched, .bus, .writes, .enters, .leaves, .bank_held, .input_held,
        .output_held, .bus_held(bus_left != '0), .granted
    );
    logic [BANKS-1:0] serves, filled, delivered;
    number_t served[BANKS], server[BANKS], brought_by[BANKS];
    cycles_t hold[BANKS], until_data[BANKS];
    outcome_t outcome[BANKS];
    logic [BANKS-1:0] looks_up, displaces, misses;
    logic [1:0] found_way[BANKS];
    line_t displaced_line[BANKS];
    for (genvar b = 0; b < BANKS; b++) begin : all_banks
        number_t r;
        access_t access;
        assign r = served[b];
        always_comb begin
            serves[b] = 1'b0;
            served[b] = '0;
            for (int i = 0; i < REQUESTS; i++)
                if (granted[i] && 32'(bank[i]) == b) {serves[b], served[b]} = {1'b1, 7'(i)};
        end
        assign access = wanted[r].mode == CACHED_WRITE ? WRITE : wanted[r].mode == CONSUME ? TAKE : READ;
        assign looks_up[b] = serves[b] && at[r] == AT_BANK
            && wanted[r].mode inside {CACHED_READ, PREFETCH, CACHED_WRITE, CONSUME};
        assign filled[b]    = serves[b] && at[r] == AT_FILL;
        assign delivered[b] = serves[b] && at[r] == AT_DELIVERY;
        assign server[b]    = request[r].fetched_by;
        cache_tags bank_tags(
            .clk, .rst, .ways(3'(ways)), .keeps_live(settings[32 * 6]), .looks_up(looks_up[b]), .line(wanted[r].line),
            .index(1'(32'(wanted[r].line) / banks % sets)), .epoch(wanted[r].epoch), .access, .request(r), .outcome(outcome[b]),
            .way(found_way[b]), .displaces(displaces[b]), .displaced(displaced_line[b]), .fetched_by(brought_by[b]),
            .fills(filled[b] && request[r].kept), .fill_way(request[r].way)
        );
        assign misses[b] = looks_up[b] && wanted[r].mode != CACHED_WRITE && outcome[b] != HIT;
        always_comb begin
            hold[b] = filled[b] ? fill_beats : misses[b] ? 8'd1 : 8'(wanted[r].beats);
            until_data[b] = misses[b] ? 8'd1
                : 8'(wanted[r].beats) - 8'd1 + (writes[r] ? write_cycles : switched[r] ? read_cycles : own_cycles);
            if (looks_up[b] && displaces[b]) begin
                hold[b]       = hold[b] + fill_beats;
                until_data[b] = until_data[b] + fill_beats;
            end
        end
        always_ff @(posedge clk)
            if (rst) bank_left[b] <= '0;
            else if (serves[b]) bank_left[b] <= hold[b] - 8'd1;
            else if (bank_left[b] != '0) bank_left[b] <= bank_left[b] - 8'd1;
    end
    always_ff @(posedge clk) begin
        for (int s = 0; s < 2; s++)
            for (int p = 0; p < PORTS; p++) begin
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

    // --- Miss registers: who waits for one, and who waits for the line of one -------------------------------------------
    number_t free, mshr_count, unused_mshr_count, waiting_count, unused_waiting_count;
    number_t mshr_queue[REQUESTS], unused_mshr[REQUESTS], waiting[REQUESTS], unused_waiting[REQUESTS];
    logic [REQUESTS-1:0] joins, released;
    age_queue waits_for_mshr(
        .clk, .rst, .arriving(to_mshr), .leaving(mshr_granted), .held(unused_mshr), .held_count(unused_mshr_count),
        .queue(mshr_queue), .count(mshr_count)
    );
    age_queue waits_for_line(
        .clk, .rst, .arriving(joins), .leaving(picked), .held(waiting), .held_count(waiting_count),
        .queue(unused_waiting), .count(unused_waiting_count)
    );
    logic [REQUESTS-1:0] turns, found;
    number_t by;
    always_comb begin
        for (int f = 0; f < REQUESTS; f++) turns[f] = request[f].serving && request[f].turn_in == '0;
        found  = '0;
        picked = '0;
        by     = '0;
        for (int i = 0; i < REQUESTS; i++)
            if (7'(i) < waiting_count) begin
                by = request[waiting[i]].fetched_by;
                if (turns[by] && !found[by]) {found[by], picked[waiting[i]]} = 2'b11;
            end
        released = turns & ~found;
    end
    number_t available;
    assign available = free + 7'($countones(released));
    always_comb begin
        mshr_granted = '0;
        for (int i = 0; i < REQUESTS; i++)
            if (7'(i) < mshr_count && 7'(i) < available) mshr_granted[mshr_queue[i]] = 1'b1;
    end
    always_comb begin
        joins = '0;
        for (int b = 0; b < BANKS; b++) if (misses[b] && wants_line[served[b]]) joins[served[b]] = 1'b1;
    end
    always_ff @(posedge clk)
        if (rst) free <= settings[32 * 5 +: 7];
        else free <= available - 7'($countones(mshr_granted));

    // --- Channels ---------------------------------------------------------------------------------------------------------
    for (genvar c = 0; c < CHANNELS; c++) begin : all_channels
        number_t queue[REQUESTS], unused[REQUESTS], count, unused_count;
        cycles_t busy;
        age_queue waits(
            .clk, .rst, .arriving(to_channel[c]), .leaving(channel_granted[c]), .held(unused), .held_count(unused_count),
            .queue, .count
        );
        assign channel_granted[c] = count != '0 && busy == '0 ? 72'd1 << queue[0] : '0;
        always_ff @(posedge clk)
            if (rst) busy <= '0;
            else if (channel_granted[c] != '0) busy <= burst - 8'd1;
            else if (busy != '0) busy <= busy - 8'd1;
    end

    // --- What comes next ----------------------------------------------------------------------------------------------------
    logic [1:0] b;
    always_comb begin
        b = '0;
        for (int r = 0; r < REQUESTS; r++) begin
            b = bank[r];
            following[r] = request[r];
            following[r].next = at[r];
            if (arrives[r]) following[r].under_way = 1'b0;
            else if (request[r].under_way) following[r].left = request[r].left - 8'd1;
            if (granted[r] && at[r] == AT_FILL) begin
                if (!wants_line[r]) {following[r].next, following[r].under_way, following[r].left} = {DONE, 1'b1, fill_beats - 8'd1};
            end else if (granted[r]) begin
                following[r].left      = until_data[b] - 8'd1;
                following[r].under_way = !(looks_up[b] && outcome[b] == MERGED);
                following[r].next      = DONE;
                if (wanted[r].mode == STREAM_WRITE) following[r].next = AT_CHANNEL;
                if (looks_up[b]) begin
                    if (outcome[b] == MERGED) following[r].next = AT_BANK;
                    else if (displaces[b]) following[r].next = AT_DISPLACED;
                    else if (misses[b]) following[r].next = AT_MSHR;
                    following[r].way        = found_way[b];
                    following[r].kept       = outcome[b] == MISS || outcome[b] == MERGED;
                    following[r].displaced  = displaced_line[b];
                    following[r].fetched_by = outcome[b] == MERGED ? brought_by[b] : 7'(r);
                end
            end else if (filled[b] && request[r].fetched_by == served[b] && request[r].kept && at[r] == AT_BANK
                    && !request[r].under_way && !wants_line[r])
                {following[r].next, following[r].under_way, following[r].left} = {DONE, 1'b1, fill_beats - 8'd1};
            if (mshr_granted[r]) {following[r].next, following[r].under_way, following[r].left} = {AT_CHANNEL, 1'b1, 8'd0};
            for (int c = 0; c < CHANNELS; c++)
                if (channel_granted[c][r]) begin
                    following[r].under_way = 1'b1;
                    following[r].left      = burst - 8'd1;
                    following[r].next      = wanted[r].mode inside {STREAM_WRITE, CACHED_WRITE} ? DONE : AT_FILL;
                    if (request[r].next == AT_DISPLACED && wanted[r].mode != CACHED_WRITE) following[r].next = AT_MSHR;
                    if (following[r].next == AT_FILL) following[r].left = burst + latency - 8'd1;
                end
            if (turns[r]) following[r].serving = 1'b0;
            else if (request[r].serving) following[r].turn_in = request[r].turn_in - 8'd1;
        end
        for (int i = 0; i < BANKS; i++) begin
            if (filled[i]) {following[served[i]].serving, following[served[i]].turn_in} = {1'b1, hold[i] - 8'd1};
            if (delivered[i]) {following[server[i]].serving, following[server[i]].turn_in} = {1'b1, hold[i] - 8'd1};
        end
        if (rst) for (int r = 0; r < REQUESTS; r++) following[r] = '0;
    end
    always_ff @(posedge clk) begin
        stored <= wanted;
        request <= following;
    end

    logic [6:0] so_far;
    for (genvar a = 0; a < AGENTS; a++) begin : agents
        always_ff @(posedge clk)
            if (rst) place[a] <= '0;
            else place[a] <= place[a] + 4'(in_valid[a]);
        assign out_valid[a] = done[PLACES * a +: PLACES] != '0;
        assign out_data[32 * a +: 32] = 32'(done[PLACES * a +: PLACES]);
    end
    always_ff @(posedge clk)
        if (rst) so_far <= '0;
        else so_far <= so_far + 7'($countones(done));
    assign out_valid[8] = so_far == settings[6:0];
    assign out_data[287:256] = '0;
endmodule
