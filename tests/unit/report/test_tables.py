"""Tables and summaries that archsim wrote are files like any other: damaged ones are refused in a line, as text."""

import csv
import html
import re
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archsim import sweeping
from archsim.errors import ArchsimError, UsageError, printable
from archsim.report import comparison, drawing, files, plots, tables
from tests.unit.report import damaged
from tests.unit.report.test_report import layer, report

FORMULAS = ("=1+1", "+cmd", "-x", "@SUM(A1)", "\t=1", "\r=1", "'=1", "''@a", "\uff1d1", "-1+1", "+1,2", "--5")
NUMBERS = ("-5", "+3", "-1e-3", "1e9", "-.5", "0")


def written(rows, columns):
    return files.csv_text(rows, columns).encode().splitlines(keepends=True)


@pytest.mark.parametrize("text", FORMULAS)
def test_a_spreadsheet_computes_nothing(text):
    """And what is read back is what was written."""
    (row,) = tables.Table(written([{"name": text}], ("name",)), "t", ("name",))
    assert row.cells == {"name": printable(text)}
    (cell,) = files.csv_text([{"name": text}], ("name",)).splitlines()[1:]
    assert cell.strip('"')[0] in "'\\"


@pytest.mark.parametrize("text", NUMBERS)
def test_numbers_stay_numbers(text):
    assert files.csv_text([{"name": text}], ("name",)) == f"name\n{text}\n"
    assert files.csv_text([{"name": float(text)}], ("name",)) == f"name\n{float(text)!r}\n"


@given(st.lists(st.text(min_size=1), min_size=1), st.floats(1e-100, 1e100), st.integers(0, 2**63 - 1))
def test_what_was_written_is_read(texts, number, count):
    """Texts as far as they are printable; every row is a line."""
    rows = [{"name": text, "energy_pj": number, "cycles": count} for text in texts]
    lines = written(rows, ("name", "energy_pj", "cycles"))
    assert len(lines) == len(rows) + 1
    assert all(line.decode().removesuffix("\n").isprintable() for line in lines)
    found = list(tables.Table(lines, "t", ("name", "energy_pj", "cycles")))
    assert [row.cells for row in found] == [{**row, "name": printable(row["name"], 10**6)} for row in rows]
    assert [row.line for row in found] == list(range(2, len(rows) + 2))


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"conv,1", "has 2 cells; the table has 3 columns"),
        (b"conv,1,2,3", "has 4 cells; the table has 3 columns"),
        (b",1,2", "layer: must be text, got nothing"),
        (b"conv,,2", "cycles: must be a whole number from 0 to 9223372036854775807, got nothing"),
        (b"conv,1.0,2", "cycles: must be a whole number from 0 to 9223372036854775807, got '1.0'"),
        (b"conv,-1,2", "cycles: must be a whole number from 0 to 9223372036854775807, got '-1'"),
        (b"conv,9223372036854775808,2", "cycles: must be a whole number from 0 to 9223372036854775807, got '922"),
        (b"conv," + b"9" * 200_000 + b",2", "cycles: must be a whole number from 0 to 9223372036854775807, got '999"),
        ("conv,\uff11,2".encode(), "cycles: must be a whole number from 0 to 9223372036854775807, got '\uff11'"),
        (b"conv,1_0,2", "cycles: must be a whole number from 0 to 9223372036854775807, got '1_0'"),
        (b"conv,1,nan", "energy_pj: must be a number, 0 or from 1e-100 to 1e+100, got 'nan'"),
        (b"conv,1,inf", "energy_pj: must be a number, 0 or from 1e-100 to 1e+100, got 'inf'"),
        (b"conv,1,1e101", "energy_pj: must be a number, 0 or from 1e-100 to 1e+100, got '1e101'"),
        (b"conv,1,1e-320", "energy_pj: must be a number, 0 or from 1e-100 to 1e+100, got '1e-320'"),
        (b"conv,1,-2.5", "energy_pj: must be a number, 0 or from 1e-100 to 1e+100, got '-2.5'"),
        (b"co\xe2\x82,1,2", "layer: is not UTF-8 text, got byte 0xe2"),
        (b"conv,1\0,2", "cycles: must be printable, got U+0000"),
        (b"co\x1b[31mnv,1,2", "layer: must be printable, got U+001B"),
        ("co\u202env,1,2".encode(), "layer: must be printable, got U+202E"),
        (b'"conv,1,2', "is not a line of CSV: "),
        (b'"co"nv,1,2', "is not a line of CSV: "),
        (b"co\rnv,1,2", "is not a line of CSV: "),
    ],
)
def test_a_damaged_row_is_one_line(line, problem, tmp_path):
    path = tmp_path / "layers.csv"
    path.write_bytes(b"layer,cycles,energy_pj\nfirst,1,2.5\n" + line + b"\nlast,3,4\n")
    read = tables.read(path, ("layer", "cycles", "energy_pj"))
    assert [next(read).line, next(read).line] == [2, 4]
    with pytest.raises(UsageError) as caught:
        next(read)
    (said,) = caught.value.problems
    assert said.startswith(f"{path}:3: {problem}")
    assert len(said) < 300


def test_what_editors_do_is_no_damage(tmp_path):
    """A mark of the byte order, carriage returns, empty lines, long fields; the limit of the csv module is put back."""
    path = tmp_path / "layers.csv"
    path.write_bytes("\ufefflayer,cycles\r\n\r\n{},1\r\n\n".format("x" * 200_000).encode())
    (row,) = tables.read(path, ("layer", "cycles"))
    assert row.line == 3
    assert row.cells == {"layer": "x" * 200_000, "cycles": 1}
    assert csv.field_size_limit() == 131_072


@pytest.mark.parametrize(
    ("header", "problem"),
    [
        (b"layer", "has no column 'cycles'"),
        (b"layer,cycles,layer", ":1: column 'layer' is there twice"),
        (b"", "has no column 'layer'"),
        (b'"layer,cycles', "has no column 'layer'"),
    ],
)
def test_a_damaged_header(header, problem):
    with pytest.raises(UsageError, match=re.escape(problem)):
        tables.Table([header + b"\n", b"a,1,b\n"], "t", ("layer", "cycles"))


def test_many_damaged_rows_are_counted(tmp_path):
    path = tmp_path / "layers.csv"
    path.write_text("cycles\n" + "x\n" * 1_000)
    with pytest.raises(UsageError) as caught:
        list(tables.read(path, ("cycles",)))
    assert caught.value.problems[-1] == f"{path}: and 950 more problems"


@pytest.mark.parametrize(
    "content",
    [
        "", "nul", "[" * 100_000, '{"a":' * 100_000, "9" * 10_000, "NaN", "\xff", '"', "[]", "3",
        '{"fitted": 1, "images": 1}', '{"fitted": true, "images": 1.0}', '{"fitted": true, "images": true}',
        '{"fitted": true, "images": ' + "9" * 5_000 + "}", '{"fitted": true, "images": NaN}', '{"fitted": null}',
    ],
)  # fmt: skip
def test_a_damaged_summary_is_refused(content, tmp_path):
    path = tmp_path / "summary.json"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(UsageError, match=r"summary\.json: is not the summary of a run of this version, ") as caught:
        tables.read_facts(path, {"fitted": bool, "images": int})
    assert all(len(problem) < 400 for problem in caught.value.problems)


def test_facts_of_a_summary(tmp_path):
    path = tmp_path / "summary.json"
    path.write_text('{"fitted": true, "images": 12, "more": [NaN]}')
    assert tables.read_facts(path, {"fitted": bool, "images": int}) == {"fitted": True, "images": 12}


# --- what reads them


def sweep_rows():
    for i in range(8):
        named = {"point": i, "hardware": "loas.yaml", "trace": f"t{i % 2}.npz", "pe.count": str(i // 2)}
        named |= {"cell": f"{{kind: rram, bits: {i % 3}}}", "hardware_sha256": "a", "archsim_version": "1"}
        measured = dict.fromkeys(comparison.MEASURES, i + 1) | {"accelerator": "loas", "workload": "w"}
        measured |= {"utilization": 0.5, "accuracy": 0.5 + i / 20, "exact_accuracy": 0.9}
        yield named | ({"error": "bad"} if i == 3 else measured)


@pytest.fixture(scope="module")
def written_results(tmp_path_factory):
    """Texts of the files that ``plot`` reads, and a run's folder."""
    folder = tmp_path_factory.mktemp("written") / "out"
    found = report(layer("conv1"), layer("conv2"), hardware="hw/loas.yaml", trace="t/vgg9.npz")
    found.write(folder)
    names = (*sweeping.KEYS, "pe.count", "cell", *comparison.MEASURES, "error", *sweeping.IDENTITY)
    texts = {name: (folder / f"{name}.csv").read_text() for name in ("layers", "traffic", "energy", "units")}
    texts["summary"] = (folder / "summary.json").read_text()
    texts["comparison"] = files.csv_text(comparison.rows({"a": found, "b": found}), comparison.COLUMNS)
    texts["sweep"] = files.csv_text(sweep_rows(), names)
    texts["adaptation"] = files.csv_text(
        [{"adaptation": name, "accuracy": 0.5, "exact_accuracy": 0.9, "standard_error": 0.01} for name in ("a", "b")],
        ("adaptation", "accuracy", "exact_accuracy", "standard_error"),
    )
    return texts


def place(texts, name, content, folder):
    """A result in ``folder`` whose file ``name`` has that ``content``; what to plot."""
    if name in ("sweep", "comparison"):
        (folder / "table.csv").write_bytes(content)
        return folder / "table.csv"
    others = ("adaptation",) if name == "adaptation" else ("layers", "traffic", "energy", "units")
    for other in (*others, "summary"):
        file = folder / ("summary.json" if other == "summary" else f"{other}.csv")
        file.write_bytes(content if other == name else texts[other].encode())
    return folder


def draw_only(figure, file, **options):
    """In place of Figure.savefig: all that it does but for the pixels, once."""
    file.write(files.FIGURE_KINDS["." + options["format"]] + files.FIGURE_MARK)
    if options["format"] == "svg":
        figure.draw_without_rendering()


@pytest.mark.parametrize(
    "name", ["layers", "traffic", "energy", "units", "summary", "comparison", "sweep", "adaptation"]
)
def test_damage_of_every_kind(name, written_results, tmp_path, monkeypatch):
    """Figures, or one refusal in printable lines; never another exception, never a warning."""
    outcomes = {True: 0, False: 0}
    real = plots.save
    monkeypatch.setattr(drawing.Figure, "savefig", draw_only)
    for seed in range(60):
        torn = damaged.content(written_results[name].encode(), seed) if name == "summary" else None
        torn = torn or damaged.table(written_results[name], seed)
        monkeypatch.setattr(plots, "save", real if seed % 12 == 0 else lambda *_, **__: [])
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                plots.plot(place(written_results, name, torn, tmp_path))
            outcomes[True] += 1
        except ArchsimError as error:
            outcomes[False] += 1
            assert all(line.isprintable() and len(line) <= 1_000 for line in error.lines())
    assert min(outcomes.values()) > 5


ODD = (
    "$\\alpha$",
    "\\frac",
    "_hidden",
    "\u8109\u51b2",
    "\U0001f98a",
    "a\x1b[31m\nb",
    "x" * 5_000,
    "\udcff",
    "%s{x}",
    "\u202eabc",
)


@pytest.mark.parametrize("name", ODD)
def test_odd_names_in_figures_are_text(name, tmp_path, monkeypatch):
    """Drawn without a warning, in labels, legends and titles, from tables and summaries."""
    real = drawing.Figure.savefig
    monkeypatch.setattr(
        drawing.Figure,
        "savefig",
        lambda figure, file, **options: (real if options["format"] == "svg" else draw_only)(figure, file, **options),
    )
    odd = report(layer(name), layer("conv2"), hardware=f"hw/{name}.yaml", trace=f"t/{name}.npz", overrides=(name,))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (tmp_path / "compare.csv").write_text(files.csv_text(comparison.rows({name: odd}), comparison.COLUMNS))
        _, svg = plots.plot(tmp_path / "compare.csv")
        odd.write(tmp_path / "out")
        drawn = [file.read_text() for file in plots.plot(tmp_path / "out") if file.suffix == ".svg"]
    for text in (svg.read_text(), drawn[0]):
        assert drawing.label(name).strip() in html.unescape(text)


def test_a_label_is_what_the_font_has():
    assert drawing.label("conv2") == "conv2"
    assert drawing.label("\u00b5\u8109") == "\u00b5\\u8109"
    assert drawing.label("a\tb") == "a\\tb"
    assert drawing.label("_x") == " _x"
    assert drawing.label("x" * 100) == "x" * 20 + "... (100 characters)"
    assert len(drawing.label("\u8109" * 40)) <= drawing.LONGEST_NAME


def test_more_names_than_a_figure_can_show(tmp_path):
    path = tmp_path / "compare.csv"
    rows = comparison.rows({f"m{i}": report() for i in range(3)})
    many = [{**rows[1], "machine": f"m{i}"} for i in range(300)]
    path.write_text(files.csv_text(many, comparison.COLUMNS))
    with pytest.raises(UsageError, match="has 300 different names in column 'machine'; a figure can show 256"):
        plots.plot(path)


@pytest.mark.parametrize(
    "value", ["{a: " * 90, "[" * 390, "&a [*a, *a]", "*x", "? [1]", "!!python/object:x y", "<<: {}"]
)
def test_values_of_settings_are_labels_whatever_they_are(value):
    assert plots.value_labels([value, "8"])[1] == "8"
