"""How figures look: formats, sizes, names, and bars that begin where it means something."""

import dataclasses
import re

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from archsim.cli import main
from archsim.engine.result import CoreLoad, LinkLoad, Traffic
from archsim.errors import UsageError
from archsim.report import comparison, drawing, files, mesh_plots, plots
from archsim.report.names import readable
from tests.machines import MACHINES
from tests.unit.report.test_report import layer, report


@pytest.fixture
def table(tmp_path):
    """A comparison of three machines, of half and twice the speed of the first."""
    reports = {
        "loas": report(layer()),
        "sparten_snn": report(layer(), clock_mhz=400),
        "p_lif_x": report(layer(), clock_mhz=1600),
    }
    path = tmp_path / "table.csv"
    path.write_text(files.csv_text(comparison.rows(reports), comparison.COLUMNS))
    return path


@pytest.mark.parametrize(
    ("name", "spelt"),
    [
        ("loas", "LoAS"), ("loas_literal_laggy", "LoAS literal laggy"), ("sparten_snn_f40", "SparTen-SNN F40"),
        ("p_lif", "P-LIF"), ("vgg16_dual_sparse", "VGG16 dual sparse"), ("energy_gain", "energy gain"),
        ("stellar_16x4", "Stellar 16x4"), ("conv1", "conv1"), ("my machine_2", "my machine_2"), ("_x", "_x"),
        ("", ""), ("snn", "SNN"), ("systolic", "Dense systolic array"), ("imc_cnn", "imc CNN"),
        ("\u8109_a", "\u8109_a"),
    ],
)  # fmt: skip
def test_names_as_people_spell_them(name, spelt):
    assert readable(name) == spelt


def test_different_machines_have_different_names():
    assert len({readable(path.stem) for path in MACHINES}) == len(MACHINES)


def test_formats(table):
    written = plots.plot(table, drawing.Look(("pdf", "svg")))
    assert [file.name for file in written] == ["table.pdf", "table.svg"]
    before = [file.read_bytes() for file in written]
    assert before[0].startswith(b"%PDF")
    assert [file.read_bytes() for file in plots.plot(table, drawing.Look(("pdf", "svg")))] == before, "replaced, equal"
    assert b"/FontFile2" in before[0], "a font that can be searched and edited"
    assert b"/Type3" not in before[0]
    (table.parent / "table.pdf").write_bytes(b"%PDF-1.4 of somebody else" + b" " * 50_000)
    with pytest.raises(UsageError, match=r"table.pdf: is a file that archsim did not write"):
        plots.plot(table, drawing.Look(("pdf",)))


def test_figures_of_a_run_may_be_pdf(tmp_path):
    """They are replaced, though their mark stands at the end, and do not stand in the way of the next run."""
    moved = tuple(Traffic("dram", f"tensor{i}", way, i + 1, 1) for i in range(16) for way in ("read", "write"))
    report(layer(traffic=moved)).write(tmp_path / "out")  # hatches take some room
    written = plots.plot(tmp_path / "out", drawing.Look(("pdf",)))
    assert len(written) == len(files.RUN_FIGURES)
    assert max(file.read_bytes().find(files.FIGURE_MARK) for file in written) > files.MARKED_BYTES
    assert plots.plot(tmp_path / "out", drawing.Look(("pdf",))) == written
    report().write(tmp_path / "out")


def dots(png):
    """Width and height of a picture, from its head; 200 dots an inch."""
    head = png.read_bytes()[16:24]
    return int.from_bytes(head[:4]), int.from_bytes(head[4:])


@pytest.mark.parametrize(("width", "inches"), [("column", 3.5), ("page", 7.16), ("5", 5.0)])
def test_width_and_letters(width, inches, table):
    """A figure is as wide as asked for, and its letters are no smaller than 4.9 points anywhere."""
    png, svg = plots.plot(table, drawing.look(["png", "svg"], width, title=False))
    assert dots(png)[0] == pytest.approx(inches * 200, abs=1)
    sizes = [float(size) for size in re.findall(r"font(?:-size)?: ?([\d.]+)px", svg.read_text())]
    assert sizes and min(sizes) >= 4.9
    assert max(sizes) == {"column": 7, "page": 9, "5": 8}[width]


def test_title(table):
    _, svg = plots.plot(table)
    assert "Faster, and with less energy?" in svg.read_text()
    _, svg = plots.plot(table, drawing.Look(title=False))
    assert "Faster" not in svg.read_text()


@pytest.mark.parametrize(
    ("formats", "width", "messages"),
    [
        (["pfd"], None, ["--format: unknown format, got 'pfd'; allowed: png, svg, pdf (did you mean 'pdf'?)"]),
        (None, "colum", ["--width: got 'colum'; allowed: column, page, or 2 to 20 inches (did you mean 'column'?)"]),
        (["gif"], "1.9", ["--format: unknown format, got 'gif'", "--width: got '1.9'"]),
        (None, "nan", ["--width: got 'nan'"]),
        (None, "inf", ["--width: got 'inf'"]),
    ],
)
def test_words_that_are_no_look(formats, width, messages):
    with pytest.raises(UsageError) as raised:
        drawing.look(formats, width, title=True)
    assert len(raised.value.problems) == len(messages)
    for problem, message in zip(raised.value.problems, messages, strict=True):
        assert problem.startswith(message)


def test_a_look_without_words_is_the_usual_one():
    assert drawing.look(None, None, title=True) == drawing.Look()
    assert drawing.look(["pdf", "pdf"], None, title=True).formats == ("pdf",)


def test_gains_go_up_and_down_from_1():
    """On the logarithmic axis a bar's length says how many times better or worse, not how far from an arbitrary end."""
    axes = Figure().subplots()
    frame = pd.DataFrame({"gain": [1.0, 0.5, 4.0]}, ["a", "b", "c"])
    drawing.grouped(axes, frame, start=1)
    drawing.logarithmic(axes)
    ends = [(bar.get_y(), bar.get_y() + bar.get_height()) for bar in axes.patches]
    assert ends == [(1, 1), (1, 0.5), (1, 4)]
    low, high = axes.get_ylim()
    assert low < 0.5
    assert high > 4


def test_units_suit_the_largest_value():
    assert drawing.scaled("energy_pj", 2.5e9) == (1e9, "mJ")
    assert drawing.scaled("latency_s", 2e-4) == (1e-6, "µs")
    assert drawing.scaled("bytes", 3 << 20) == (1 << 20, "MiB")
    assert drawing.scaled("bytes", 0) == (1, "B")


@pytest.mark.parametrize(("count", "shown", "turned"), [(3, 3, 0), (12, 12, 30), (300, 60, 90)])
def test_names_below_an_axis_do_not_overlap(count, shown, turned):
    """Turned where they are too long to stand side by side, and only some of them where they are too many."""
    axes = Figure(figsize=(7, 3)).subplots()
    drawing.name_rows(axes, [f"layer{i:03}.block.conv" for i in range(count)])
    texts = axes.get_xticklabels()
    assert len(texts) <= shown
    assert {text.get_rotation() for text in texts} == {turned}


def test_names_of_several_words_take_two_lines():
    axes = Figure(figsize=(7, 3)).subplots()
    drawing.name_rows(axes, ["loas_f40 (fitted)", "sparten_snn", "a", "b", "c", "d", "e"])
    first, *_ = axes.get_xticklabels()
    assert first.get_text() == "loas_f40\n(fitted)"
    assert first.get_rotation() == 0


@pytest.mark.parametrize(("name", "below"), [("conv{}", False), ("body.block{}.attention.query", True)])
def test_layers_with_long_names_stand_one_below_the_other(name, below):
    """Where the time goes, and the map of what is busy; a unit without a part in a layer has no number there."""
    names = [name.format(i) for i in range(20)]
    layers = pd.DataFrame({"layer": names, "compute_cycles": 5, "stall_cycles": 1})
    halves = {"unit": ["a"] * 10 + ["b"] * 10, "layer": names, "busy_cycles": 3, "stall_cycles": 1, "idle_cycles": 0}
    tables = {"layers": layers, "units": pd.DataFrame(halves)}
    for figure in (plots._RUN_FIGURES["latency"], plots._RUN_FIGURES["utilization_map"]):
        drawn = Figure(figsize=figure.shape(tables, drawing.Look())[0])
        axes = drawn.subplots()
        figure.draw(axes, tables)
        across, up = ([text.get_text() for text in axis.get_ticklabels()] for axis in (axes.xaxis, axes.yaxis))
        assert (up if below else across) == [drawing.spelt(one) for one in names]
        assert drawn.get_figheight() > 5 or not below
        assert not [text for text in axes.texts if text.get_text() == "nan"]


def test_more_settings_than_fit_side_by_side_have_rows(tmp_path):
    rows = []
    names = [f"a.b{i}" for i in range(5)]
    base = {"hardware": "loas.yaml", "trace": "t.npz", "accelerator": "loas", "edap_j_s_mm2": 1.0, "accuracy": None}
    for point in range(2):
        measured = {"latency_s": 1e-3, "energy_pj": 1e6, "area_mm2": 2.0, "error": None}
        rows.append({"point": point, **base, **dict.fromkeys(names, point), **measured})
    columns = ["point", "hardware", "trace", *names, "accelerator", *list(base)[3:], *measured]
    (tmp_path / "sweep.csv").write_text(files.csv_text(rows, columns))
    figures = plots.plot(tmp_path / "sweep.csv", drawing.Look(("png", "svg"), 3.5))
    drawn = (tmp_path / "sweep_sensitivity.svg").read_text()
    assert tmp_path / "sweep_sensitivity.svg" in figures
    assert all(f">{name}<" in drawn for name in names)
    width, height = dots(tmp_path / "sweep_sensitivity.png")
    assert width == 700
    assert height > width


def test_the_command_takes_words(table, capsys):
    assert main(["plot", str(table), "--format", "pdf,svg", "--width", "column", "--no-title"]) == 0
    assert capsys.readouterr().out.split() == [str(table.with_suffix(end)) for end in (".pdf", ".svg")]
    assert "Faster" not in table.with_suffix(".svg").read_text()
    assert main(["plot", str(table), "--format", "pdf", "--format", "gif", "--width", "wide"]) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert "--format: unknown format, got 'gif'; allowed: png, svg, pdf" in first
    assert "--width: got 'wide'; allowed: column, page, or 2 to 20 inches" in second


def loaded():
    """A layer on two cores at two routers, with messages between them and from the host."""
    cores = (CoreLoad(0, 0, 0, 0, 8, 3, 1000), CoreLoad(5, 1, 1, 8, 4, 3, 24))
    links = (LinkLoad(0, 0, "west", 30), LinkLoad(0, 1, "west", 10), LinkLoad(1, 1, "north", 9))
    return dataclasses.replace(layer(), cores=cores, links=links)


def test_figures_of_a_mesh(tmp_path):
    """They are there where a run has cores and links, in the same bytes again, and not in the way of the next run."""
    report(loaded()).write(tmp_path / "out")
    written = plots.plot(tmp_path / "out", drawing.Look(("svg",)))
    assert [file.stem for file in written] == [*files.RUN_FIGURES, *files.MESH_FIGURES]
    texts = {file.stem: file.read_text() for file in written}
    assert "Which layer each core has" in texts["placement"] and "1\N{NO-BREAK SPACE}conv" in texts["placement"]
    assert "How many messages each link took" in texts["link_load"] and ">messages<" in texts["link_load"]
    assert [file.read_text() for file in plots.plot(tmp_path / "out", drawing.Look(("svg",)))] == list(texts.values())
    assert [title for title, _ in plots.of_run(tmp_path / "out", 5.0)][-1] == "How many messages each link took"
    report().write(tmp_path / "out")
    assert len(plots.plot(tmp_path / "out", drawing.Look(("svg",)))) == len(files.RUN_FIGURES)


def test_what_is_on_a_mesh_is_where_the_tables_say():
    """Arrows begin at one router and end at the next, on the right hand of who goes; the busiest one is the darkest."""
    frames = {name: pd.DataFrame(getattr(loaded(), name)) for name in ("cores", "links")}
    axes = Figure().subplots()
    mesh_plots.draw_link_load(axes, frames["links"])
    arrows = axes.collections[0]
    middles = [path.get_extents() for path in arrows.get_paths()]
    at = {(round((box.x0 + box.x1) / 2, 2), round((box.y0 + box.y1) / 2, 2)) for box in middles}
    assert at == {(-0.5, 0.13), (0.5, 0.13), (0.87, 0.5)}
    assert sorted(arrows.get_array().tolist()) == [9, 10, 30]
    axes = Figure().subplots()
    mesh_plots.draw_placement(axes, frames["cores"].assign(layer="conv"))
    assert axes.collections[0].get_array().tolist() == [1.0, 0.024]
    assert [text.get_text() for text in axes.texts] == ["1", "1"]
    assert [tuple(np.round(text.get_position(), 2)) for text in axes.texts] == [(0.0, 0.0), (1.0, 1.0)]
