// Neuron units with a rule alone (threshold, leak by a shift, reset) and the output compressor.

// What a neuron's comparator, subtractor and shifter make of a potential in one timestep.
module neuron_step (
    input  logic signed [63:0] potential,
    input  logic signed [63:0] arriving,
    input  logic signed [63:0] limit,
    input  logic [5:0]         leak_shift,
    input  logic               leak_subtracts,
    input  logic [2:0]         reset,  // to 0, by subtraction: without a leak, before it, behind it
    input  logic               at_threshold,
    output logic               fired,
    output logic signed [63:0] behind
);
    logic signed [63:0] total, leaking, shifted, leaked;
    assign total   = potential + arriving;
    assign fired   = total > limit || (at_threshold && total == limit);
    assign leaking = fired && reset == 3'd2 ? total - limit : total;
    assign shifted = leaking >>> leak_shift;
    assign leaked  = leak_subtracts ? leaking - shifted : shifted;
    always_comb begin
        behind = leaked;
        if (fired)
            case (reset)
                3'd0: behind = '0;
                3'd1: behind = total - limit;
                3'd3: behind = leaked - limit;
                default: ;
            endcase
    end
endmodule

// A neuron is taken, and its word is valid `cycles` later: sixteen steps one behind the other, as P-LIF has them. With
// `serial` there is one step, and a timestep takes `cycles`.
module neuron_unit (
    input  logic        clk,
    input  logic        rst,
    input  logic        take,
    input  logic [15:0][31:0] sums,
    input  logic [31:0] bias,
    input  logic [31:0] threshold,
    input  logic [4:0]  timesteps,
    input  logic [5:0]  fraction_bits,
    input  logic [5:0]  leak_shift,
    input  logic        leak_subtracts,
    input  logic [2:0]  reset,
    input  logic        at_threshold,
    input  logic [6:0]  cycles,
    input  logic        serial,
    output logic        busy,
    output logic        done,
    output logic [15:0] word
);
    logic [15:0][31:0] held;
    logic signed [63:0] held_bias, limit;
    logic [6:0] left;
    logic [4:0] step;

    // All at once.
    logic [15:0] fired;
    logic signed [16:0][63:0] potential;
    assign potential[0] = '0;
    for (genvar t = 0; t < 16; t++) begin : unrolled
        neuron_step stage(
            .potential(potential[t]), .arriving((64'(signed'(held[t])) + held_bias) <<< fraction_bits), .limit,
            .leak_shift, .leak_subtracts, .reset, .at_threshold, .fired(fired[t]), .behind(potential[t + 1])
        );
    end

    // One after the other; the cycle in which the neuron is taken is the first of its first step.
    logic now_fired, works, ends_step;
    logic [6:0] now_left;
    logic [4:0] now_step;
    logic [31:0] now_sum;
    logic signed [63:0] kept, behind;
    logic [15:0] collected, now_collected;
    assign works     = take || busy;
    assign now_left  = take ? cycles : left;
    assign now_step  = take ? '0 : step;
    assign now_sum   = take ? sums[0] : held[step[3:0]];
    assign ends_step = now_left == 7'd1;
    neuron_step single(
        .potential(take ? '0 : kept),
        .arriving((64'(signed'(now_sum)) + (take ? 64'(signed'(bias)) : held_bias)) <<< fraction_bits),
        .limit(take ? 64'(signed'(threshold)) <<< fraction_bits : limit),
        .leak_shift, .leak_subtracts, .reset, .at_threshold, .fired(now_fired), .behind
    );
    always_comb begin
        now_collected = take ? '0 : collected;
        now_collected[now_step[3:0]] = now_fired;
    end

    assign word = serial ? collected : fired & 16'((17'd1 << timesteps) - 17'd1);
    always_ff @(posedge clk) begin
        done <= 1'b0;
        if (rst) busy <= 1'b0;
        else if (works) begin
            if (take) begin
                held      <= sums;
                held_bias <= 64'(signed'(bias));
                limit     <= 64'(signed'(threshold)) <<< fraction_bits;
                kept      <= '0;
                collected <= '0;
            end
            busy <= 1'b1;
            step <= now_step;
            left <= ends_step ? cycles : now_left - 7'd1;
            if (ends_step) begin
                kept      <= behind;
                collected <= now_collected;
                step      <= now_step + 5'd1;
                if (!serial || now_step + 5'd1 == timesteps) begin
                    busy <= 1'b0;
                    done <= 1'b1;
                end
            end
        end
    end
endmodule

// Words of up to 128 neurons come one by one; behind the last, the inverted laggy prefix-sum goes through them at a pace
// of 128 neurons in `chunk_cycles`: every cycle brings a credit of 128, every neuron takes one of `chunk_cycles`.
module output_compressor (
    input  logic         clk,
    input  logic         rst,
    input  logic         valid,
    input  logic [15:0]  word,
    input  logic         last,
    input  logic [11:0]  chunk_cycles,
    input  logic         mask_fire_once,
    output logic         busy,   // from the cycle of the last word on
    output logic         done,
    output logic [127:0] bitmask,
    output logic [7:0]   number,
    output logic [127:0][15:0] packed_words
);
    logic [127:0][15:0] held, seen;
    logic [7:0] count, total, place, at;
    logic [12:0] credit, left;
    logic working, begins;
    logic [127:0] bits;
    logic [7:0] packed_number;
    logic [127:0][15:0] words;
    logic [15:0] next;
    assign begins = valid && (last || count == 8'd127);
    assign busy   = begins || working;
    always_comb begin
        seen = held;
        if (valid) seen[count[6:0]] = word;
        total = begins ? count + 8'd1 : count;
        bits = begins ? '0 : bitmask;
        packed_number = begins ? '0 : number;
        words = begins ? '0 : packed_words;
        at = begins ? '0 : place;
        left = (begins ? '0 : credit) + 13'd128;
        next = '0;
        if (busy)
            for (int i = 0; i < 128; i++)
                if (at < total && left >= {1'b0, chunk_cycles}) begin
                    left = left - {1'b0, chunk_cycles};
                    next = seen[at[6:0]];
                    if (next != '0 && !(mask_fire_once && $onehot(next))) begin
                        bits[at[6:0]] = 1'b1;
                        words[packed_number[6:0]] = next;
                        packed_number = packed_number + 8'd1;
                    end
                    at = at + 8'd1;
                end
    end
    always_ff @(posedge clk) begin
        done <= 1'b0;
        if (rst) begin
            working <= 1'b0;
            count   <= '0;
        end else begin
            if (valid) begin
                held  <= seen;
                count <= count + 8'd1;
            end
            if (busy) begin
                bitmask      <= bits;
                number       <= packed_number;
                packed_words <= words;
                place        <= at;
                credit       <= left;
                working      <= at != total;
                done         <= at == total;
                if (at == total) count <= '0;
            end
        end
    end
endmodule
