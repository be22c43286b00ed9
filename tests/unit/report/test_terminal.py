"""Tables on a terminal: nothing broken, one unit a column, blocks that begin alike."""

import pytest

from archsim.report import terminal
from archsim.report.terminal import print_table

LAYERS = ("layer", "cycles", "energy_pj", "dram_read_bytes", "utilization", "note")


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")


def printed(capsys, monkeypatch, columns, rows, width=80, repeat=1):
    monkeypatch.setenv("COLUMNS", str(width))
    print_table(columns, rows, repeat)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= width
    return [line.rstrip() for line in lines]


def test_one_unit_a_column(capsys, monkeypatch):
    """By the largest value: 2 MiB, so 512 KiB is 0.5 MiB. Counts are not rounded, empty columns not shown."""
    rows = [("conv1", 1_234_567, 72.73e6, 2 << 20, 0.5, ""), ("fc", 7, 0.0, 1 << 19, 0.0625, None)]
    assert printed(capsys, monkeypatch, LAYERS, rows) == [
        "                           DRAM",
        "                  energy   read  util.",
        "layer     cycles    [uJ]  [MiB]    [%]",
        "conv1  1,234,567    72.7   2.00   50.0",
        "fc             7       0  0.500   6.25",
    ]


def test_names_and_numbers_are_never_broken(capsys, monkeypatch):
    """Whatever the width, every word of a name and every number stands whole in some line."""
    names = ["stage3.block2.conv2", "stage1.block1.conv1"]
    columns = ("layer", *(f"quantity{i}_cycles" for i in range(9)))
    rows = [(name, *(10**i for i in range(9))) for name in names] * 8
    for width in (40, 60, 80, 200):
        text = "\n".join(printed(capsys, monkeypatch, columns, rows, width))
        assert all(text.count(name) % 8 == 0 for name in names)
        assert all(f"{10**i:,}" in text.split() for i in range(9))


def test_a_wide_table_is_cut_into_blocks_that_begin_alike(capsys, monkeypatch):
    """Turned first, since machines are fewer than quantities; the reference stands in every block."""
    machines = [f"machine_number_{i}" for i in range(7)]
    columns = ("machine", "cycles", *(f"measure{i}_s" for i in range(9)))
    rows = [(machine, 10 + i, *[1e-6] * 9) for i, machine in enumerate(machines)]
    lines = printed(capsys, monkeypatch, columns, rows, repeat=2)
    heads = [line.split() for line in lines if line.startswith("machine")]
    assert [head[:2] for head in heads] == [["machine", "machine_number_0"]] * len(heads)
    assert [name for head in heads for name in head[2:]] == machines[1:]
    assert any(line.split()[:2] == ["measure0", "[us]"] for line in lines)


def test_text_goes_on_in_the_next_line(capsys, monkeypatch):
    """Paths stay whole in the first column, sentences are broken between words."""
    rows = [("memory.write_switch.traversal_cycles", "1", "a source of many words " * 9)]
    lines = printed(capsys, monkeypatch, ("path", "value", "source"), rows)
    assert lines[1].startswith("memory.write_switch.traversal_cycles  1  ")
    assert " ".join(" ".join(line[38:].split()) for line in lines[1:]).split()[1:] == rows[0][2].split()


def test_paths_of_settings_are_theirs(capsys, monkeypatch):
    lines = printed(capsys, monkeypatch, ("point", "memory.cache.size_kib"), [(0, 64)])
    assert lines == ["point  memory.cache.size_kib", "    0                     64"]


def test_words_stay_whole(capsys, monkeypatch):
    rows = [("memory.cache.replacement", "a_value_of_one_long_word", "a source of many words " * 9)]
    lines = printed(capsys, monkeypatch, ("path", "value", "source"), rows)
    assert lines[1].split()[:2] == list(rows[0][:2])


def test_digits(capsys, monkeypatch):
    """Three of a number, all of a count, none of a zero."""
    values = [0, 0.0, 1.0, 0.07367, 999.7, 12345.6, 12345, True, None, "x"]
    rows = [(str(i), value, 1) for i, value in enumerate(values)]
    lines = printed(capsys, monkeypatch, ("name", "value", "one"), rows)
    shown = [line[6:].split()[:-1] for line in lines[1:]]
    assert shown == [["0"], ["0"], ["1.00"], ["0.0737"], ["1,000"], ["12,346"], ["12,345"], ["true"], [], ["x"]]


def test_one_quantity():
    assert terminal.quantity("energy_pj", 54_793_555.5) == "54.8 uJ"
    assert terminal.quantity("images_per_s", 12988.4) == "12,988 1/s"
    assert terminal.quantity("utilization", 0.0001) == "< 0.1 %"


def test_a_table_for_a_notebook_has_units_and_no_markup_of_names():
    page = terminal.html_table(
        ("layer", "energy_pj"), [{"layer": "<b>", "energy_pj": 1500.0}, {"layer": "c", "energy_pj": 500}]
    )
    assert "energy [nJ]" in page
    assert "&lt;b&gt;" in page and "<b>" not in page
    assert '<td style="text-align: right">0.500</td>' in page
