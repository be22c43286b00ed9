"""SATA_Sim and SpikeSim as replicated: what the originals print, to the last digit, and what is done with bad files."""

import json
import os
import subprocess
import sys
from math import ceil

import pytest
import yaml
from legacy_network import load_network
from legacy_sata_sim import sata_sim as sata
from legacy_spikesim import __main__ as spikesim_command
from legacy_spikesim import spikesim

from archsim.errors import ConfigError
from tests.machines import ROOT

PAPERS = ROOT / "benchmarks" / "papers"
VGG5 = PAPERS / "legacy_sata_sim" / "networks" / "vgg5_cifar10_training.yaml"
BNTT = VGG5.with_name("vgg9_bntt_inference.yaml")
VGG9 = PAPERS / "legacy_spikesim" / "networks" / "vgg9_spikesim.yaml"


def prints_as(value, golden):
    """Does ``value``, rounded to as many digits as ``golden`` has, print as ``golden``?"""
    digits = len(golden.replace(",", "").partition("e")[0].replace(".", "").lstrip("0"))
    return float(f"{value:.{digits}g}") == float(golden.replace(",", ""))


def assert_prints(found, goldens):
    wrong = {name: (found[name], golden) for name, golden in goldens.items() if not prints_as(found[name], golden)}
    assert not wrong


def published(tool):
    """What the original prints, by what it prints it of."""
    return yaml.safe_load((PAPERS / f"legacy_{tool}" / "published.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("tool", ["sata_sim", "spikesim"])
def test_results_and_page_are_those_of_the_command(tool):
    """Results hold the totals that are published, and what the command prints now; the page has a part of them."""
    folder = PAPERS / f"legacy_{tool}"
    page = (folder / "README.md").read_text(encoding="utf-8")
    for path in sorted((folder / "results").glob("*.json")):
        found = json.loads(path.read_text(encoding="utf-8"))
        mode = path.stem.rpartition("_")[2]
        options = ("--mode", mode) if tool == "sata_sim" else ()
        assert json.loads(command(tool, folder / "networks" / f"{path.stem}.yaml", *options, "--json").stdout) == found
        goldens = published(tool)[mode if tool == "sata_sim" else "vgg9"]
        assert_prints(found["totals"], goldens)
        shown = [name for name, golden in goldens.items() if f"| `{name}` | {golden} | {golden} |" in page]
        assert len(shown) >= 2


def test_a_golden_number_is_held_to_its_last_digit():
    assert prints_as(48.44, "48.4")
    assert not prints_as(48.46, "48.4")
    assert not prints_as(4798986139.142862, "4,798,986,139.142863")


# ------------------------------------------------------------------------------------------------- SATA_Sim, training


def train(*overrides, path=VGG5):
    return sata.training(load_network(path, sata.SataNetwork, overrides))


# counter: n, energy of one [pJ], energy [pJ], at T = 4 and b = 2, then at T = 8 and b = 8.
TRAINING = """
lif       528384      0.0140687   7433.7      | 1.05677e6 0.056275 59469.6
mac_fwd   3.35544e7   0.00496175  166489      | 6.71089e7 0.019847 1.33191e6
pgu       528384      0.27216     143805      | 1.05677e6 0.27216  287610
mac_bwd   1.03626e8   0.2779      2.87975e7   | 2.07251e8 0.2779   5.75951e7
mac_wup   5.69115e7   0.039694    2.25904e6   | 1.13823e8 0.039694 4.51809e6
dram_fwd  9.26074e6   6.9475      6.4339e7    | 9.7287e6  27.79    2.70361e8
glb_fwd   1.85215e7   0.24375     4.51461e6   | 1.94574e7 0.975    1.8971e7
spad_fwd  1.74647e7   0.0347375   606680      | 1.73439e7 0.13895  2.40993e6
dram_bwd  649216      55.58       3.60834e7   | 1.11718e6 55.58    6.20931e7
glb_bwd   1.25519e7   1.95        2.44762e7   | 1.61297e7 1.95     3.1453e7
spad_bwd  9.1399e6    0.2779      2.53998e6   | 9.66829e6 0.2779   2.68682e6
dram_wup  1.7223e7    55.58       9.57257e8   | 1.7223e7  55.58    9.57257e8
glb_wup   8.67644e7   1.95        1.69191e8   | 1.56125e8 1.95     3.04443e8
spad_wup  1.55657e8   0.2779      4.3257e7    | 2.93909e8 0.2779   8.16773e7
"""


@pytest.mark.parametrize(("column", "overrides"), [(0, ()), (1, ("timesteps=8", "precision.forward=8"))])
def test_training_counters(column, overrides):
    result = train(*overrides)
    rows = [line.split(maxsplit=1) for line in TRAINING.strip().splitlines()]
    assert [name for name, _ in rows] == list(result.counters)
    for name, columns in rows:
        counter = result.counters[name]
        found = {"n": counter.n, "each": counter.energy_each, "energy": counter.energy}
        assert_prints(found, dict(zip(found, columns.split("|")[column].split(), strict=True)))


def test_training_totals():
    assert_prints(train().totals, published("sata_sim")["training"])
    wide = ("timesteps=8", "precision.forward=8")
    assert_prints(train(*wide).totals, {"total_mac": "6,459,673,627.31", "total_pj": "1,795,143,301.03"})
    dense = ("sparsity.spikes=0", "sparsity.potential_gradients=0", "sparsity.surrogate_gradients=0")
    assert_prints(train(*wide, *dense).totals, {"total_mac": "6,846,723,911.0"})


def test_stages_and_layers_add_up():
    result = train()
    totals = result.totals
    stages = ("forward_mac", "backward_mac", "weight_update_mac")
    assert sum(totals[stage] for stage in stages) == pytest.approx(totals["total_mac"], rel=1e-14)
    for name, counter in result.counters.items():
        layers = sum(counters[name].n for counters in result.layers.values())
        lost = result.overwritten_mac_fwd if name == "mac_fwd" else 0
        assert layers - lost == pytest.approx(counter.n, rel=1e-14)


def write(folder, layers, **more):
    path = folder / "network.yaml"
    keys = "".join(f"{key}: {json.dumps(value)}\n" for key, value in more.items())
    lines = [json.dumps(layer).replace('"', "") for layer in layers]
    path.write_text(f"name: n\ntimesteps: 3\n{keys}layers: [\n" + "".join(f"  {line},\n" for line in lines) + "]\n")
    return path


def conv(name, in_channels, out_channels, side=8, **more):
    base = {"name": name, "type": "2dconv", "in_channels": in_channels, "out_channels": out_channels}
    return base | {"input": [side, side], "kernel": [3, 3], "padding": [1, 1]} | more


def linear(name, in_channels, out_channels):
    return {"name": name, "type": "linear", "in_channels": in_channels, "out_channels": out_channels}


def test_a_linear_layer_replaces_the_forward_macs_before_it_and_only_those(tmp_path):
    first, last = conv("a", 2, 4), conv("c", 4, 4)
    path = write(tmp_path, [first, linear("b", 5, 7), last], sparsity={"spikes": 0.5})
    result = train(path=path)
    first_macs, last_macs = (0.5 * 9 * c_in * 4 * 64 * 3 for c_in in (2, 4))
    assert result.counters["mac_fwd"].n == 5 * 7 * 3 + last_macs
    assert result.counters["mac_wup"].n == first_macs + 5 * 7 * 3 + last_macs
    assert result.overwritten_mac_fwd == first_macs


def test_backward_macs_count_inputs_and_forward_macs_outputs(tmp_path):
    path = write(tmp_path, [conv("a", 2, 4, stride=2)], sparsity={"spikes": 0, "potential_gradients": 0})
    counters = train(path=path).counters
    assert (counters["mac_fwd"].n, counters["mac_bwd"].n) == (72 * 16 * 3, 72 * 64 * 3)
    assert counters["lif"].n == 4 * 16 * 3


def test_sparsity_of_surrogate_gradients_is_read_and_not_used():
    assert train("sparsity.surrogate_gradients=0").totals == train("sparsity.surrogate_gradients=1").totals
    assert train("sparsity.potential_gradients=0").totals != train().totals


# ------------------------------------------------------------------------------------------------ SATA_Sim, inference


def infer(*overrides, path=BNTT):
    return sata.inference(load_network(path, sata.SataInferenceNetwork, overrides))


# cycles_os, cycles_ws, SRAM ifmap reads, weight reads, SRAM ofmap writes, DRAM ifmap reads, DRAM ofmap writes, cycles.
INFERENCE = """
Conv1 22,343  14,085    194,400   1,728     68,544  3,072   57,607  460,945
Conv2 272,687 269,221   4,147,200 36,864    68,544  649,682 57,607  5,722,961
Conv3 124,383 134,565   1,806,336 73,728    30,080  276,832 25,095  2,622,225
Conv4 56,351  85,189    663,552   147,456   5,760   8,192   4,608   1,212,209
Conv5 37,567  96,741    147,456   294,912   1,792   2,048   1,024   848,081
Conv6 74,431  193,509   294,912   589,824   1,792   4,096   1,024   1,682,129
Conv7 74,431  193,509   294,912   589,824   1,792   4,096   1,024   1,682,129
FC1   133,887 319,464   131,072   1,048,576 4,096   1,024   1,024   2,997,204
FC2   66,943  159,720   65,536    524,288   2,048   1,024   512     1,498,580
sum   863,023 1,466,003 7,745,376 3,307,200 184,448 950,066 149,525 18,726,463
"""
COLUMNS = (
    *("cycles_os", "cycles_ws", "sram_ifmap_reads", "sram_weight_reads", "sram_ofmap_writes"),
    *("dram_ifmap_reads", "dram_ofmap_writes", "cycles"),
)


def test_inference_cycles_and_accesses():
    result = infer()
    found = {row.layer: vars(row) for row in result.accesses} | {"sum": result.sums}
    wanted = {}
    for line in INFERENCE.strip().splitlines():
        name, *numbers = line.split()
        wanted[name] = dict(zip(COLUMNS, (int(n.replace(",", "")) for n in numbers), strict=True))
    assert {name: {column: row[column] for column in COLUMNS} for name, row in found.items()} == wanted
    assert (result.sums["macs"], result.sums["neurons"]) == (92_995_584, 185_856)
    assert result.sums["dram_weight_reads"] == result.sums["sram_weight_reads"]


def test_inference_energies():
    result = infer()
    energies = {name: counter.energy for name, counter in result.counters.items()}
    goldens = {
        "lif.gated": "175.262208",
        "lif.ungated": "337,076.334",
        "lif.leakage": "503.36732544",
        "spad.gated": "47,041.351132275",
        "spad.ungated": "1,272,380.7644128",
        "spad.leakage": "3,134.06084768",
        "spike_mac.gated": "10,508.036001525",
        "spike_mac.ungated": "115,295.0873984",
        "spike_mac.leakage": "371.53302592",
        "dram.ifmap": "55,669.3547865",
        "dram.weight": "1,550,289.6864",
        "dram.ofmap": "8,761.45475625",
        "sram.ifmap.dynamic": "10,678.453074",
        "sram.ifmap.leakage": "293,004.53965265",
        "sram.ofmap.dynamic": "5,889.42464",
        "sram.ofmap.leakage": "293,004.53965265",
        "sram.weight.dynamic": "94,690.0968",
        "sram.weight.leakage": "1,166,124.9407045",
    }
    assert list(goldens) == list(energies)
    assert_prints(energies, goldens)
    assert_prints(result.totals, published("sata_sim")["inference"])


def test_the_totals_of_the_tools_older_settings():
    """Outputs and spikes of 8 bits: the DRAM total that the tool ships for this workload."""
    older = infer("precision.spikes=8", "precision.outputs=8")
    assert_prints(older.totals, {"dram_nj": "2,065,736.16"})


def test_sparsity_saves_operations_and_no_cycle():
    """The tool's own sweep: 5.846 mJ without sparsity, 5.213 mJ at 0.99."""
    dense, sparse = infer("sparsity.spikes=0"), infer("sparsity.spikes=0.99")
    assert dense.sums == sparse.sums
    assert_prints(dense.totals, {"total_nj": "5.846e6"})
    assert_prints(sparse.totals, {"total_nj": "5.213e6"})


def test_layers_add_up_but_for_the_truncated_mac():
    result = infer()
    for name, counter in result.counters.items():
        assert sum(layer[name].n for layer in result.layers.values()) == pytest.approx(counter.n, abs=0.5)


def test_where_dram_reads_come_from(tmp_path):
    """16 x 16 x 64 fills half of the 32 KB buffer and spills, 16 x 16 x 63 does not; what was measured is taken."""
    layers = [conv("fits", 63, 8, 16), conv("spills", 64, 8, 16), conv("known", 64, 8, 16, dram_ifmap_reads=99_999)]
    fits, spills, known = infer(path=write(tmp_path, layers)).accesses
    assert (fits.dram_ifmap_reads, fits.dram_ifmap_reads_source) == (16 * 16 * 63, "closed form H W C")
    assert spills.dram_ifmap_reads == 16 * 16 * 64
    assert spills.dram_ifmap_reads_source.startswith("too few")
    assert (known.dram_ifmap_reads, known.dram_ifmap_reads_source) == (99_999, "measured, from the network file")
    notes = infer(path=write(tmp_path, layers)).report()["notes"]
    assert notes == ["too few DRAM ifmap reads: spills spill, and no measurement is given"]


def test_strides_in_cycles_ignore_padding_and_in_operations_assume_one(tmp_path):
    """9 x 9 by 3 x 3, stride 2: ceil(8/2) = 4 outputs a side without padding, floor(8/2) + 1 = 5 with padding 1."""
    (row,) = infer(path=write(tmp_path, [conv("a", 2, 4, 9, stride=2, padding=[0, 0])])).accesses
    assert row.sram_ifmap_reads == 4 * 4 * 18
    assert (row.neurons, row.macs) == (4 * 25, 4 * 25 * 18)
    assert row.cycles_os == 18 + 16 + 8 - 2 - 1


# ----------------------------------------------------------------------------------------------------------- SpikeSim


def ela(*overrides, path=VGG9):
    return spikesim.ela(load_network(path, spikesim.SpikesimNetwork, overrides))


def pe_cycle(result):
    """Uses of a PE-cycle of a network whose kernels are all the same."""
    first, *others = result.uses.values()
    assert all(uses == first for uses in others)
    return first


def test_spikesim_totals():
    assert_prints(ela().totals, published("spikesim")["vgg9"])


def test_spikesim_breakdowns():
    result = ela()
    assert [cycles // 5 for cycles in result.pe_cycles.values()] == [1024, 256, 512, 256, 512, 1024, 256]
    layers = ("4.241849", "1.060462", "2.120925", "1.060462", "2.120925", "4.241849", "1.060462")
    for energy, golden in zip(result.layer_energies_pj.values(), layers, strict=True):
        assert prints_as(energy / 1e6, golden)
    energies = {name: use.energy for name, use in pe_cycle(result).items()}
    assert_prints(energies, {"adc": "129.97", "crossbar_array": "127.02"})
    assert_prints(
        {name: 100 * energy / result.totals["pe_cycle_pj"] for name, energy in energies.items()},
        {
            "tile_buffer": "47.9", "htree": "19.0", "adc": "15.7", "crossbar_array": "15.3", "mux": "0.7",
            "neuron": "0.62", "membrane_fetch": "0.56", "temporary_buffer": "0.2",
        },
    )  # fmt: skip
    areas = result.areas_um2
    assert_prints(areas, {"input_spikes": "2,580,818.9", "membrane": "2,264,460.5"})
    shares = {name: 100 * area / result.area_um2 for name, area in areas.items()}
    shares["pes"] = shares["crossbar_array"] + shares["adc"] + shares["mux"]
    assert_prints(
        shares,
        {
            "htree": "30.9", "input_spikes": "30.6", "membrane": "26.9", "sub": "7.6", "pes": "3.5",
            "crossbar_array": "0.13", "tile_buffer": "0.4",
        },
    )  # fmt: skip
    assert sum(areas.values()) == pytest.approx(result.area_um2, rel=1e-12)


def test_what_follows_the_size_of_a_crossbar_array():
    """PEs and g = n / 8 do; figures of an array, tile buffer, H-tree, memories and latency do not."""
    small, large = ela(), ela("crossbar.size=128")
    assert list(large.pes.values()) == [1, 1, 1, 1, 2, 4, 4]
    assert large.tiles == ceil(14 / 8)
    few, many = pe_cycle(small), pe_cycle(large)
    count = {name: (few[name].n, use.n) for name, use in many.items()}
    assert count == {
        "htree": (1, 1), "membrane_fetch": (1, 1), "neuron": (1, 1), "tile_buffer": (1, 1),
        "crossbar_array": (72, 144), "adc": (64, 256), "mux": (64, 256), "sub": (128, 256), "temporary_buffer": (8, 16),
    }  # fmt: skip
    assert all(few[name].energy_each == use.energy_each for name, use in many.items())
    assert large.latency_ns == small.latency_ns
    for part in ("input_spikes", "membrane"):
        assert large.areas_um2[part] == small.areas_um2[part]
    assert large.areas_um2["htree"] * 3 == small.areas_um2["htree"]
    assert large.areas_um2["sub"] * 3 == pytest.approx(2 * small.areas_um2["sub"])
    assert large.pe_area_um2 == pytest.approx(9 * 26.2144 + 16 * (693.633 + 45.9))


def test_an_sram_array_uses_as_many_picojoules_as_square_micrometres():
    use = pe_cycle(ela("crossbar.device=sram"))["crossbar_array"]
    assert use.energy_each == 671.089
    assert ela("crossbar.device=sram").areas_um2["crossbar_array"] == pytest.approx(48 * 9 * 671.089)


def test_membrane_memory_stops_after_five_layers_and_latency_overlaps_a_quarter(tmp_path):
    layers = [conv(f"c{i}", 4, 4, 2) for i in range(15)]
    result = ela(path=write(tmp_path, [*layers, linear("fc", 16, 10)]))
    assert result.areas_um2["membrane"] == pytest.approx(5 * 16 * 16.2602)
    assert result.areas_um2["input_spikes"] == pytest.approx(15 * 16 * 16.2602)
    assert result.latency_pe_cycles == 3 * (16 + 14 * 12)
    odd = write(tmp_path, [conv("a", 1, 3, 1), conv("b", 3, 1, 1)])
    assert ela(path=odd).latency_pe_cycles == 3 * (1 + 2)  # floor(0.75 x 3) = 2
    assert ela(path=write(tmp_path, [*layers, linear("fc", 16, 10)])).report()["skipped"] == ["fc"]


# ----------------------------------------------------------------------------------------------------- files, commands


def problems(kind, path, *overrides):
    with pytest.raises(ConfigError) as caught:
        load_network(path, kind, overrides)
    return [line.removeprefix(f"{path}:") for line in caught.value.problems]


def test_every_problem_of_a_file_at_once_each_with_its_place(tmp_path):
    path = tmp_path / "network.yaml"
    path.write_text(
        "name: x\n"
        "timestep: 4\n"
        "sparsity: {spikes: 1.5}\n"
        "layers:\n"
        "  - {name: a, type: 2dconv, in_channels: 3, out_channels: 4, input: [8, 8], kernal: [3, 3]}\n"
        "  - {name: b, type: linear, in_channels: 3, kernel: [3, 3]}\n"
        "  - {name: c, type: 2dconv, in_channels: 3, out_channels: 4, input: [2, 2], kernel: [3, 3]}\n"
    )
    found = problems(sata.SataNetwork, path)
    assert found == [
        "1:1 timesteps: missing",
        "2:1 timestep: unknown key; allowed: name, timesteps, sparsity, precision, crossbar, layers"
        " (did you mean 'timesteps'?)",
        "3:20 sparsity.spikes: must be at most 1, got 1.5",
        "5:77 layers.0.kernal: unknown key; allowed: name, type, in_channels, out_channels, input, kernel, stride,"
        " padding, pool, dram_ifmap_reads (did you mean 'layers.0.kernel'?)",
        "6:5 layers.1.out_channels: missing; a linear needs it",
        "6:53 layers.1.kernel: a linear has none; remove it, got [3, 3]",
        "7:69 layers.2.input: leaves no output: too small for kernel, padding and pool, got [2, 2]",
    ]


def test_a_linear_layer_has_no_map_to_pool(tmp_path):
    path = write(tmp_path, [linear("a", 2, 2) | {"pool": 2, "stride": 2}])
    assert [line.partition(": ")[2] for line in problems(sata.SataNetwork, path)] == [
        "a linear has none; remove it, got 2"
    ] * 2


def test_names_occur_once_and_some_layer_is_known(tmp_path):
    twice = write(tmp_path, [linear("a", 2, 2), linear("a", 2, 2)])
    assert problems(sata.SataNetwork, twice) == ["5:10 layers.1.name: is the name of an earlier layer too, got 'a'"]
    for layers in ([], [{"name": "p", "type": "maxpool"}]):
        (line,) = problems(sata.SataNetwork, write(tmp_path, layers))
        assert "layers: no layer has a type that the tool knows; allowed: 2dconv, linear" in line
    (line,) = problems(spikesim.SpikesimNetwork, write(tmp_path, [linear("a", 2, 2)]))
    assert line.startswith("3:9 layers: no layer has a type that the tool knows; allowed: 2dconv")


def test_inference_needs_kernels_that_fit_without_padding(tmp_path):
    path = write(tmp_path, [conv("a", 2, 2, 2)])
    load_network(path, sata.SataNetwork)
    (line,) = problems(sata.SataInferenceNetwork, path)
    assert line.startswith("4:83 layers.0.kernel: is larger than the input, whose padding the tool ignores")


def test_spikesim_takes_kernels_that_differ_and_fewer_pes(tmp_path):
    """Of 2, 1 and 1 PEs in a tile of 8; arrays 1, 9 and 25 of them, 25 of the four spare ones."""
    layers = [
        conv("a", 128, 64, 4, kernel=[1, 1], padding=[0, 0]), conv("b", 64, 64, 4),
        conv("c", 64, 64, 4, kernel=[5, 5], padding=[2, 2]),
    ]  # fmt: skip
    result = ela(path=write(tmp_path, layers))
    assert list(result.pes.values()) == [2, 1, 1]
    assert result.tiles == 1
    one, nine, many = (
        cycle / count for cycle, count in zip(result.layer_energies_pj.values(), result.pe_cycles.values(), strict=True)
    )
    assert nine == pytest.approx(828.4861472, rel=1e-9)
    assert nine - one == pytest.approx(8 * 8 * 1.76423)
    assert many - nine == pytest.approx(16 * 8 * 1.76423)
    assert result.areas_um2["crossbar_array"] == pytest.approx((2 * 1 + 9 + 25 + 4 * 25) * 26.2144)
    assert sum(result.areas_um2.values()) == pytest.approx(result.area_um2, rel=1e-12)
    report = result.report()
    for counter in report["counters"]:
        rows = [row for layer in report["layers"] for row in layer["counters"] if row["counter"] == counter["counter"]]
        assert sum(row["n"] for row in rows) == counter["n"]
    assert {row["kernel"] for row in report["pe_cycle"]} == {"1 x 1", "3 x 3", "5 x 5"}
    assert report["beyond_the_tool"] is True
    assert report["beyond_the_tool_because"] == [
        "b takes 1 PEs where a takes 2: the tool fails if a layer takes fewer than the one before",
        "kernels 1 x 1, 3 x 3, 5 x 5: the tool has one square kernel for all layers",
        "b has fewer input times output channels than a: the tool gives no latency",
    ]


def test_what_the_tool_has_an_answer_for_is_not_beyond_it(tmp_path):
    report = ela().report()
    assert (report["beyond_the_tool"], report["beyond_the_tool_because"]) == (False, [])
    assert report["notes"] == []
    flat = conv("a", 64, 64, kernel=[1, 3], padding=[0, 1], input=[4, 8])
    assert ela(path=write(tmp_path, [flat])).report()["beyond_the_tool_because"] == [
        "kernels 1 x 3: the tool has one square kernel for all layers",
        "maps 4 x 8: the tool's are square",
    ]
    (reason,) = ela(path=write(tmp_path, [conv(f"c{i}", 64, 64) for i in range(13)])).network.beyond_the_tool
    assert reason == "13 layers: the tool's list of shares ends with 12"
    assert not ela(path=write(tmp_path, [conv(f"c{i}", 64, 64) for i in range(12)])).network.beyond_the_tool


@pytest.mark.parametrize(
    ("channels", "reason"),
    [
        ([(64, 64)], ""),
        ([(63, 64)], "no layer fills a PE: the tool does not end"),
        ([(3, 64), (64, 10)], "no layer fills a PE: the tool does not end"),
        ([(3, 64), (64, 64)], ""),
        ([(64, 64), (32, 64)], "b has fewer input times output channels than a: the tool gives no latency"),
        ([(65, 64), (100, 128)], ""),
        ([(100, 100), (65, 128)], "b has fewer input times output channels than a: the tool gives no latency"),
    ],
)
def test_channels_that_are_no_multiple_of_the_array(tmp_path, channels, reason):
    """The tool takes parts of PEs for the latency, so that it may end nowhere where it rounds up to whole ones."""
    layers = [conv(name, *sides) for name, sides in zip("ab", channels, strict=False)]
    assert ela(path=write(tmp_path, layers)).network.beyond_the_tool == [reason] * bool(reason)


@pytest.mark.parametrize(("n", "folds"), [(1, 1), (7, 1), (8, 1), (9, 2), (100, 13)])
@pytest.mark.parametrize("in_channels", [1, 5, 16, 17])
def test_inference_takes_channels_that_are_no_multiple_of_the_array(tmp_path, in_channels, n, folds):
    """16 rows of pixels or of inputs, 8 columns; 5 x 5 pixels without padding are 2 folds of rows."""
    network = load_network(write(tmp_path, [conv("a", in_channels, n, 7)]), sata.SataInferenceNetwork)
    (row,) = sata.inference(network).accesses
    depth, pixels = 9 * in_channels, 25
    assert row.cycles_os == 2 * folds * (depth + 22) - 1
    assert row.cycles_ws == (-(-depth // 16) * folds - 1) * (32 + pixels + 6) + 15
    assert row.sram_ifmap_reads == pixels * depth * folds
    assert row.sram_ofmap_writes == pixels * n + 24 * 2 * folds
    assert (row.macs, row.neurons) == (n * 49 * depth, n * 49)


def test_a_crossbar_array_has_a_multiple_of_eight_columns():
    assert problems(spikesim.SpikesimNetwork, VGG9, "crossbar.size=60") == [
        "--set crossbar.size=60: must be a multiple of 8, got 60"
    ]


@pytest.mark.parametrize("path", sorted(PAPERS.glob("legacy_*/networks/*.yaml")), ids=lambda path: path.stem)
def test_a_network_file_serves_every_tool(path):
    assert train(path=path).totals["total_mac"] > 0
    assert infer(path=path).totals["total_nj"] > 0
    assert ela(path=path).totals["energy_pj"] > 0


def command(tool, *arguments):
    run = [sys.executable, str(PAPERS / f"legacy_{tool}"), *map(str, arguments)]
    return subprocess.run(run, capture_output=True, text=True, check=False)


def test_the_commands_print_every_counter_as_json():
    done = command("sata_sim", VGG5, "--mode", "training", "--timesteps", 8, "--set", "precision.forward=8", "--json")
    report = json.loads(done.stdout)
    assert prints_as(report["totals"]["total_mac"], "6,459,673,627.31")
    assert report["skipped"] == ["lin5"]
    assert [row["counter"] for row in report["layers"][0]["counters"]] == [row["counter"] for row in report["counters"]]
    for row in report["counters"]:
        assert row["energy_pj"] == row["n"] * row["energy_each_pj"]
    sparse = json.loads(command("sata_sim", BNTT, "--mode", "inference", "--sparsity", 0.99, "--json").stdout)
    assert sparse["sparsity"] == {"spikes": 0.99}
    assert prints_as(sparse["totals"]["total_nj"], "5.213e6")
    assert sparse["layers"][1]["dram_ifmap_reads_source"] == "measured, from the network file"


def test_the_commands_print_tables_in_a_pipe():
    done = command("spikesim", VGG9)
    assert done.returncode == 0
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert ["latency_ns", "62832640.0"] in lines
    assert ["layer", "pes", "pe_cycles", "energy_pj"] in lines
    tuned = command("spikesim", VGG9, "--timesteps", 10, "--crossbar", 128, "--device", "sram", "--json")
    report = json.loads(tuned.stdout)
    assert (report["timesteps"], report["crossbar"]) == (10, {"size": 128, "device": "sram"})
    assert report["totals"]["latency_ns"] == 2 * 62_832_640


def test_the_commands_print_for_people_on_a_terminal(monkeypatch, capsys):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    spikesim_command.main([str(VGG9)])
    out = capsys.readouterr().out
    assert "62,832,640.00" in out
    assert "pe cycles" in out
    assert "\t" not in out


def test_a_reader_that_leaves_early_is_no_error():
    run = [sys.executable, str(PAPERS / "legacy_spikesim"), str(VGG9), "--json"]
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(run, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def test_wrong_input_is_one_line_a_problem_and_exit_code_2(tmp_path):
    done = command("spikesim", VGG9, "--crossbar", "many", "--device", "ram", "--timesteps", 0)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 3
    assert "--set crossbar.device=ram: must be 'rram' or 'sram', got 'ram' (did you mean 'rram'?)" in done.stderr
    done = command("sata_sim", tmp_path / "none.yaml", "--mode", "training")
    assert (done.returncode, done.stderr) == (2, f"{tmp_path / 'none.yaml'}: no such file\n")
