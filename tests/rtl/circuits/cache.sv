// A banked cache behind crossbar switches and a broadcast bus, its miss registers, and the channels behind them.

package cache_types;
    localparam int AGENTS = 8, PLACES = 9, REQUESTS = AGENTS * PLACES;
    localparam int BANKS = 4, SETS = 2, WAYS = 4, CHANNELS = 2, PORTS = 8;
    typedef logic [6:0] number_t;  // of a request, by agent and place
    typedef logic [7:0] line_t;
    typedef logic [7:0] cycles_t;
    typedef enum logic [2:0] {
        CACHED_READ, RESIDENT_READ, STREAM_READ, STREAM_WRITE, PREFETCH, RESIDENT_WRITE, CACHED_WRITE, CONSUME
    } mode_t;
    typedef enum logic [1:0] {READ, WRITE, TAKE} access_t;
    typedef enum logic [1:0] {HIT, MISS, MERGED, NOT_KEPT} outcome_t;
    typedef enum logic [2:0] {AT_BANK, AT_DISPLACED, AT_MSHR, AT_CHANNEL, AT_FILL, AT_DELIVERY, DONE} stage_t;
endpackage

// Requests that wait for a resource, by age: those that arrive in a cycle stand behind those of earlier ones, and among
// themselves by number.
module age_queue
    import cache_types::*;
(
    input  logic                clk,
    input  logic                rst,
    input  logic [REQUESTS-1:0] arriving,
    input  logic [REQUESTS-1:0] leaving,
    output number_t             held[REQUESTS],   // those of earlier cycles
    output number_t             held_count,
    output number_t             queue[REQUESTS],  // all
    output number_t             count
);
    number_t left[REQUESTS];
    number_t left_count;
    always_comb begin
        queue = held;
        count = held_count;
        for (int r = 0; r < REQUESTS; r++)
            if (arriving[r]) begin
                queue[count] = 7'(r);
                count = count + 7'd1;
            end
    end
    always_comb begin
        left_count = '0;
        for (int i = 0; i < REQUESTS; i++) left[i] = '0;
        for (int i = 0; i < REQUESTS; i++)
            if (7'(i) < count && !leaving[queue[i]]) begin
                left[left_count] = queue[i];
                left_count = left_count + 7'd1;
            end
    end
    always_ff @(posedge clk) begin
        held       <= left;
        held_count <= rst ? '0 : left_count;
    end
endmodule

// Tags of one bank. A look-up says in its cycle what it found, and the tags are changed at the end of the cycle. Which
// way was used before which is kept for every pair of ways.
module cache_tags
    import cache_types::*;
(
    input  logic       clk,
    input  logic       rst,
    input  logic [2:0] ways,
    input  logic       keeps_live,
    input  logic       looks_up,
    input  line_t      line,
    input  logic       index,       // the set
    input  logic [7:0] epoch,
    input  access_t    access,
    input  number_t    request,
    output outcome_t   outcome,
    output logic [1:0] way,
    output logic       displaces,   // a dirty line, or the line itself if a write is not kept
    output line_t      displaced,
    output number_t    fetched_by,  // who brings in a line that is on its way
    input  logic       fills,
    input  logic [1:0] fill_way
);
    typedef struct packed {
        logic       valid;
        logic       dirty;
        logic       coming;
        line_t      line;
        logic [7:0] epoch;
        number_t    by;
    } tag_t;
    tag_t tags[SETS][WAYS];
    logic [SETS-1:0][WAYS-1:0][WAYS-1:0] older;  // [w][v]: w was used before v

    logic found, empty, room;
    logic [1:0] found_way, empty_way, old_way;
    logic [WAYS-1:0] may_go;
    always_comb begin
        {found, empty, room} = '0;
        {found_way, empty_way, old_way} = '0;
        for (int w = WAYS - 1; w >= 0; w--) begin
            if (tags[index][w].valid && tags[index][w].line == line) {found, found_way} = {1'b1, 2'(w)};
            if (!tags[index][w].valid && w < 32'(ways)) {empty, empty_way} = {1'b1, 2'(w)};
            may_go[w] = tags[index][w].valid && !tags[index][w].coming && (!keeps_live || tags[index][w].epoch < epoch);
        end
        for (int w = 0; w < WAYS; w++)
            if (may_go[w] && (may_go & ~older[index][w] & ~(4'b1 << w)) == '0) {room, old_way} = {1'b1, 2'(w)};
        way = found ? found_way : empty ? empty_way : old_way;
        outcome = found ? (tags[index][way].coming ? MERGED : HIT)
            : access != TAKE && (empty || room) ? MISS : NOT_KEPT;
        displaces  = outcome == MISS ? tags[index][way].valid && tags[index][way].dirty
            : outcome == NOT_KEPT && access == WRITE;
        displaced  = outcome == MISS ? tags[index][way].line : line;
        fetched_by = tags[index][way].by;
    end
    always_ff @(posedge clk)
        if (rst) begin
            for (int s = 0; s < SETS; s++)
                for (int w = 0; w < WAYS; w++) tags[s][w] <= '0;
            older <= '0;
        end else begin
            if (fills) tags[index][fill_way].coming <= 1'b0;
            if (looks_up && outcome != NOT_KEPT) begin
                older[index][way] <= '0;
                for (int v = 0; v < WAYS; v++) if (v != 32'(way)) older[index][v][way] <= 1'b1;
                tags[index][way].epoch <= epoch;
                if (access == WRITE) tags[index][way].dirty <= 1'b1;
                if (outcome == HIT && access == TAKE) tags[index][way].valid <= 1'b0;
                if (outcome == MISS) tags[index][way] <= '{1'b1, access == WRITE, access != WRITE, line, epoch, request};
            end
        end
endmodule

// The arbiter of the banks. The oldest request is asked first; it is granted if its bank is free, and its input and
// output or the bus if it goes over one, and no older request keeps them for itself. If not, it keeps them.
module bank_arbiter
    import cache_types::*;
(
    input  number_t                   queue[REQUESTS],
    input  number_t                   count,
    input  logic [REQUESTS-1:0][1:0]  bank,
    input  logic [REQUESTS-1:0]       switched,
    input  logic [REQUESTS-1:0]       bus,
    input  logic [REQUESTS-1:0]       writes,
    input  logic [REQUESTS-1:0][2:0]  enters,
    input  logic [REQUESTS-1:0][2:0]  leaves,
    input  logic [BANKS-1:0]          bank_held,
    input  logic [1:0][PORTS-1:0]     input_held,
    input  logic [1:0][PORTS-1:0]     output_held,
    input  logic                      bus_held,
    output logic [REQUESTS-1:0]       granted
);
    logic [BANKS-1:0] bank_taken;
    logic [1:0][PORTS-1:0] input_taken, output_taken;
    logic bus_taken;
    number_t r;
    always_comb begin
        bank_taken   = bank_held;
        input_taken  = input_held;
        output_taken = output_held;
        bus_taken    = bus_held;
        granted      = '0;
        r            = '0;
        for (int i = 0; i < REQUESTS; i++)
            if (7'(i) < count) begin
                r = queue[i];
                granted[r] = !bank_taken[bank[r]] && !(bus[r] && bus_taken)
                    && !(switched[r] && (input_taken[writes[r]][enters[r]] || output_taken[writes[r]][leaves[r]]));
                bank_taken[bank[r]] = 1'b1;
                if (bus[r]) bus_taken = 1'b1;
                if (switched[r]) begin
                    input_taken[writes[r]][enters[r]]  = 1'b1;
                    output_taken[writes[r]][leaves[r]] = 1'b1;
                end
            end
    end
endmodule
