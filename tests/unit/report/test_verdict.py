"""The verdict on a run and the warning of what it left out, word for word."""

import pytest

from archsim.engine.result import Coverage, LeftOut
from archsim.report.verdict import left_out, percent, verdict
from tests.unit.report.test_report import layer, report

PART = Coverage(0.45, 10, 9, 21)
WHOLE = Coverage(1.0, 10, 21, 21)


@pytest.mark.parametrize(
    ("mismatches", "changes", "state", "text"),
    [
        ((0, 0), {"covered": WHOLE}, "good", "all 21 layers simulated and verified bit for bit"),
        (
            (0, 0), {"covered": PART}, "good",
            "9 of 21 layers simulated, 45 % of the operations; those verified bit for bit",
        ),
        (
            (0, None), {"covered": PART}, "good",
            "9 of 21 layers simulated, 45 % of the operations; 1 of 2 verified bit for bit, the trace stores no outputs"
            " of l1",
        ),
        (
            (None, None), {"covered": WHOLE}, "open",
            "all 21 layers simulated; not verified: the trace stores no outputs",
        ),
        ((None,), {"covered": WHOLE, "verify": False}, "open", "all 21 layers simulated; not verified: --no-verify"),
        (
            (0, 1200), {"covered": WHOLE}, "bad",
            "1 of 2 layers: 1,200 outputs differ from the trace's, in l1; they do not follow from its inputs and"
            " weights",
        ),
        (
            (0, 1200), {"covered": PART, "exact": False}, "open",
            "9 of 21 layers simulated, 45 % of the operations; 1,200 outputs differ from the trace's, as this machine "
            "may lose precision",
        ),
        (
            (0, 0), {"covered": WHOLE, "moved": {"pool": 0, "concat1": 2, "cut": 1}}, "bad",
            "3 stored values differ from what concat1, cut must write, on the way of the layers; they do not follow"
            " from what is read there",
        ),
    ],
)  # fmt: skip
def test_verdicts(mismatches, changes, state, text):
    layers = [layer(f"l{number}", mismatches=count) for number, count in enumerate(mismatches)]
    covered = changes["covered"]
    if covered is PART:
        rest = tuple(LeftOut(f"m{i}", "reads pixels", 0.55 / 12, True, False) for i in range(12))
        changes = {**changes, "covered": Coverage(0.45, 10, 9, 21, rest)}
    assert verdict(report(*layers, **changes)) == (state, text)


def test_a_whole_network_may_lack_neurons():
    covered = Coverage(1.0, 10, 4, 4, (LeftOut("s", "has neurons behind a sum", 0.0, False, False),))
    told = verdict(report(layer(), covered=covered)).text
    assert told == "all 4 layers simulated and verified bit for bit; left out: 1 operation without weights"


def test_the_warning_names_the_largest_and_counts_the_rest():
    missing = tuple(LeftOut(f"l{i}", f"reads pixels 0 to {i}", i / 100, True, False) for i in range(1, 7))
    asked = (LeftOut("fc", "is the read-out", 0.5, True, True),)
    sums = (LeftOut("s", "is a sum", 0.0, False, False), LeftOut("p", "pools spikes", 0.0, False, False))
    assert left_out(Coverage(0.29, 10, 3, 10, (*asked, *sums, *missing))) == [
        "left out: 6 of 10 layers, 21 % of the operations, and 2 operations without weights: l6 (6 %) reads pixels 0 to"
        " 6; l5 (5 %) reads pixels 0 to 5; l4 (4 %) reads pixels 0 to 4; l3 (3 %) reads pixels 0 to 3; and 4 more: see"
        " left_out in the summary"
    ]
    assert left_out(Coverage(0.5, 10, 3, 4, asked)) == []
    assert left_out(Coverage(1.0, 10, 1, 2, (LeftOut("silent", "reads pixels", 0.0, True, False),))) == [
        "left out: 1 of 2 layers, 0 % of the operations: silent reads pixels: see left_out in the summary"
    ]


def test_no_part_looks_like_all_or_nothing():
    assert [percent(share) for share in (0.0, 1e-9, 0.0012, 0.121, 0.45, 0.9995, 1 - 1e-12, 1.0)] == [
        "0 %", "under 0.1 %", "0.12 %", "12.1 %", "45 %", "over 99.9 %", "over 99.9 %", "100 %",
    ]  # fmt: skip
