"""Lines that tell a person what is wrong, whatever the input holds."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archsim.errors import MOST_CHARACTERS, MOST_PROBLEMS, ArchsimError, TraceError, nearest, printable


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("conv1, 3 é 3", "conv1, 3 é 3"),
        ("a\nb\r\x1b[2J", r"a\nb\r\x1b[2J"),
        ("\x00\x7f\x85\u2028\u202e\ud800", r"\x00\x7f\x85\u2028\u202e\ud800"),
        (("a", 1), "('a', 1)"),
        ("", ""),
    ],
)
def test_printable(text, line):
    assert printable(text) == line


def test_long_values_are_clipped_and_their_length_told():
    assert printable("a" * 200) == "a" * 200
    clipped = printable("a" * 60_000)
    assert clipped.startswith("aaaa")
    assert clipped.endswith("a... (60,000 characters)")
    assert len(clipped) == 200


@given(st.text(), st.integers(0, 100))
def test_any_text_is_one_short_line(text, limit):
    line = printable(text, limit)
    assert line.isprintable()
    assert len(line) <= limit
    assert printable(line, limit) == line


def test_every_problem_is_one_short_line():
    """Also when it comes back from another process."""
    error = TraceError(["a\nb", "\x1b" * 60_000])
    assert error.problems[0] == r"a\nb"
    assert all(problem.isprintable() and len(problem) <= MOST_CHARACTERS for problem in error.problems)
    assert pickle.loads(pickle.dumps(error)).problems == error.problems


def test_many_problems_are_counted():
    error = ArchsimError([f"wrong {i}" for i in range(1_284)])
    assert len(error.problems) == 1_284
    assert error.lines() == [*(f"wrong {i}" for i in range(MOST_PROBLEMS)), "and 1,234 more problems"]
    assert str(error) == "\n".join(error.lines())
    assert len(ArchsimError(["a"] * (MOST_PROBLEMS + 1)).lines()) == MOST_PROBLEMS + 1


def test_capital_letters_are_as_good_as_small_ones():
    known = ["layers", "layers.csv", "energy.csv", "LoAS"]
    assert nearest("LAYERS.CSV", known) == " (did you mean 'layers.csv'?)"
    assert nearest("loas", known) == " (did you mean 'LoAS'?)"
    assert nearest("QUITE.OTHER", known) == ""
