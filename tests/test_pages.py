"""The pages of ``archsim docs``: up to date, whole, without anything from elsewhere; their examples run."""

import re
import shutil
import socket

import pytest

from archsim.docs.__main__ import FOLDERS, generated
from archsim.docs.site import SOURCES, build, page
from archsim.errors import UsageError
from tests.examples_of_pages import clone, run  # noqa: F401


def test_generated_pages_are_up_to_date():
    """If not: python -m archsim.docs."""
    made = generated()
    there = {path.relative_to(SOURCES).as_posix() for name in FOLDERS for path in (SOURCES / name).rglob("*.md")}
    assert there == made.keys()
    assert [name for name, text in made.items() if (SOURCES / name).read_text(encoding="utf-8") != text] == []


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built pages, strictly and without a network."""

    def refuse(*_):
        raise AssertionError("the documentation wants a network")

    folder = tmp_path_factory.mktemp("site")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refuse)
        build(folder / "html", folder / "kept", strict=True)
    return folder / "html"


@pytest.mark.filterwarnings("ignore")
def test_all_links_lead_somewhere_and_nothing_comes_from_elsewhere(site):
    pages = sorted(site.rglob("*.html"))
    assert len(pages) >= 60
    for one in pages:
        loaded = re.findall(r"<(?:script|link|img)[^>]*(?:src|href)=\"(?:https?:)?//[^\"]*", one.read_text("utf-8"))
        assert not loaded, one
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(?:https?:)?//|@import", sheet.read_text("utf-8")), sheet
    assert (site / "searchindex.js").stat().st_size > 10_000


@pytest.mark.filterwarnings("ignore")
def test_a_broken_link_is_an_error(tmp_path, monkeypatch, capfd):
    sources = tmp_path / "docs"
    shutil.copytree(SOURCES / "static", sources / "static")
    shutil.copy(SOURCES / "conf.py", sources)
    (sources / "index.md").write_text("# Pages\n\n[a page](nowhere.md)\n")
    monkeypatch.setattr("archsim.docs.site.SOURCES", sources)
    with pytest.raises(Exception, match="could not be built"):
        build(tmp_path / "html", tmp_path / "kept", strict=True)
    assert "nowhere.md" in capfd.readouterr().err


@pytest.mark.filterwarnings("ignore")
def test_pages_are_found_by_the_end_of_their_names(site):
    assert page("", site) == site / "index.html"
    assert page("loas", site) == site / "machines" / "loas.html"
    assert page("deviations/loas", site) == site / "deviations" / "loas.html"
    assert page("hardware", site) == site / "reference" / "hardware" / "index.html"
    assert page("reference/columns.md", site) == site / "reference" / "columns.html"
    with pytest.raises(UsageError, match=r"no page 'colums' \(did you mean 'columns'\?\)"):
        page("colums", site)


ELSEWHERE = {
    "import snntorch": "needs a framework: tests/export/test_page.py",
    "import torch\nfrom torch": "needs a framework: tests/export/test_page.py",
    "import torch\nfrom spikingjelly": "needs a framework: tests/export/test_page.py",
    "import archsim\n\nreport": "tests/test_documents.py",
    "archsim run imc_cnn": "some minutes of analog arrays: tests/accelerators/test_imc.py runs the machine",
    "dask scheduler": "does not end by itself: tests/test_cluster.py starts it",
    "archsim adapt imc_cnn": "some minutes of analog arrays: tests/test_adapting.py runs the verb",
}
"""How the examples begin that this test does not run, and who runs them, or what like them."""


def examples():
    """All blocks of commands and of Python of the guide."""
    for path in sorted((SOURCES / "guide").glob("*.md")):
        for kind, text in re.findall(
            r"^```(bash|python)\n(.*?)^```$", path.read_text("utf-8"), re.MULTILINE | re.DOTALL
        ):
            yield pytest.param(kind, text, id=f"{path.stem}: {text.splitlines()[0][:40]}")


def test_examples_that_are_not_run_are_known():
    texts = [one.values[1] for one in examples()]
    assert len(texts) >= 15
    assert [start for start in ELSEWHERE if not any(text.startswith(start) for text in texts)] == []


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "text"), [p for p in examples() if not p.values[1].startswith(tuple(ELSEWHERE))])
def test_examples_run(clone, kind, text):  # noqa: F811
    if kind == "bash":
        run(clone, "bash", "-euc", text)
    else:
        (clone / "example.py").write_text(text)
        assert run(clone, "python", "example.py")
