"""The tutorials, worked through as they stand."""

import pytest

from tests.pages import ROOT, work_through

TUTORIALS = ROOT / "archsim" / "docs" / "tutorials"
ELSEWHERE = {"network_to_trace": "needs torch: tests/export/test_tutorials.py"}
PAGES = [page for page in sorted(TUTORIALS.glob("*.md")) if page.stem not in {"index", *ELSEWHERE}]


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_tutorial(page, tmp_path):
    work_through(page, tmp_path)


@pytest.mark.parametrize(
    "page",
    [
        "```bash\necho 1\n```\n\n```text\n2\n```\n",
        "```bash\nexit 3\n```\n",
        '```python\n# wrong.py\n"""A file."""\n\nimport os\n```\n',
        "```text\nan output of nothing\n```\n",
    ],
)
def test_a_page_that_is_wrong_is_found(page, tmp_path):
    path = tmp_path / "page.md"
    path.write_text(page)
    with pytest.raises(AssertionError):
        work_through(path, tmp_path)
