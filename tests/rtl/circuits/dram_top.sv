// Lines in, at most one a cycle; out: whose burst has ended, whose data are there, and when all are.
// needs: age_queue.sv dram.sv
module circuit (
    input  logic         clk,
    input  logic         rst,
    input  logic [351:0] settings,  // lines in all, channels, lines of a channel's turn, of a row, banks, fractions of a
                                    // cycle and of a line, row hit, row miss, refresh interval, refresh
    input  logic         in_valid,
    output logic         in_ready,
    input  logic [31:0]  in_data,   // line
    output logic [2:0]   out_valid,
    output logic [191:0] out_data   // two words of bits each, a line a bit
);
    localparam int CHANNELS = 4, LINES = 64;
    logic [6:0] number;
    logic [31:0] turn;
    logic [CHANNELS-1:0] granted;
    logic [CHANNELS-1:0][5:0] first;
    logic [CHANNELS-1:0][39:0] until_end;
    logic [CHANNELS-1:0][15:0] latency;
    logic [LINES-1:0][31:0] line, known;
    assign in_ready = 1'b1;
    assign turn     = in_data / settings[95:64];
    always_comb begin
        line = known;
        if (in_valid) line[number[5:0]] = in_data;
    end
    always_ff @(posedge clk) known <= line;
    for (genvar c = 0; c < CHANNELS; c++) begin : channels
        logic [5:0] queue[LINES], unused[LINES];
        logic [6:0] count, unused_count;
        logic [31:0] block, row;
        assign first[c] = queue[0];
        assign block    = line[first[c]] / settings[95:64] / settings[63:32];
        assign row      = (block * settings[95:64] + line[first[c]] % settings[95:64]) / settings[127:96];
        age_queue #(.NUMBERS(LINES)) waits(
            .clk, .rst, .arriving(in_valid && turn % settings[63:32] == c ? 64'd1 << number : '0),
            .leaving(granted[c] ? 64'd1 << first[c] : '0), .held(unused), .held_count(unused_count), .queue, .count
        );
        dram_channel channel(
            .clk, .rst, .asks(count != '0), .row(row[15:0]), .bank(2'(row % settings[159:128])),
            .per_cycle(settings[191:160]), .per_line(settings[223:192]), .hit_cycles(settings[239:224]),
            .miss_cycles(settings[271:256]), .refresh_interval(settings[303:288]), .refresh_cycles(settings[335:320]),
            .granted(granted[c]), .until_end(until_end[c]), .latency(latency[c])
        );
    end

    // Lines under way: on the bus, then in the latency of their row.
    logic [LINES-1:0] on_bus, in_row, burst_ends, data_come;
    logic [6:0] done;
    for (genvar i = 0; i < LINES; i++) begin : under_way
        logic [39:0] left;
        logic [15:0] row_left, row_latency;
        assign burst_ends[i] = on_bus[i] && left == '0;
        assign data_come[i]  = in_row[i] && row_left == '0;
        always_ff @(posedge clk)
            if (rst) {on_bus[i], in_row[i]} <= '0;
            else begin
                if (on_bus[i]) left <= left > 40'(settings[191:160]) ? left - 40'(settings[191:160]) : '0;
                if (in_row[i]) row_left <= row_left - 16'd1;
                if (data_come[i]) in_row[i] <= 1'b0;
                if (burst_ends[i]) begin
                    on_bus[i] <= 1'b0;
                    in_row[i] <= 1'b1;
                    row_left  <= row_latency - 16'd1;
                end
                for (int c = 0; c < CHANNELS; c++)
                    if (granted[c] && 32'(first[c]) == i) begin
                        on_bus[i]   <= 1'b1;
                        left        <= until_end[c] > 40'(settings[191:160]) ? until_end[c] - 40'(settings[191:160]) : '0;
                        row_latency <= latency[c];
                    end
            end
    end
    always_ff @(posedge clk)
        if (rst) {number, done} <= '0;
        else begin
            number <= number + 7'(in_valid);
            done   <= done + 7'($countones(data_come));
        end
    assign out_valid = {done == settings[6:0], data_come != '0, burst_ends != '0};
    assign out_data  = {64'd0, data_come, burst_ends};
endmodule
