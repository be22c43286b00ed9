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

// Laggy: `adders` adders in a row carry the count through the bitmask, a group of so many bits in each cycle, and write
// the offsets of the group into a table. `last` is the last position whose offset is wanted. `done` in the cycle in
// which the table holds it; then, or when idle, the unit begins again.
module laggy_prefix_sum (
    input  logic         clk,
    input  logic         rst,
    input  logic         start,
    input  logic [127:0] mask,
    input  logic [7:0]   adders,
    input  logic [6:0]   last,
    output logic         busy,
    output logic         done,
    output logic [127:0][6:0] offsets
);
    logic [127:0] left;    // what the adders have not seen
    logic [7:0]   place;   // position of its first bit
    logic [7:0]   count;   // ones before it
    logic [6:0]   wanted;

    logic [7:0]        carried;  // from adder to adder, at last from group to group
    logic [127:0][6:0] written;  // the table with this cycle's group
    always_comb begin
        carried = count;
        written = offsets;
        for (int i = 0; i < 128; i++)
            if (i < 32'(adders) && 32'(place) + i < 128) begin
                written[7'(place + 8'(i))] = carried[6:0];
                carried = carried + 8'(left[i]);
            end
    end

    always_ff @(posedge clk) begin
        done <= 1'b0;
        if (rst) busy <= 1'b0;
        else if (start) begin
            busy   <= 1'b1;
            left   <= mask;
            place  <= '0;
            count  <= '0;
            wanted <= last;
        end else if (busy) begin
            offsets <= written;
            left    <= left >> adders;
            count   <= carried;
            place   <= place + adders;
            if (32'(place) + 32'(adders) > 32'(wanted)) begin
                busy <= 1'b0;
                done <= 1'b1;
            end
        end
    end
endmodule
