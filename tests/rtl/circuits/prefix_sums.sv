// Prefix-sum units of an inner join: how many ones of a 128-bit bitmask stand before a position.

// Fast: a tree finds the offset of one position; a register behind it makes it one cycle.
module fast_prefix_sum (
    input  logic         clk,
    input  logic         take,
    input  logic [127:0] mask,
    input  logic [6:0]   position,
    output logic [6:0]   offset
);
    logic [127:0] below;
    assign below = mask & ~(128'hffffffffffffffffffffffffffffffff << position);
    always_ff @(posedge clk) if (take) offset <= 7'($countones(below));
endmodule

// Laggy: `adders` adders in a row carry the count through the bitmask, a group of so many bits in each cycle, from that
// of `start` on, and write the offsets of the group into a table. `last` is the last position whose offset is wanted.
// `done` in the cycle in which the table holds it; from then on the unit can begin again.
module laggy_prefix_sum (
    input  logic         clk,
    input  logic         rst,
    input  logic         start,
    input  logic [127:0] mask,
    input  logic [7:0]   adders,
    input  logic [6:0]   last,
    output logic         busy,
    output logic         goes_on,  // beyond this cycle
    output logic         done,
    output logic [127:0][6:0] offsets
);
    logic [127:0] left, now_left;    // what the adders have not seen
    logic [7:0]   place, now_place;  // position of its first bit
    logic [7:0]   count, carried;    // ones before it; carried from adder to adder, at last from group to group
    logic [6:0]   wanted, now_wanted;
    assign now_left   = start ? mask : left;
    assign now_place  = start ? '0 : place;
    assign now_wanted = start ? last : wanted;
    assign goes_on    = (start || busy) && 32'(now_place) + 32'(adders) <= 32'(now_wanted);

    logic [127:0][6:0] written;  // the table with this cycle's group
    always_comb begin
        carried = start ? '0 : count;
        written = offsets;
        if (start || busy)
            for (int i = 0; i < 128; i++)
                if (i < 32'(adders) && 32'(now_place) + i < 128) begin
                    written[7'(now_place + 8'(i))] = carried[6:0];
                    carried = carried + 8'(now_left[i]);
                end
    end

    always_ff @(posedge clk) begin
        done <= 1'b0;
        if (rst) busy <= 1'b0;
        else if (start || busy) begin
            offsets <= written;
            left    <= now_left >> adders;
            count   <= carried;
            place   <= now_place + adders;
            wanted  <= now_wanted;
            busy    <= goes_on;
            done    <= !goes_on;
        end
    end
endmodule
