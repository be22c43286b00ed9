// A tile of crossbar arrays: input buffer, row drivers, arrays, sampled columns, shared converters, shift-add, adder tree.

// Converter by successive approximation: a bit after the other stays set if the column carries at least what the ladder
// gives for the code so far, half a step below its nominal value.
module ladder_converter (
    input  logic [8:0] column,  // in levels
    input  logic [8:0] span,    // of the ladder
    input  logic [3:0] bits,
    output logic [7:0] code
);
    logic [7:0] top, trial;
    assign top = 8'((9'd1 << bits) - 9'd1);
    always_comb begin
        code = '0;
        for (int i = 7; i >= 0; i--) begin
            trial = code | 8'(1 << i);
            if (i < 32'(bits) && 20'({column, 1'b0}) * 20'(top) >= (20'({trial, 1'b0}) - 20'd1) * 20'(span)) code = trial;
        end
    end
endmodule

// A column of cells: what flows in it while rows are driven.
module array_column #(
    parameter int R = 4
) (
    input  logic [R-1:0] driven,
    input  logic [R-1:0][3:0] level,
    output logic [8:0] current
);
    always_comb begin
        current = '0;
        for (int r = 0; r < R; r++) current = current + {5'd0, level[r] & {4{driven[r]}}};
    end
endmodule

// Up to two arrays stand side by side along the input: array a sees column `step + a` of the map's row. Rows of the map
// come into a buffer, from which `width` bits a cycle go into the drivers' registers: all columns for the first step of
// a row, then the one that is new. Inputs are driven bit by bit, lowest first. Every bit takes one of `slots` places
// from its drive until it is added: of columns that are sampled, in the converters, of sums.
//
// A bit of an input that no row has is not read and not converted (`skip`); it only is added, as zero.
module crossbar_tile #(
    parameter int A = 2,
    parameter int R = 4,
    parameter int C = 8,
    parameter int DEPTH = 4
) (
    input  logic        clk,
    input  logic        rst,
    input  logic [1:0]  arrays,
    input  logic        joined,        // arrays have one set of converters, their currents are added
    input  logic        difference,    // pairs of columns, or an offset and a sign bit
    input  logic        signed_inputs,
    input  logic        skip,
    input  logic [2:0]  channels,
    input  logic [3:0]  bits,
    input  logic [2:0]  steps,
    input  logic [6:0]  width,
    input  logic [4:0]  read_cycles,
    input  logic [4:0]  conversion_cycles,
    input  logic [3:0]  shared,        // columns of a converter
    input  logic [3:0]  used,          // columns
    input  logic [3:0]  weight_columns,
    input  logic [2:0]  cell_bits,
    input  logic [3:0]  weight_bits,
    input  logic [3:0]  converter_bits,
    input  logic [8:0]  span,
    input  logic [2:0]  slots,
    input  logic [4:0]  add_cycles,    // shift-add
    input  logic [2:0]  rows_held,
    input  logic [1:0]  parts,
    input  logic [A-1:0][C-1:0][R-1:0][3:0] level,
    input  logic [A-1:0][C-1:0][R-1:0] negative,
    input  logic [255:0][7:0] worth,   // of each code
    input  logic        row_valid,
    output logic        row_ready,
    input  logic [191:0] row,
    input  logic        credit,        // room for a packet of sums
    input  logic [1:0]  part_valid,
    output logic [1:0]  part_ready,
    input  logic [1:0][C-1:0][31:0] part_sums,
    output logic [3:0]  sampled,       // bits that have been driven in this cycle
    output logic [3:0]  converted,
    output logic        sums_valid,
    output logic [C-1:0][31:0] sums
);
    typedef struct packed {
        logic fetching, driving, reading;
        logic [2:0] step;
        logic [3:0] plane;
        logic [6:0] fill;   // bits in the drivers' registers
        logic [4:0] left;
        logic [2:0] rows;   // in the buffer
        logic [2:0] place;  // next one to be filled; counted on, so that full is not empty
    } driver_t;
    typedef struct packed {
        logic converting;
        logic [2:0] turn;
        logic [4:0] left;
        logic [2:0] place;
    } converter_t;
    typedef struct packed {
        logic adding, all_added;
        logic [4:0] left;
        logic [3:0] plane;
        logic [1:0] part;
        logic [7:0] credits;
        logic [2:0] place;
    } adder_t;
    driver_t driver, next_driver;
    converter_t converter, next_converter;
    adder_t adder, ended_adder, next_adder;
    logic [DEPTH-1:0][191:0] buffer;
    logic [63:0] registers;
    // Places.
    logic [DEPTH-1:0] active, next_active;
    logic [DEPTH-1:0][A-1:0][R-1:0] driven;
    logic [DEPTH-1:0][A-1:0][C-1:0][8:0] sample;
    logic [DEPTH-1:0][C-1:0][31:0] sum;
    logic [C-1:0][31:0] total;

    // Which column is a converter's how manieth, and which slice of which weight it holds.
    logic [C-1:0][2:0] turn_of, slice_of, weight_of;
    logic [3:0] turn, slice;
    logic [2:0] weight;
    always_comb begin
        turn = '0;
        slice = '0;
        weight = '0;
        for (int c = 0; c < C; c++) begin
            turn_of[c] = turn[2:0];
            slice_of[c] = slice[2:0];
            weight_of[c] = weight;
            turn = turn + 4'd1 == shared ? '0 : turn + 4'd1;
            slice = slice + 4'd1 == weight_columns ? '0 : slice + 4'd1;
            weight = weight + 3'(slice == '0);
        end
    end
    logic [5:0] column_bits;
    logic [6:0] window_bits;
    assign column_bits = 6'(channels) * 6'(bits);
    assign window_bits = 7'(column_bits) * 7'(arrays);

    logic [7:0][A-1:0][R-1:0] drives;  // rows of each bit of the position
    always_comb
        for (int p = 0; p < 8; p++)
            for (int a = 0; a < A; a++)
                for (int r = 0; r < R; r++)
                    drives[p][a][r] = a < 32'(arrays) && r < 32'(channels) && p < 32'(bits)
                        && registers[6'(a) * column_bits + 6'(r) * 6'(bits) + 6'(p)];
    logic [A-1:0][C-1:0][8:0] current;
    for (genvar a = 0; a < A; a++)
        for (genvar c = 0; c < C; c++)
            array_column #(.R(R)) column(
                .driven(drives[driver.plane[2:0]][a]), .level(level[a][c]), .current(current[a][c])
            );

    // What converters find of the columns whose turn it is, shifted and added to what they found before.
    logic [A-1:0][C-1:0][8:0] held;
    logic [A-1:0][C-1:0][7:0] code;
    assign held = sample[converter.place[1:0]];
    for (genvar a = 0; a < A; a++)
        for (genvar c = 0; c < C; c++)
            ladder_converter converter_of_column(
                .column(held[a][c] + (joined && a == 0 ? held[1][c] : '0)), .span, .bits(converter_bits), .code(code[a][c])
            );
    logic [C-1:0][31:0] of_columns;
    logic [31:0] one;
    logic [4:0] place;
    always_comb begin
        of_columns = sum[converter.place[1:0]];
        one = '0;
        place = '0;
        for (int a = 0; a < A; a++)
            for (int c = 0; c < C; c++)
                if (c < 32'(used) && turn_of[c] == converter.turn && a < (joined ? 1 : 32'(arrays))) begin
                    place = difference ? 5'(slice_of[c][2:1]) : 5'(slice_of[c]);
                    one = 32'(worth[code[a][c]]) << 5'(cell_bits) * place;
                    of_columns[weight_of[c]] = of_columns[weight_of[c]] + (difference && slice_of[c][0] ? -one : one);
                end
    end

    // What the bit in the adder is worth: its slices are added already; the offset of negative weights comes off.
    logic [C-1:0][31:0] with_bit;
    logic [C-1:0][31:0] bit_sums;
    logic [A-1:0][R-1:0] rows_of_bit;
    logic [31:0] value;
    assign bit_sums = sum[adder.place[1:0]];
    assign rows_of_bit = driven[adder.place[1:0]];
    always_comb
        for (int n = 0; n < C; n++) begin
            value = difference ? '0 : 32'($countones(rows_of_bit & {negative[1][n], negative[0][n]}));
            value = (bit_sums[n] - (value << (weight_bits - 4'd1))) << adder.plane;
            with_bit[n] = total[n] + (signed_inputs && adder.plane + 4'd1 == bits ? -value : value);
        end

    // Adder: the bit ends; parts of other tiles come, one a cycle; then the sums leave when there is room.
    logic adds, takes_part;
    assign adds = adder.adding && adder.left == '0;
    always_comb begin
        ended_adder = adder;
        ended_adder.left = adder.left - 5'd1;
        ended_adder.credits = adder.credits + 8'(credit);
        if (adds) begin
            ended_adder.adding = 1'b0;
            ended_adder.place = adder.place + 3'd1;
            ended_adder.plane = adder.plane + 4'd1;
            ended_adder.all_added = ended_adder.plane == bits;
        end
        part_ready = '0;
        part_ready[ended_adder.part[0]] = ended_adder.all_added && ended_adder.part < parts;
        takes_part = (part_valid & part_ready) != '0;
        sums = adds ? with_bit : total;
        sums_valid = ended_adder.all_added && ended_adder.part == parts && ended_adder.credits != '0;
        if (takes_part) begin
            for (int n = 0; n < C; n++) sums[n] = sums[n] + part_sums[ended_adder.part[0]][n];
            ended_adder.part = ended_adder.part + 2'd1;
        end
        if (sums_valid) begin
            ended_adder.credits = ended_adder.credits - 8'd1;
            {ended_adder.all_added, ended_adder.plane, ended_adder.part} = '0;
        end
    end

    // Drivers.
    logic samples, row_ends, row_begins, step_ends;
    logic [DEPTH-1:0] skipped;
    logic [6:0] fetched;
    assign samples = driver.reading && driver.left == '0;
    always_comb begin
        next_driver = driver;
        next_driver.left = driver.left - 5'd1;
        next_active = active;
        sampled = '0;
        skipped = '0;
        if (driver.fetching && driver.fill == window_bits) begin
            next_driver.fetching = 1'b0;
            next_driver.driving = 1'b1;
            next_driver.plane = '0;
        end
        if (samples) begin
            next_driver.reading = 1'b0;
            next_active[driver.place[1:0]] = 1'b1;
            next_driver.place = driver.place + 3'd1;
            next_driver.plane = driver.plane + 4'd1;
            sampled = 4'd1;
        end
        for (int i = 0; i < DEPTH; i++)
            if (next_driver.driving && !next_driver.reading && next_driver.plane < bits
                    && next_driver.place - ended_adder.place < slots) begin
                if (!skip || drives[next_driver.plane[2:0]] != '0) begin
                    next_driver.reading = 1'b1;
                    next_driver.left = read_cycles - 5'd1;
                end else begin
                    skipped[next_driver.place[1:0]] = 1'b1;
                    next_active[next_driver.place[1:0]] = 1'b0;
                    next_driver.place = next_driver.place + 3'd1;
                    next_driver.plane = next_driver.plane + 4'd1;
                    sampled = sampled + 4'd1;
                end
            end
        step_ends = next_driver.driving && !next_driver.reading && next_driver.plane == bits;
        row_ends = step_ends && driver.step + 3'd1 == steps;
        if (step_ends) begin
            next_driver.driving = 1'b0;
            next_driver.step = driver.step + 3'd1;
            next_driver.fetching = !row_ends;
            next_driver.fill = window_bits - 7'(column_bits);
            next_driver.rows = driver.rows - 3'(row_ends);
        end
        row_ready = next_driver.rows < rows_held;
        next_driver.rows = next_driver.rows + 3'(row_valid && row_ready);
        row_begins = !next_driver.fetching && !next_driver.driving && next_driver.rows != '0;
        if (row_begins) begin
            next_driver.fetching = 1'b1;
            next_driver.step = '0;
            next_driver.fill = '0;
        end
        fetched = window_bits - next_driver.fill < width ? window_bits - next_driver.fill : width;
        if (next_driver.fetching) next_driver.fill = next_driver.fill + fetched;
    end
    // The row in front moves through the bus into the registers; those of a column that is done move on.
    logic [DEPTH-1:0][191:0] rows;
    logic [63:0] kept, bus;
    logic [2:0] behind;
    always_comb begin
        rows = row_ends ? buffer >> 192 : buffer;
        behind = driver.rows - 3'(row_ends);
        if (row_valid && row_ready) rows[behind[1:0]] = row;
        kept = row_begins ? '0 : step_ends ? registers >> column_bits : registers;
        bus = rows[0][63:0] & ~({64{1'b1}} << fetched);
    end
    always_ff @(posedge clk) begin
        buffer <= rows;
        registers <= kept;
        if (next_driver.fetching) begin
            buffer[0] <= rows[0] >> fetched;
            registers <= kept | bus << (next_driver.fill - fetched);
        end
        for (int i = 0; i < DEPTH; i++)
            if (skipped[i] || (samples && i == 32'(driver.place[1:0]))) begin
                driven[i] <= skipped[i] ? '0 : drives[driver.plane[2:0]];
                sample[i] <= current;
            end
    end

    // Converters: all columns whose turn it is at once.
    logic converts;
    logic [2:0] last_turn;
    assign last_turn = 3'((used < shared ? used : shared) - 4'd1);
    assign converts = converter.converting && converter.left == '0;
    always_comb begin
        next_converter = converter;
        next_converter.left = converts ? conversion_cycles - 5'd1 : converter.left - 5'd1;
        converted = '0;
        if (converts) begin
            next_converter.turn = converter.turn + 3'd1;
            if (converter.turn == last_turn) begin
                next_converter.converting = 1'b0;
                next_converter.place = converter.place + 3'd1;
                converted = 4'd1;
            end
        end
        for (int i = 0; i < DEPTH; i++)
            if (!next_converter.converting && next_converter.place != next_driver.place) begin
                if (next_active[next_converter.place[1:0]]) begin
                    next_converter.converting = 1'b1;
                    next_converter.turn = '0;
                    next_converter.left = conversion_cycles - 5'd1;
                end else begin
                    next_converter.place = next_converter.place + 3'd1;
                    converted = converted + 4'd1;
                end
            end
    end
    always_ff @(posedge clk)
        for (int i = 0; i < DEPTH; i++)
            if (skipped[i] || (samples && i == 32'(driver.place[1:0]))) sum[i] <= '0;
            else if (converts && i == 32'(converter.place[1:0])) sum[i] <= of_columns;

    // The adder's next bit; its tree has a level where there are two arrays.
    always_comb begin
        next_adder = ended_adder;
        if (!ended_adder.adding && !ended_adder.all_added && ended_adder.place != next_converter.place) begin
            next_adder.adding = 1'b1;
            next_adder.left = add_cycles + 5'(arrays == 2'd2) - 5'd1;
        end
    end
    always_ff @(posedge clk) begin
        total <= rst || sums_valid ? '0 : sums;
        if (rst) {driver, converter, adder} <= '0;
        else {driver, converter, adder} <= {next_driver, next_converter, next_adder};
        active <= next_active;
    end
endmodule
