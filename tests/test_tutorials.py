"""The tutorials, worked through as they stand."""

import pytest

from tests.pages import ROOT, work_through

TUTORIALS = ROOT / "archsim" / "docs" / "tutorials"
ELSEWHERE = {"network_to_trace": "needs torch: tests/export/test_tutorials.py"}
PAGES = [page for page in sorted(TUTORIALS.glob("*.md")) if page.stem not in ELSEWHERE]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_tutorial(page, tmp_path):
    work_through(page, tmp_path)
