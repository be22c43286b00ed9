// Spikes into the convolution of metr0jw's accelerator, each as soon as it is taken; thresholds out of reach.
// Prints the cycles from the one that sees the first spike to the one that is idle again.
`timescale 1ns / 1ns
module bench;
    parameter SIDE = 8, INPUTS = 1, OUTPUTS = 4, KERNEL = 3, SPIKES = 4, SEED = 1;
    reg clk = 0, reset_n = 0, valid = 0;
    reg [31:0] spike = 0;
    wire ready, busy, reads;
    reg weight_valid = 0;
    integer seed = SEED, cycle = 0, begun, spike_of;
    always #5 clk = ~clk;

    snn_conv2d #(
        .INPUT_HEIGHT(SIDE), .INPUT_WIDTH(SIDE), .INPUT_CHANNELS(INPUTS), .OUTPUT_CHANNELS(OUTPUTS),
        .KERNEL_SIZE(KERNEL), .STRIDE(1), .PADDING(KERNEL / 2), .THRESHOLD(16'h7FFF)
    ) circuit (
        .clk(clk), .rst_n(reset_n), .enable(1'b1), .s_axis_spike_tvalid(valid), .s_axis_spike_tdata(spike),
        .s_axis_spike_tlast(1'b0), .s_axis_spike_tready(ready), .m_axis_spike_tready(1'b1), .weight_rd_en(reads),
        .weight_data(8'sd1), .weight_valid(weight_valid), .config_threshold(16'h7FFF), .config_valid(1'b0),
        .busy(busy));

    always @(posedge clk) begin
        cycle <= cycle + 1;
        weight_valid <= reads;
    end

    function [7:0] drawn(input integer below);
        drawn = $unsigned($random(seed)) % below;
    endfunction

    initial begin
        repeat (4) @(negedge clk);
        reset_n = 1;
        repeat (4) @(negedge clk);
        begun = cycle;
        for (spike_of = 0; spike_of < SPIKES; spike_of = spike_of + 1) begin
            spike = {drawn(INPUTS), drawn(SIDE), drawn(SIDE), 8'd0};
            valid = 1;
            wait (busy);
            @(negedge clk) valid = 0;
            wait (!busy);
            @(negedge clk);
        end
        $display("cycles %0d", cycle - begun);
        $finish;
    end
endmodule
