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

// A neuron is taken, and its word is valid `latency` later: sixteen steps one behind the other, as P-LIF has them, in a
// pipeline that takes a neuron a cycle. With `serial` there is one step; a timestep takes `cycles`, and a neuron is taken
// when the one before has left.
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
    input  logic [7:0]  latency,
    input  logic        serial,
    output logic        done,
    output logic [15:0] word
);
    // All at once.
    logic signed [63:0] given_bias, given_limit;
    logic [15:0] fired;
    logic signed [16:0][63:0] potential;
    assign given_bias   = 64'(signed'(bias));
    assign given_limit  = 64'(signed'(threshold)) <<< fraction_bits;
    assign potential[0] = '0;
    for (genvar t = 0; t < 16; t++) begin : unrolled
        neuron_step stage(
            .potential(potential[t]), .arriving((64'(signed'(sums[t])) + given_bias) <<< fraction_bits),
            .limit(given_limit), .leak_shift, .leak_subtracts, .reset, .at_threshold, .fired(fired[t]),
            .behind(potential[t + 1])
        );
    end
    logic [127:0] valid_at;
    logic [127:0][15:0] word_at;
    always_ff @(posedge clk) begin
        valid_at <= rst ? '0 : {valid_at[126:0], take && !serial};
        word_at  <= {word_at[126:0], fired & 16'((17'd1 << timesteps) - 17'd1)};
    end

    // One after the other; the cycle in which the neuron is taken is the first of its first step.
    logic [15:0][31:0] held;
    logic signed [63:0] held_bias, limit;
    logic [6:0] left;
    logic [4:0] step;
    logic busy, ended, now_fired, works, ends_step;
    logic [6:0] now_left;
    logic [4:0] now_step;
    logic [31:0] now_sum;
    logic signed [63:0] kept, behind;
    logic [15:0] collected, now_collected;
    assign works     = (take && serial) || busy;
    assign now_left  = take ? cycles : left;
    assign now_step  = take ? '0 : step;
    assign now_sum   = take ? sums[0] : held[step[3:0]];
    assign ends_step = now_left == 7'd1;
    neuron_step single(
        .potential(take ? '0 : kept), .arriving((64'(signed'(now_sum)) + (take ? given_bias : held_bias)) <<< fraction_bits),
        .limit(take ? given_limit : limit), .leak_shift, .leak_subtracts, .reset, .at_threshold, .fired(now_fired), .behind
    );
    always_comb begin
        now_collected = take ? '0 : collected;
        now_collected[now_step[3:0]] = now_fired;
    end

    assign done = serial ? ended : valid_at[7'(latency - 8'd1)];
    assign word = serial ? collected : word_at[7'(latency - 8'd1)];
    always_ff @(posedge clk) begin
        ended <= 1'b0;
        if (rst) busy <= 1'b0;
        else if (works) begin
            if (take) begin
                held      <= sums;
                held_bias <= given_bias;
                limit     <= given_limit;
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
                if (now_step + 5'd1 == timesteps) begin
                    busy  <= 1'b0;
                    ended <= 1'b1;
                end
            end
        end
    end
endmodule

// When neurons of a row are taken: one every `interval`. Behind the last of a group the next is taken so that its word comes
// when the group has moved on: cycles of neurons and groups are known, and the compressor is booked when the neuron is
// taken.
module neuron_booking (
    input  logic        clk,
    input  logic        rst,
    input  logic        take,
    input  logic        ends_group,
    input  logic [6:0]  place,         // of the neuron in its group
    input  logic [11:0] interval,
    input  logic [11:0] latency,       // from a neuron to its word
    input  logic [11:0] chunk_cycles,  // of 128 neurons in the compressor
    output logic        ready
);
    logic [11:0] booked, hold, behind;  // booked: cycles until the compressor is free
    logic [18:0] group_cycles;
    assign ready        = hold == '0;
    assign group_cycles = ({12'd0, place} + 19'd1) * {7'd0, chunk_cycles} + 19'd127;
    assign behind       = booked > latency ? booked : latency;
    always_ff @(posedge clk) begin
        if (rst) {booked, hold} <= '0;
        else begin
            booked <= booked - 12'(booked != '0);
            hold   <= hold - 12'(hold != '0);
            if (take) begin
                hold <= interval - 12'd1 + (ends_group ? behind - latency : 12'd0);
                if (ends_group) booked <= behind + group_cycles[18:7] - 12'd1;
            end
        end
    end
endmodule

// An inverted laggy prefix-sum goes through the words of a group at a pace of 128 neurons in `chunk_cycles`: every cycle
// brings a credit of 128, every neuron takes one of `chunk_cycles`.
module word_packer (
    input  logic         clk,
    input  logic         rst,
    input  logic         begins,  // only if it is not working
    input  logic [127:0][15:0] group,
    input  logic [7:0]   neurons,
    input  logic [11:0]  chunk_cycles,
    input  logic         mask_fire_once,
    output logic         working,
    output logic         done,
    output logic [127:0] bitmask,
    output logic [7:0]   number,
    output logic [127:0][15:0] packed_words
);
    logic [127:0][15:0] worked_on, now_worked_on;
    logic [7:0] total, now_total, place, at;
    logic [12:0] credit, left;
    logic busy;
    logic [127:0] bits;
    logic [7:0] packed_number;
    logic [127:0][15:0] words;
    logic [15:0] next;
    assign busy = begins || working;
    always_comb begin
        now_worked_on = worked_on;
        now_total = total;
        bits = bitmask;
        packed_number = number;
        words = packed_words;
        at = place;
        left = credit + 13'd128;
        next = '0;
        if (begins) begin
            now_worked_on = group;
            now_total = neurons;
            {bits, packed_number, words, at, left} = {128'd0, 8'd0, 2048'd0, 8'd0, 13'd128};
        end
        if (busy)
            for (int i = 0; i < 128; i++)
                if (at < now_total && left >= {1'b0, chunk_cycles}) begin
                    left = left - {1'b0, chunk_cycles};
                    next = now_worked_on[at[6:0]];
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
        if (rst) working <= 1'b0;
        else if (busy) begin
            worked_on    <= now_worked_on;
            total        <= now_total;
            bitmask      <= bits;
            number       <= packed_number;
            packed_words <= words;
            place        <= at;
            credit       <= left;
            working      <= at != now_total;
            done         <= at == now_total;
        end
    end
endmodule

// Words of up to 128 neurons come one by one into a buffer. When it has the last, and the group before is done, they move
// on. Meanwhile the next group comes.
module output_compressor (
    input  logic         clk,
    input  logic         rst,
    input  logic         valid,
    input  logic [15:0]  word,
    input  logic         last,
    input  logic [11:0]  chunk_cycles,
    input  logic         mask_fire_once,
    output logic         done,
    output logic         lost,   // a word, for which there was no room
    output logic [127:0] bitmask,
    output logic [7:0]   number,
    output logic [127:0][15:0] packed_words
);
    logic [127:0][15:0] held, seen;
    logic [7:0] count, now_count;
    logic full, fills, working, begins;
    assign now_count = count + 8'(valid);
    assign fills  = full || (valid && (last || count == 8'd127));
    assign begins = fills && !working;
    assign lost   = full && valid;
    always_comb begin
        seen = held;
        if (valid) seen[count[6:0]] = word;
    end
    word_packer packer(
        .clk, .rst, .begins, .group(seen), .neurons(now_count), .chunk_cycles, .mask_fire_once, .working, .done, .bitmask,
        .number, .packed_words
    );
    always_ff @(posedge clk) begin
        if (rst) begin
            full  <= 1'b0;
            count <= '0;
        end else begin
            held  <= seen;
            full  <= fills && !begins;
            count <= begins ? '0 : now_count;
        end
    end
endmodule
