// Systolic array of R x C places, and the buffers at its edges that stream into it.

// A place. Output stationary: it has a sum for each of up to four ticks of a step and adds to that of the tick that comes
// with the operands; behind a fold all sums move on through the column. Weight stationary: it keeps what is shifted in
// from the north, and sums pass through it.
module array_place (
    input  logic        clk,
    input  logic        rst,
    input  logic        stationary,
    input  logic        load,        // shift the stationary operand on
    input  logic        shift,       // shift the sums on
    input  logic        clear,
    input  logic [2:0]  ticks,
    input  logic        in_valid,
    input  logic [1:0]  in_tick,
    input  logic signed [7:0]  west,
    input  logic signed [7:0]  north,
    input  logic signed [31:0] sum_in,   // from above: of a shift, or to be added to
    output logic        out_valid,
    output logic [1:0]  out_tick,
    output logic signed [7:0]  east,
    output logic signed [7:0]  south,
    output logic signed [31:0] sum_out,
    output logic [3:0][31:0]   sums
);
    logic signed [7:0] kept;  // the stationary operand
    logic signed [31:0] passed;
    logic signed [7:0] operand, streamed;
    logic signed [31:0] product;
    assign south   = load ? kept : streamed;
    assign operand = stationary ? kept : north;
    assign product = 32'(west) * 32'(operand);
    assign sum_out = stationary ? passed : sums[0];
    always_ff @(posedge clk) begin
        out_valid <= in_valid && !rst;
        out_tick  <= in_tick;
        east      <= west;
        streamed  <= north;
        if (load) kept <= north;
        passed <= sum_in + product;
        if (rst) sums <= '0;
        else if (clear) begin  // the next fold may be here already
            sums <= '0;
            if (in_valid && !stationary) sums[in_tick] <= product;
        end else if (shift) begin
            for (int t = 0; t < 3; t++) sums[t] <= sums[t + 1];
            sums[2'(ticks - 3'd1)] <= sum_in;
        end else if (in_valid && !stationary) sums[in_tick] <= sums[in_tick] + product;
    end
endmodule

module delay #(
    parameter int CYCLES = 1,
    parameter int WIDTH = 1
) (
    input  logic clk,
    input  logic rst,
    input  logic [WIDTH-1:0] in,
    output logic [WIDTH-1:0] out
);
    if (CYCLES == 0) assign out = in;
    else begin : registers
        logic [CYCLES-1:0][WIDTH-1:0] held;
        always_ff @(posedge clk) held <= rst ? '0 : (CYCLES * WIDTH)'({held, in});
        assign out = held[CYCLES-1];
    end
endmodule

// Loads come one behind the other: pairs of a step and a tick, one a cycle. With `skips` pairs in which no row has
// anything take none, but a load takes one at least. Behind the last load of a fold the operands pass through the array;
// then, if `leaves`, the sums move out through the columns, or all are taken at once.
module systolic_array #(
    parameter int R = 4,
    parameter int C = 5
) (
    input  logic       clk,
    input  logic       rst,
    input  logic       stationary,
    input  logic       leaves,
    input  logic       skips,
    input  logic [2:0] ticks,
    input  logic       in_valid,
    output logic       in_ready,
    input  logic [2:0] steps,
    input  logic       weights,   // a load of the stationary operand: R rows
    input  logic       last,      // of the fold
    input  logic [3:0][3:0][R-1:0][7:0] west,    // step, tick, row
    input  logic [3:0][3:0][C-1:0][7:0] north,
    output logic       ends,      // the last pair of a load enters
    output logic       out_valid,
    output logic [C-1:0] out_columns,
    output logic [C-1:0][31:0] out_sums,
    output logic       taken,     // all sums at once
    output logic [R-1:0][C-1:0][3:0][31:0] all_sums,
    output logic       ended
);
    typedef enum logic [1:0] {STREAM, PASS, LEAVE} phase_t;
    phase_t phase;
    logic [4:0] left;  // cycles of the phase

    // The load that streams: as it comes, then from registers.
    logic streaming, take, now_last, now_weights;
    logic held_last, held_weights;
    logic [15:0] pairs, now_pairs, after;
    logic [3:0][3:0][R-1:0][7:0] held_west, now_west;
    logic [3:0][3:0][C-1:0][7:0] held_north, now_north;
    assign in_ready    = phase == STREAM && !streaming;
    assign take        = in_valid && in_ready;
    assign now_west    = take ? west : held_west;
    assign now_north   = take ? north : held_north;
    assign now_last    = take ? last : held_last;
    assign now_weights = take ? weights : held_weights;
    logic [15:0] given;
    always_comb
        for (int k = 0; k < 4; k++)
            for (int t = 0; t < 4; t++)
                given[4 * k + t] = k < 32'(steps) && t < 32'(ticks) && !(skips && west[k][t] == '0);
    assign now_pairs = take ? given : pairs;
    logic [3:0] pair;
    always_comb begin
        pair = '0;
        for (int p = 15; p >= 0; p--) if (now_pairs[p]) pair = 4'(p);
    end
    assign after = now_pairs & (now_pairs - 16'd1);
    assign ends  = (take || streaming) && after == '0;
    logic enters;
    assign enters = (take || streaming) && now_pairs != '0;

    // Operand i is i cycles late.
    logic [R-1:0] row_valid;
    logic [R-1:0][7:0] row_operand;
    logic [C-1:0][7:0] column_operand;
    logic [R-1:0][1:0] row_tick;
    for (genvar i = 0; i < R; i++) begin : west_edge
        delay #(.CYCLES(i), .WIDTH(11)) skew(
            .clk, .rst, .in({enters && !now_weights, pair[1:0], now_west[pair[3:2]][pair[1:0]][i]}),
            .out({row_valid[i], row_tick[i], row_operand[i]})
        );
    end
    for (genvar j = 0; j < C; j++) begin : north_edge
        logic [7:0] operand, late;
        assign operand = now_north[pair[3:2]][pair[1:0]][j];
        delay #(.CYCLES(j), .WIDTH(8)) skew(.clk, .rst, .in(operand), .out(late));
        assign column_operand[j] = enters && now_weights ? operand : late;
    end

    logic shift, load, clear;
    assign shift = phase == LEAVE;
    assign load  = enters && now_weights;
    assign clear = taken;
    logic [R-1:0][C:0] valid;
    logic [R-1:0][C:0][1:0] tick;
    logic [R-1:0][C:0][7:0] across;
    logic [R:0][C-1:0][7:0] down;
    logic [R:0][C-1:0][31:0] sum;
    for (genvar i = 0; i < R; i++) begin : rows
        assign {valid[i][0], tick[i][0], across[i][0]} = {row_valid[i], row_tick[i], row_operand[i]};
        for (genvar j = 0; j < C; j++) begin : columns
            array_place place(
                .clk, .rst, .stationary, .load, .shift, .clear, .ticks, .in_valid(valid[i][j]), .in_tick(tick[i][j]),
                .west(across[i][j]), .north(down[i][j]), .sum_in(sum[i][j]), .out_valid(valid[i][j + 1]),
                .out_tick(tick[i][j + 1]), .east(across[i][j + 1]), .south(down[i + 1][j]), .sum_out(sum[i + 1][j]),
                .sums(all_sums[i][j])
            );
        end
    end
    assign down[0] = column_operand;
    assign sum[0]  = '0;
    for (genvar j = 0; j < C; j++)
        assign out_columns[j] = stationary ? valid[R - 1][j + 1] : shift;
    assign out_sums  = sum[R];
    assign out_valid = out_columns != '0;

    always_ff @(posedge clk) begin
        ended <= 1'b0;
        taken <= 1'b0;
        if (rst) {phase, streaming} <= '0;
        else
            case (phase)
                STREAM: if (take || streaming) begin
                    {held_west, held_north, held_last, held_weights} <= {now_west, now_north, now_last, now_weights};
                    pairs     <= after;
                    streaming <= !ends;
                    if (ends && now_last) begin
                        phase <= PASS;
                        left  <= 5'(R + C - 2);
                    end
                end
                PASS: begin
                    left <= left - 5'd1;
                    if (left == 5'd1) begin
                        phase <= leaves ? LEAVE : STREAM;
                        left  <= 5'(R) * 5'(ticks);
                        ended <= !leaves;
                        taken <= !leaves && !stationary;
                    end
                end
                default: begin
                    left <= left - 5'd1;
                    if (left == 5'd1) begin
                        phase <= STREAM;
                        ended <= 1'b1;
                    end
                end
            endcase
    end
endmodule
