// Two crossbar switches, one for reads and one for writes, and a broadcast bus, between requesters and banks.

package crossbar_switch_types;
    localparam int AGENTS = 8, PLACES = 12, PORTS = 8, BANKS = 8;
    typedef struct packed {
        logic       valid;
        logic [2:0] agent;
        logic [3:0] place;    // which of the agent's requests
        logic       write;    // which switch
        logic       own;      // a path of its own: no switch
        logic       bus;      // the broadcast bus: no switch either
        logic [2:0] enters;   // input
        logic [2:0] leaves;   // output
        logic [2:0] bank;
        logic [3:0] beats;
    } request_t;
endpackage

// The arbiter. Requests that wait stand in a queue by age: those of a cycle behind those of earlier ones, and among
// themselves by agent. In every cycle the oldest is asked first. It is granted if its input, output and bank, or the bus
// and its bank, are free and no older request keeps them for itself; if not, it keeps them.
//
// With `heads_only` the arbiter sees the oldest request at every idle input alone, and those behind it keep nothing.
module crossbar_arbiter
    import crossbar_switch_types::*;
(
    input  logic clk,
    input  logic rst,
    input  logic heads_only,
    input  request_t [AGENTS-1:0] arriving,
    output logic [AGENTS-1:0][PLACES-1:0] granted
);
    localparam int WAITING = AGENTS * PLACES;
    request_t waiting[WAITING], left[WAITING];
    logic [BANKS-1:0][3:0] bank_left, bank_after;  // cycles for which it is held, this one not counted
    logic [1:0][PORTS-1:0][3:0] input_left, input_after, output_left, output_after;
    logic [3:0] bus_left, bus_after;

    logic [BANKS-1:0] bank_taken;
    logic bus_taken;
    logic [1:0][PORTS-1:0] input_taken, output_taken;
    logic free;
    logic [6:0] number;
    request_t asks;
    always_comb begin
        granted = '0;
        number = '0;
        free = 1'b0;
        asks = '0;
        for (int i = 0; i < WAITING; i++) left[i] = '0;
        for (int b = 0; b < BANKS; b++) begin
            bank_taken[b] = bank_left[b] != '0;
            bank_after[b] = bank_left[b] == '0 ? '0 : bank_left[b] - 4'd1;
        end
        bus_taken = bus_left != '0;
        bus_after = bus_left == '0 ? '0 : bus_left - 4'd1;
        for (int s = 0; s < 2; s++)
            for (int p = 0; p < PORTS; p++) begin
                input_taken[s][p]  = input_left[s][p] != '0;
                output_taken[s][p] = output_left[s][p] != '0;
                input_after[s][p]  = input_left[s][p] == '0 ? '0 : input_left[s][p] - 4'd1;
                output_after[s][p] = output_left[s][p] == '0 ? '0 : output_left[s][p] - 4'd1;
            end
        for (int i = 0; i < WAITING + AGENTS; i++) begin
            asks = i < WAITING ? waiting[i < WAITING ? i : 0] : arriving[3'(i - WAITING)];
            if (asks.valid) begin
                free = !bank_taken[asks.bank] && !(asks.bus && bus_taken)
                    && (asks.own || asks.bus || !(input_taken[asks.write][asks.enters] || output_taken[asks.write][asks.leaves]));
                if (free) begin
                    granted[asks.agent][asks.place] = 1'b1;
                    bank_after[asks.bank] = asks.beats - 4'd1;
                    if (asks.bus) bus_after = asks.beats - 4'd1;
                    else if (!asks.own) begin
                        input_after[asks.write][asks.enters]  = asks.beats - 4'd1;
                        output_after[asks.write][asks.leaves] = asks.beats - 4'd1;
                    end
                end else begin
                    left[number] = asks;
                    number = number + 7'd1;
                end
                if (asks.own || !heads_only || !(asks.bus ? bus_taken : input_taken[asks.write][asks.enters])) begin
                    bank_taken[asks.bank] = 1'b1;
                    if (!asks.own && !asks.bus) output_taken[asks.write][asks.leaves] = 1'b1;
                end
                if (asks.bus) bus_taken = 1'b1;
                else if (!asks.own) input_taken[asks.write][asks.enters] = 1'b1;
            end
        end
    end
    always_ff @(posedge clk)
        if (rst) begin
            waiting <= '{default: '0};
            {bank_left, input_left, output_left, bus_left} <= '0;
        end else begin
            waiting     <= left;
            bank_left   <= bank_after;
            input_left  <= input_after;
            output_left <= output_after;
            bus_left    <= bus_after;
        end
endmodule
