// Spikes into tinyODIN as fast as its four-phase handshake takes them, then a time reference event.
// Prints the cycles that each event occupies the neuron core, and those from the first request to the last update.
`timescale 1ns / 1ns
module bench;
    parameter NEURONS = 256, SPIKES = 4, TICKS = 1, SEED = 1;
    reg clk = 0, rst = 1, request = 0;
    reg [9:0] address = 0;
    wire acknowledge;
    integer seed = SEED, cycle = 0, begun, event_of, tick_of, place, entered = 0;
    always #5 clk = ~clk;

    tinyODIN circuit (
        .CLK(clk), .RST(rst), .SCK(1'b0), .MOSI(1'b0), .AERIN_ADDR(address), .AERIN_REQ(request),
        .AERIN_ACK(acknowledge), .AEROUT_ACK(1'b0));

    // What its serial port would write: open loop, NEURONS neurons; no neuron may fire (bit 31).
    initial begin
        force circuit.spi_slave_0.SPI_GATE_ACTIVITY = 1'b0;
        force circuit.spi_slave_0.SPI_OPEN_LOOP = 1'b1;
        force circuit.spi_slave_0.SPI_AER_SRC_CTRL_nNEUR = 1'b0;
        force circuit.spi_slave_0.SPI_MAX_NEUR = NEURONS - 1;
        for (place = 0; place < 256; place = place + 1) circuit.neuron_core_0.neurarray_0.SRAM[place] = 32'h807FF000;
        for (place = 0; place < 8192; place = place + 1) circuit.synaptic_core_0.synarray_0.SRAM[place] = $random(seed);
    end

    // The controller's states 5 (time reference), 7 and 9 (a spike goes through all neurons, then leaves the FIFO).
    wire works = circuit.controller_0.state == 5 || circuit.controller_0.state == 7 || circuit.controller_0.state == 9;
    reg worked = 0;
    integer kind = 0;
    always @(posedge clk) begin
        cycle <= cycle + 1;
        worked <= works;
        if (works && !worked) begin
            entered = cycle;
            kind = circuit.controller_0.state;
        end
        if (!works && worked) $display("%0s %0d", kind == 5 ? "reference" : "spike", cycle - entered);
    end

    task send(input [9:0] what);
        begin
            address = what;
            request = 1;
            wait (acknowledge === 1'b1);
            @(negedge clk) request = 0;
            wait (acknowledge === 1'b0);
            @(negedge clk);
        end
    endtask

    initial begin
        repeat (8) @(negedge clk);
        rst = 0;
        repeat (8) @(negedge clk);
        begun = cycle;
        for (tick_of = 0; tick_of < TICKS; tick_of = tick_of + 1) begin
            for (event_of = 0; event_of < SPIKES; event_of = event_of + 1) send({2'b00, 8'b0} + ($random(seed) & 255));
            wait (circuit.controller_0.state == 0 && circuit.controller_0.SCHED_EMPTY);
            @(negedge clk);
            send({2'b01, 8'hFF});
            wait (circuit.controller_0.state == 0);
        end
        $display("all %0d", cycle - begun);
        $finish;
    end
endmodule
