"""Evidence: how far to trust a number, in five grades. The comment behind a constant says which, in its own words.

    rtl        a circuit has it: the number was read from one, or compared with one in every cycle
    silicon    it was measured on a chip or a board
    paper      it is printed in the paper that describes the machine, or in the program that its authors released
    inferred   it follows by arithmetic from such numbers, comes from CACTI, or is read in others' notes on the paper
    assumed    nobody has published it: a decision of ours, or a value that the user gave

A comment that begins with one of these words says its grade, and these words alone count in a user's file::

    count: 32                # paper, Table II: 32 PEs

In the files that come with archsim the words of a source are enough. The first of these that a comment has decides:

    assumed                                   assumed
    inferred, derived, secondary, notes       inferred
    a numbered decision, such as open 12      assumed
    as LoAS, for equal terms                  assumed
    CACTI                                     inferred
    circuit                                   rtl
    section, Table, Fig., a published program paper
    none of them                              assumed: it explains a choice of ours
"""

from __future__ import annotations

import re
from collections.abc import Iterable

GRADES = ("rtl", "silicon", "paper", "inferred", "assumed")
"""Strongest first."""
GIVEN = "given by the user"
"""The source of what is in no file of archsim."""
DECISIONS = (
    *("open", "whole", "array", "dma", "G", "gospa", "gustav", "imc", "prosperity", "ptb", "sata", "spikesim"),
    *("stellar", "flywire", "core", "cores", "ttfs", "tt_snn"),
)
"""How numbered decisions are called on the pages of deviations; F40 is a set of fitted constants."""

_SAID = re.compile(rf"({'|'.join(GRADES)})\b")
_WORDS = (
    ("assumed", r"\bassumed\b"),
    ("inferred", r"\b(inferred|derived|secondary|notes)\b"),
    ("assumed", rf"\b({'|'.join(DECISIONS)}) \d+\b|\bF40\b|\bas (LoAS|loas|hwconfigs)|\bfor equal (terms|prices)\b"),
    ("inferred", r"^CACTI\b"),
    ("rtl", r"^circuit\b"),
    ("paper", r"\b(section|Table) [IVX]+|\bFig\. \d+|\b(abstract|described|tool|simulator)\b|^[A-Z][\w-]*('s|:|,)"),
)


def grade(source: str, *, shipped: bool = True) -> str:
    """The grade of a constant by the comment behind it, in a file that is ``shipped`` with archsim or in a user's."""
    if said := _SAID.match(source):
        return said[1]
    words = _WORDS if shipped else ()
    return next((found for found, pattern in words if re.search(pattern, source)), "assumed")


def weakest(grades: Iterable[str]) -> str:
    """The weakest of ``grades``, of which there must be one."""
    return max(grades, key=GRADES.index)
