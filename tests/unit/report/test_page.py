"""The page of a run: complete, harmless whatever names say, and readable without a network."""

import re
from html.parser import HTMLParser

from archsim.engine.result import Coverage, LeftOut
from archsim.report.evidence import Evidence
from archsim.report.page import Sources, page
from tests.unit.report.test_report import layer, report

SOURCES = Sources(
    [("pe.count", 16, "file", "paper", "processing elements", "Table III")],
    [("pe", "add", 0.04, "pJ", "derived", "LoAS Table IV")],
)


class Reader(HTMLParser):
    """Rows of every table by title, references to anything outside, and tags that are never closed."""

    def __init__(self, text):
        super().__init__()
        self.tables, self.outside, self.open, self.scripts = [], [], [], 0
        self.row = None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.scripts += tag == "script"
        self.outside += [v for name, v in attributes.items() if name in ("src", "href") and not v.startswith("#")]
        if tag not in ("meta", "br"):
            self.open.append(tag)
        if tag == "tbody":
            self.tables.append([])
        if tag == "tr" and "tbody" in self.open:
            self.row = []
            self.tables[-1].append(self.row)
        if tag == "td" and self.row is not None:
            self.row.append((attributes.get("data-key"), ""))

    def handle_data(self, data):
        if self.open and self.open[-1] == "td" and self.row:
            key, text = self.row[-1]
            self.row[-1] = (key, text + data)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, tag


def test_every_row_is_there_with_its_full_precision():
    run = report()
    found = Reader(page(run, SOURCES, []))
    assert found.open == []
    for rows, name in zip(found.tables, ("layers", "energy", "traffic", "units", "area"), strict=False):
        assert len(rows) == len(run.rows(name)), name
        for cells, row in zip(rows, run.rows(name), strict=True):
            for (key, text), column in zip(cells, run.columns(name), strict=True):
                value = row[column]
                if isinstance(value, int | float):
                    assert float(key) == value
                else:
                    assert text == ("" if value is None else str(value))
    assert [text for _, text in found.tables[5][0]] == [
        "pe.count", "16", "file", "paper", "processing elements", "Table III",
    ]  # fmt: skip
    assert [text for _, text in found.tables[6][0]][-1] == "LoAS Table IV"


EVIDENCE = [
    Evidence("cycles", "paper", "values: 3 paper"),
    Evidence("traffic", "rtl", "values: 3 rtl"),
    Evidence("area", "assumed", "100 % assumed"),
    Evidence("energy", "inferred", "prices: 100 % inferred"),
]


def test_every_number_says_what_it_rests_on():
    """Key numbers show the grade; they, and heads of tables, have a tooltip that says why."""
    text = page(report(evidence=EVIDENCE), SOURCES, [])
    cards = dict(re.findall(r'class="card" title="([^"]*)"><span class="soft">([\w ]+)', text))
    shown = {name: meaning for meaning, name in cards.items()}
    assert "Evidence of cycles: paper (values: 3 paper)." in shown["cycles"]
    assert "Evidence of area: assumed (100 % assumed)." in shown["area "]
    assert "Evidence of traffic: rtl" in shown["DRAM "]
    assert re.search(r"<span class=\"soft\">\d+% stalled · paper</span>", text)
    heads = dict(re.findall(r'title="([^"]*)">([^<]*)</th>', text))
    for name, result in (("cycles", "cycles"), ("energy", "energy"), ("DRAM read", "traffic"), ("bytes", "traffic")):
        meanings = [meaning for meaning, head in heads.items() if head.startswith(name)]
        assert any(f"Evidence of {result}: " in meaning for meaning in meanings), name
    assert not any("Evidence" in meaning for meaning, head in heads.items() if head in ("layer", "matches", "source"))
    rows = [[text for _, text in row] for table in Reader(text).tables for row in table]
    assert [row for row in rows if row[0] == "cycles"] == [["cycles", "paper", "values: 3 paper"]]


def test_names_are_text():
    name = "<script>alert('x')</script>&amp;"
    text = page(report(layer(name)), SOURCES, [])
    assert Reader(text).scripts == Reader(page(report(), SOURCES, [])).scripts == 1
    assert "&lt;script&gt;alert" in text


def test_no_character_controls_the_page():
    """Neither C0 and C1 controls nor marks of direction; text keeps its line breaks nowhere."""
    name = "a\x00\x1b[31m\x85\u202eb\udcff\u2028c"
    text = page(report(layer(name), description=name, labels={"details": name}), SOURCES, [])
    assert all(character.isprintable() or character == "\n" for character in text)
    assert r"a\x00\x1b[31m\x85\u202eb\udcff\u2028c" in text


def test_the_state_is_said():
    assert "2 outputs differ" in page(report(layer(mismatches=2)), SOURCES, [])
    assert "not verified" in page(report(layer(mismatches=None)), SOURCES, [])
    assert "the only layer simulated and verified bit for bit" in page(report(layer(mismatches=0)), SOURCES, [])


def test_what_is_left_out_is_a_table():
    left_out = (
        LeftOut("encoder", "reads pixels 0 to 9", 0.25, True, False),
        LeftOut("s", "is a sum", 0.0, False, False),
    )
    text = page(report(layer(), covered=Coverage(0.75, 10, 1, 2, left_out)), SOURCES, [])
    assert Reader(text).tables[0] == [
        [(None, "encoder"), (None, "reads pixels 0 to 9"), ("0.25", "25.0")],
        [(None, "s"), (None, "is a sum"), ("0.0", "0")],
    ]
    assert "1 of 2 layers simulated, 75 % of the operations; those verified bit for bit" in text
