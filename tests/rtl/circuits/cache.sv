// A banked cache behind crossbar switches and a broadcast bus: its tags, and the arbiter of its banks.

package cache_types;
    localparam int BANKS = 4, SETS = 16, WAYS = 8, CHANNELS = 4, SWITCH_PORTS = 8;  // at most
    typedef logic [15:0] line_t;
    typedef logic [15:0] epoch_t;
    typedef logic [7:0] cycles_t;
    typedef logic [7:0] lane_t;  // at the switches + 2; or one of these
    localparam lane_t BUS = 8'd0, OWN_PATH = 8'd1;
    typedef enum logic [2:0] {
        CACHED_READ, RESIDENT_READ, STREAM_READ, STREAM_WRITE, PREFETCH, RESIDENT_WRITE, CACHED_WRITE, CONSUME
    } mode_t;
    typedef enum logic [1:0] {READ, WRITE, TAKE} access_t;
    typedef enum logic [1:0] {HIT, MISS, MERGED, NOT_KEPT} outcome_t;
    typedef struct packed {
        line_t   line;
        cycles_t beats;
        mode_t   mode;
        epoch_t  epoch;
    } wanted_t;
endpackage

// Tags of one bank. A look-up says in its cycle what it found, and the tags are changed at the end of the cycle. Which
// way was used before which is kept for every pair of ways.
module cache_tags
    import cache_types::*;
#(
    parameter type number_t = logic [5:0]
) (
    input  logic       clk,
    input  logic       rst,
    input  logic [3:0] ways,
    input  logic       keeps_live,
    input  logic       looks_up,
    input  line_t      line,
    input  logic [3:0] index,       // the set
    input  epoch_t     epoch,
    input  access_t    access,
    input  number_t    request,
    output outcome_t   outcome,
    output logic [2:0] way,
    output logic       displaces,   // a dirty line, or the line itself if a write is not kept
    output line_t      displaced,
    output number_t    fetched_by,  // who brings in a line that is on its way
    input  logic       fills,
    input  logic [2:0] fill_way
);
    typedef struct packed {
        logic       dirty;
        logic       coming;
        line_t      line;
        epoch_t     epoch;
        number_t    by;
    } tag_t;
    tag_t tags[SETS][WAYS];
    logic [SETS-1:0][WAYS-1:0] valid;
    logic [SETS-1:0][WAYS-1:0][WAYS-1:0] older;  // [w][v]: w was used before v

    logic found, empty, room;
    logic [2:0] found_way, empty_way, old_way;
    logic [WAYS-1:0] may_go;
    always_comb begin
        {found, empty, room} = '0;
        {found_way, empty_way, old_way} = '0;
        for (int w = WAYS - 1; w >= 0; w--) begin
            if (valid[index][w] && tags[index][w].line == line) {found, found_way} = {1'b1, 3'(w)};
            if (!valid[index][w] && w < 32'(ways)) {empty, empty_way} = {1'b1, 3'(w)};
            may_go[w] = valid[index][w] && !tags[index][w].coming && (!keeps_live || tags[index][w].epoch < epoch);
        end
        for (int w = 0; w < WAYS; w++)
            if (may_go[w] && (may_go & ~older[index][w] & ~(8'b1 << w)) == '0) {room, old_way} = {1'b1, 3'(w)};
        way = found ? found_way : empty ? empty_way : old_way;
        outcome = found ? (tags[index][way].coming ? MERGED : HIT)
            : access != TAKE && (empty || room) ? MISS : NOT_KEPT;
        displaces  = outcome == MISS ? valid[index][way] && tags[index][way].dirty
            : outcome == NOT_KEPT && access == WRITE;
        displaced  = outcome == MISS ? tags[index][way].line : line;
        fetched_by = tags[index][way].by;
    end
    always_ff @(posedge clk)
        if (rst) {valid, older} <= '0;
        else begin
            if (fills) tags[index][fill_way].coming <= 1'b0;
            if (looks_up && outcome != NOT_KEPT) begin
                older[index][way] <= '0;
                for (int v = 0; v < WAYS; v++) if (v != 32'(way)) older[index][v][way] <= 1'b1;
                tags[index][way].epoch <= epoch;
                if (access == WRITE) tags[index][way].dirty <= 1'b1;
                if (outcome == HIT && access == TAKE) valid[index][way] <= 1'b0;
                if (outcome == MISS) begin
                    valid[index][way] <= 1'b1;
                    tags[index][way]  <= '{access == WRITE, access != WRITE, line, epoch, request};
                end
            end
        end
endmodule

// The arbiter of the banks. The oldest request is asked first; it is granted if its bank is free, and its input and
// output or the bus if it goes over one, and no older request keeps them for itself. If not, it keeps them.
module bank_arbiter
    import cache_types::*;
#(
    parameter int REQUESTS = 64,
    localparam type number_t = logic [$clog2(REQUESTS)-1:0],
    localparam type count_t = logic [$clog2(REQUESTS+1)-1:0]
) (
    input  number_t                       queue[REQUESTS],
    input  count_t                        count,
    input  logic [REQUESTS-1:0][1:0]      bank,
    input  logic [REQUESTS-1:0]           switched,
    input  logic [REQUESTS-1:0]           bus,
    input  logic [REQUESTS-1:0]           writes,
    input  logic [REQUESTS-1:0][2:0]      enters,
    input  logic [REQUESTS-1:0][2:0]      leaves,
    input  logic [BANKS-1:0]              bank_held,
    input  logic [1:0][SWITCH_PORTS-1:0]  input_held,
    input  logic [1:0][SWITCH_PORTS-1:0]  output_held,
    input  logic                          bus_held,
    output logic [REQUESTS-1:0]           granted
);
    logic [BANKS-1:0] bank_taken;
    logic [1:0][SWITCH_PORTS-1:0] input_taken, output_taken;
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
            if (count_t'(i) < count) begin
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
