// A tick of RANC's token controller: cycles from the one that sees the tick to the one that clears the scheduler.
`timescale 1ns / 1ns
module bench;
    parameter AXONS = 256, NEURONS = 256, SEED = 1;
    reg clk = 0, rst = 1, tick = 0, fires = 0;
    reg [AXONS-1:0] spikes = 0, synapses = 0;
    wire clear;
    integer seed = SEED, begun = -1, cycle = 0, bit_of;
    always #5 clk = ~clk;

    TokenController #(.NUM_AXONS(AXONS), .NUM_NEURONS(NEURONS), .NUM_WEIGHTS(4), .FILENAME("instructions.mem")) circuit (
        .clk(clk), .rst(rst), .tick(tick), .axon_spikes(spikes), .synapses(synapses), .spike_in(fires),
        .local_buffers_full(1'b0), .scheduler_clr(clear));

    always @(posedge clk) cycle <= cycle + 1;
    always @(negedge clk) fires <= $random(seed);

    initial begin
        for (bit_of = 0; bit_of < AXONS; bit_of = bit_of + 1) begin
            spikes[bit_of] = $random(seed);
            synapses[bit_of] = $random(seed);
        end
        repeat (4) @(negedge clk);
        rst = 0;
        repeat (4) @(negedge clk);
        tick = 1;
        begun = cycle;
        @(negedge clk) tick = 0;
        wait (clear === 1'b1);
        @(negedge clk);
        $display("cycles %0d", cycle - begun);
        $finish;
    end
endmodule
