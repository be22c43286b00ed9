"""LoAS's own recorded spikes with synthetic weights, layer by layer against the numbers of an independent program."""

import pytest

from archsim.simulate import run
from archsim.trace import save_trace
from tests.machines import ROOT, SPARSITY, needs_recorded, recorded, reference

pytestmark = [needs_recorded, pytest.mark.slow]


def written(folder, network, sparsity=None):
    """The imported trace of a network, as a file."""
    path = folder / f"{network}.npz"
    save_trace(recorded(network, sparsity), path)
    return path


@pytest.fixture(scope="module", params=sorted(SPARSITY))
def network(request, tmp_path_factory):
    """(its reference rows, the trace file)."""
    rows = reference(request.param)
    assert len(rows) == {"vgg16": 12, "alexnet": 4}[request.param]
    return rows, written(tmp_path_factory.mktemp("recorded"), request.param)


def convolutions(machine, trace, *overrides):
    report = run(ROOT / "hwconfigs" / f"{machine}.yaml", trace, overrides=overrides)
    return [layer for layer in report.layers if layer.op == "conv2d"]


def dram_lines(layer, tensor, direction="read"):
    return sum(
        row.bytes for row in layer.traffic
        if row.level == "dram" and row.tensor.startswith(tensor) and row.direction == direction
    ) // 64  # fmt: skip


def sram_read_bytes(layer):
    return sum(row.bytes for row in layer.traffic if row.level == "sram" and row.direction == "read")


def sram_bytes(layer):
    return sum(row.bytes for row in layer.traffic if row.level == "sram" and row.tensor != "output")


# Pipeline of the first step and of the last neuron: fetch and broadcast 2, laggy pass, FIFO, subtract, fire, compress,
# write the row: what is simulated and not in the sum of the joins.
FILL_AND_DRAIN = {"loas": 20, "sparten_snn": 12}


@pytest.mark.parametrize("machine", FILL_AND_DRAIN)
@pytest.mark.parametrize("overhead", [0, 2])
def test_ideal_memory_is_the_reference_and_fill_and_drain(network, machine, overhead):
    """Matches equal exactly; cycles of every convolution lie within 1 %, above the reference by fill and drain.

    Without overhead steps can be shorter than what the compressors take for the last column: that comes on top.
    """
    rows, trace = network
    layers = convolutions(machine, trace, "memory.ideal=true", f"pe.chunk_overhead_cycles={overhead}")
    assert [layer.layer for layer in layers] == [row["layer"] for row in rows]
    for layer, row in zip(layers, rows, strict=True):
        reference = row[f"{machine}_ideal_cycles_overhead_{overhead}"]
        joined = sum(count for (_, action), count in layer.actions.items() if action == "fast_prefix")
        assert joined == row[f"{machine}_matches"]
        assert layer.cycles == pytest.approx(reference, rel=0.01), layer.layer
        assert layer.cycles >= reference
        if overhead == 2:
            assert layer.cycles - reference <= FILL_AND_DRAIN[machine], layer.layer


@pytest.mark.parametrize("machine", ["loas", "sparten_snn"])
def test_the_fitted_set_meets_the_prototype(network, machine):
    """F40: lines fetched and SRAM bytes within 2 %, cycles within 10 %, of every convolution."""
    rows, trace = network
    for layer, row in zip(convolutions(f"{machine}_f40", trace), rows, strict=True):
        for tensor in ("input", "weight"):
            lines = row[f"{machine}_f40_{tensor}_lines"]
            assert dram_lines(layer, tensor) == pytest.approx(lines, rel=0.02), (layer.layer, tensor)
        assert sram_read_bytes(layer) == pytest.approx(row[f"{machine}_sram_bytes"], rel=0.02), layer.layer
        assert layer.cycles == pytest.approx(row[f"{machine}_f40_cycles"], rel=0.1), layer.layer


def test_literal_laggy_meets_the_reference(network):
    """About 952 k and 345 k cycles for all convolutions."""
    rows, trace = network
    total = sum(layer.cycles for layer in convolutions("loas_literal_laggy", trace, "memory.ideal=true"))
    assert total == pytest.approx({12: 952_000, 4: 345_000}[len(rows)], rel=0.01)


def test_weight_density_costs_what_the_reference_says(tmp_path):
    """From 98.2 % to 25 % weight sparsity performance falls to 0.098 of itself at overhead 2."""
    cycles = [
        sum(layer.cycles for layer in convolutions("loas", written(tmp_path, "vgg16", sparsity), "memory.ideal=true"))
        for sparsity in (0.98228, 0.25)
    ]
    assert cycles[0] / cycles[1] == pytest.approx(0.098, abs=0.002)


@pytest.mark.parametrize(("machine", "is_fitted"), [("gamma_snn_f40", True), ("gamma_snn", False)])
def test_gamma_snn(network, machine, is_fitted):
    """Accumulations are equal on both machines; the fitted one reads the reference's bytes and takes its cycles.

    The reference is a formula without outputs and neuron units: a layer may take 10 % more, a network 5 %.
    """
    rows, trace = network
    layers = convolutions(machine, trace)
    assert [layer.layer for layer in layers] == [row["layer"] for row in rows]
    assert [layer.performed_operations for layer in layers] == [row["accumulations"] for row in rows]
    if not is_fitted:
        return
    for layer, row in zip(layers, rows, strict=True):
        read = 64 * sum(dram_lines(layer, tensor) for tensor in ("input", "weight", "psum"))
        assert read == pytest.approx(row["gamma_snn_f40_dram_bytes"], rel=0.02), layer.layer
        assert layer.cycles == pytest.approx(row["gamma_snn_f40_cycles"], rel=0.10), layer.layer
        on_chip = row["spikes"] * (2 + 2 * layer.n) + layer.performed_operations
        assert sram_bytes(layer) - read == pytest.approx(on_chip, rel=0.10), layer.layer
    total, reference = sum(layer.cycles for layer in layers), sum(row["gamma_snn_f40_cycles"] for row in rows)
    assert total == pytest.approx(reference, rel=0.05)
