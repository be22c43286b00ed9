// Runs a circuit on cases from standard input, and writes down every transfer of every stream with its cycle.
//
// A circuit is a box with streams: INPUTS that it takes (valid, ready) and OUTPUTS that it gives (valid), each item of
// IN_WORDS and OUT_WORDS words of 32 bits, and SETTINGS words that stay as they are while a case lasts. An item of an
// input is valid from its release cycle on, behind the one before it. Cycle 0 is the first without reset.
//
// Input, in words of 64 bits: cases; for each of them the settings, the cycle after which it is given up, and for each
// input the number of items, then for each item its release cycle and its words. A case ends when the outputs have given
// as many items as it expects: one number for each output, in front of the inputs. Output: for each case the number of
// cycles (-1: given up), and for each stream, inputs first, the number of transfers, then for each of them its cycle and,
// of an output, its words.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "Vcircuit.h"
#include "verilated.h"

template <typename Port> void drive(Port &port, const uint32_t *words) { std::memcpy(&port, words, sizeof(Port)); }
template <typename Port> void sample(const Port &port, uint32_t *words) { std::memcpy(words, &port, sizeof(Port)); }

static int64_t next_word() {
    int64_t word;
    if (std::fread(&word, sizeof word, 1, stdin) != 1) std::exit(3);
    return word;
}

static void put(int64_t word) { std::fwrite(&word, sizeof word, 1, stdout); }

struct Item {
    int64_t release;
    std::vector<uint32_t> words;
};

struct Transfer {
    int64_t cycle;
    std::vector<uint32_t> words;
};

constexpr size_t padded(size_t words) { return words + 4; }

static void run(Vcircuit &circuit) {
    uint32_t settings[padded(SETTINGS)] = {};
    for (int i = 0; i < SETTINGS; ++i) settings[i] = static_cast<uint32_t>(next_word());
    const int64_t limit = next_word();
    std::vector<int64_t> expected(OUTPUTS);
    for (auto &count : expected) count = next_word();
    std::vector<std::vector<Item>> items(INPUTS);
    for (auto &stream : items) {
        stream.resize(next_word());
        for (auto &item : stream) {
            item.release = next_word();
            for (int i = 0; i < IN_WORDS; ++i) item.words.push_back(static_cast<uint32_t>(next_word()));
        }
    }
    std::vector<std::vector<int64_t>> taken(INPUTS);
    std::vector<std::vector<Transfer>> given(OUTPUTS);
    uint32_t in_valid[padded(INPUTS / 32)] = {}, in_ready[padded(INPUTS / 32)] = {}, out_valid[padded(OUTPUTS / 32)] = {};
    std::vector<uint32_t> in_data(padded(INPUTS * IN_WORDS)), out_data(padded(OUTPUTS * OUT_WORDS));

    circuit.rst = 1;
    drive(circuit.in_valid, in_valid);
    drive(circuit.settings, settings);
    for (int i = 0; i < 2; ++i) {
        circuit.clk = 0;
        circuit.eval();
        circuit.clk = 1;
        circuit.eval();
    }
    circuit.rst = 0;
    int64_t cycle = 0;
    for (bool complete = false; !complete && cycle < limit; ++cycle) {
        std::memset(in_valid, 0, sizeof in_valid);
        for (int stream = 0; stream < INPUTS; ++stream) {
            const size_t place = taken[stream].size();
            if (place == items[stream].size() || items[stream][place].release > cycle) continue;
            in_valid[stream / 32] |= 1u << stream % 32;
            std::memcpy(&in_data[stream * IN_WORDS], items[stream][place].words.data(), 4 * IN_WORDS);
        }
        drive(circuit.in_valid, in_valid);
        drive(circuit.in_data, in_data.data());
        circuit.clk = 0;
        circuit.eval();
        sample(circuit.in_ready, in_ready);
        sample(circuit.out_valid, out_valid);
        sample(circuit.out_data, out_data.data());
        complete = true;
        for (int stream = 0; stream < INPUTS; ++stream)
            if (in_valid[stream / 32] & in_ready[stream / 32] & 1u << stream % 32) taken[stream].push_back(cycle);
        for (int stream = 0; stream < OUTPUTS; ++stream) {
            if (out_valid[stream / 32] & 1u << stream % 32) {
                const uint32_t *first = &out_data[stream * OUT_WORDS];
                given[stream].push_back({cycle, {first, first + OUT_WORDS}});
            }
            complete = complete && static_cast<int64_t>(given[stream].size()) >= expected[stream];
        }
        circuit.clk = 1;
        circuit.eval();
    }
    bool whole = true;
    for (int stream = 0; stream < OUTPUTS; ++stream)
        whole = whole && static_cast<int64_t>(given[stream].size()) >= expected[stream];
    put(whole ? cycle : -1);
    for (const auto &stream : taken) {
        put(stream.size());
        for (int64_t when : stream) put(when);
    }
    for (const auto &stream : given) {
        put(stream.size());
        for (const auto &transfer : stream) {
            put(transfer.cycle);
            for (uint32_t word : transfer.words) put(word);
        }
    }
}

int main() {
    Vcircuit circuit;
    for (int64_t cases = next_word(); cases > 0; --cases) run(circuit);
    return 0;
}
