// Requests of eight agents in; out: which of them are done in a cycle, for each agent, and when all are.
// needs: crossbar_switch.sv
module circuit
    import crossbar_switch_types::*;
(
    input  logic          clk,
    input  logic          rst,
    input  logic [575:0]  settings,  // requests in all, 1: heads only, inputs and outputs of the read and of the write
                                     // switch, banks, cycles from the last beat: read, read by a path of its own,
                                     // write; for each agent its lane + 2, 1: a path of its own, 0: the bus
    input  logic [7:0]    in_valid,
    output logic [7:0]    in_ready,
    input  logic [767:0]  in_data,   // bank, beats, 1: write
    output logic [8:0]    out_valid,
    output logic [287:0]  out_data
);
    request_t [AGENTS-1:0] arriving;
    logic [AGENTS-1:0][PLACES-1:0] granted, done;
    logic [AGENTS-1:0][3:0] place;
    logic [6:0] total, so_far;
    logic [3:0] inputs[2], outputs[2];
    assign in_ready   = '1;
    assign inputs[0]  = settings[67:64];
    assign outputs[0] = settings[99:96];
    assign inputs[1]  = settings[131:128];
    assign outputs[1] = settings[163:160];
    crossbar_arbiter arbiter(.clk, .rst, .heads_only(settings[32]), .arriving, .granted);

    // Data are on their way for the rest of their beats, through the bank and through the switch.
    logic [4:0] behind_last[AGENTS][PLACES];
    for (genvar a = 0; a < AGENTS; a++) begin : agents
        logic [31:0] lane;
        assign lane = settings[320 + 32 * a +: 32];
        logic write;
        assign write = in_data[96 * a + 64];
        logic [31:0] bank;
        assign bank = in_data[96 * a +: 32];
        always_comb begin
            arriving[a].valid  = in_valid[a];
            arriving[a].agent  = 3'(a);
            arriving[a].place  = place[a];
            arriving[a].write  = write;
            arriving[a].own    = lane == 32'd1 || lane == '0 && write;
            arriving[a].bus    = lane == '0 && !write;
            arriving[a].enters = 3'((lane - 32'd2) % 32'(inputs[write]));
            arriving[a].leaves = 3'(bank % 32'(outputs[write]));
            arriving[a].bank   = 3'(bank);
            arriving[a].beats  = in_data[96 * a + 32 +: 4];
        end
        logic [4:0] asked;  // cycles from the grant to the data
        assign asked = 5'(arriving[a].beats) - 5'd1
            + (write ? settings[292:288] : lane < 32'd2 ? settings[260:256] : settings[228:224]);
        for (genvar p = 0; p < PLACES; p++) begin : places
            logic [4:0] cycles;
            assign done[a][p] = behind_last[a][p] == 5'd1;
            always_ff @(posedge clk) begin
                if (in_valid[a] && 32'(place[a]) == p)
                    cycles <= asked;
                if (rst) behind_last[a][p] <= '0;
                else if (granted[a][p])
                    behind_last[a][p] <= in_valid[a] && 32'(place[a]) == p ? asked : cycles;
                else if (behind_last[a][p] != '0) behind_last[a][p] <= behind_last[a][p] - 5'd1;
            end
        end
        always_ff @(posedge clk)
            if (rst) place[a] <= '0;
            else place[a] <= place[a] + 4'(in_valid[a]);
        assign out_valid[a] = done[a] != '0;
        assign out_data[32 * a +: 32] = 32'(done[a]);
    end
    assign total = settings[6:0];
    always_ff @(posedge clk)
        if (rst) so_far <= '0;
        else so_far <= so_far + 7'($countones(done));
    assign out_valid[8] = so_far == total;
    assign out_data[287:256] = '0;
endmodule
