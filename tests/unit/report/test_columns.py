"""The table of columns: one entry for a name in a file, a sentence each, units that agree with the names."""

from archsim.report import columns as table
from archsim.report.terminal import column as shown


def test_a_name_has_one_meaning_in_a_file():
    places = [(column.name, file) for column in table.columns() for file in column.files]
    assert len(places) == len(set(places))
    assert all(column.files for column in table.columns())


def test_a_meaning_is_a_sentence():
    for column in table.columns():
        assert column.meaning[0].isupper() or column.meaning.startswith("read "), column
        assert column.meaning.endswith("."), column
        assert not {"|", "\n"} & set(column.meaning), column


def test_a_unit_is_that_of_the_name():
    """What terminals show under a name is in a multiple of the unit: uJ of pJ."""
    units = {"B": "bytes", "%": "share", "ns": "s", "us": "s", "ms": "s"}
    for column in table.columns():
        head, _ = shown(column.name, [1])
        _, bracket, unit = head.rstrip("]").partition("[")
        if bracket:
            assert column.unit == units.get(unit, unit), column
        if column.name.endswith("_cycles"):
            assert column.unit == "cycles", column


def test_what_a_column_means():
    assert table.meaning("cycles", table.LAYERS) != table.meaning("cycles", table.SUMMARY)
    assert table.meaning("latency_s", table.SWEEP).endswith("for all images together. Unit: s.")
    assert table.meaning("pe.count", table.SWEEP) == ""


def test_the_reference_has_every_column():
    lines = table.markdown().splitlines()
    rows = [line for line in lines if line.startswith("| `")]
    assert len(rows) == len(list(table.columns()))
    assert all(line.count("|") == 5 for line in rows)
    assert [line[3:] for line in lines if line.startswith("## ")] == list(table.GROUPS)
