// Those that wait for a resource, by age: what arrives in a cycle stands behind what came in earlier ones, and among
// itself by number.
module age_queue #(
    parameter int NUMBERS = 64,
    localparam type number_t = logic [$clog2(NUMBERS)-1:0],
    localparam type count_t = logic [$clog2(NUMBERS+1)-1:0]
) (
    input  logic               clk,
    input  logic               rst,
    input  logic [NUMBERS-1:0] arriving,
    input  logic [NUMBERS-1:0] leaving,
    output number_t            held[NUMBERS],   // those of earlier cycles
    output count_t             held_count,
    output number_t            queue[NUMBERS],  // all
    output count_t             count
);
    number_t left[NUMBERS];
    count_t left_count;
    always_comb begin
        queue = held;
        count = held_count;
        if (arriving != '0)
            for (int r = 0; r < NUMBERS; r++)
                if (arriving[r]) begin
                    queue[number_t'(count)] = number_t'(r);
                    count = count + 1'b1;
                end
    end
    always_comb begin
        left = queue;
        left_count = count;
        if (leaving != '0) begin
            left_count = '0;
            for (int i = 0; i < NUMBERS; i++)
                if (count_t'(i) < count && !leaving[queue[i]]) begin
                    left[number_t'(left_count)] = queue[i];
                    left_count = left_count + 1'b1;
                end
        end
    end
    always_ff @(posedge clk) begin
        held       <= left;
        held_count <= rst ? '0 : left_count;
    end
endmodule
