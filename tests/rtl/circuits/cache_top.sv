// Requests of eight ports in, each in its place of an operation; out: which of them are done in a cycle, by port,
// and when all are.
// needs: age_queue.sv cache.sv dram.sv memory.sv
module circuit
    import cache_types::*, memory_types::*;
(
    input  logic          clk,
    input  logic          rst,
    input  logic [1055:0] settings,  // requests in all, fields of memory_t, the lane of each port
    input  logic [7:0]    in_valid,
    output logic [7:0]    in_ready,
    input  logic [1279:0] in_data,   // line, beats, mode, epoch, place
    output logic [8:0]    out_valid,
    output logic [287:0]  out_data
);
    localparam int PORTS = 8, PLACES = 9;
    memory_t spec;
    for (genvar i = 0; i < MEMORY_WORDS; i++) begin : fields
        assign spec[32 * (MEMORY_WORDS - 1 - i) +: 32] = settings[32 * (1 + i) +: 32];
    end
    lane_t [PORTS-1:0] lane;
    logic [PORTS-1:0] asks;
    logic [PORTS-1:0][3:0] place;
    wanted_t [PORTS-1:0] wants;
    logic [PORTS-1:0][PLACES-1:0] done;
    // The first request of an operation is taken when all before are done.
    for (genvar p = 0; p < PORTS; p++) begin : ports
        logic [3:0] open, left;
        assign lane[p]     = settings[32 * (1 + MEMORY_WORDS + p) +: 8];
        assign place[p]    = in_data[160 * p + 128 +: 4];
        assign wants[p]    = '{
            in_data[160 * p +: 16], in_data[160 * p + 32 +: 8], mode_t'(in_data[160 * p + 64 +: 3]),
            in_data[160 * p + 96 +: 16]
        };
        assign left        = open - 4'($countones(done[p]));
        assign in_ready[p] = place[p] != '0 || left == '0;
        assign asks[p]     = in_valid[p] && in_ready[p];
        always_ff @(posedge clk) open <= rst ? '0 : left + 4'(asks[p]);
        assign out_valid[p] = done[p] != '0;
        assign out_data[32 * p +: 32] = 32'(done[p]);
    end
    memory #(.PORTS(PORTS), .PLACES(PLACES), .REGISTERS(8)) all(
        .clk, .rst, .spec, .lane, .asks, .place, .wants, .done
    );
    logic [31:0] so_far;
    always_ff @(posedge clk)
        if (rst) so_far <= '0;
        else so_far <= so_far + 32'($countones(done));
    assign out_valid[PORTS] = so_far == settings[31:0];
    assign out_data[32 * PORTS +: 32] = '0;
endmodule
