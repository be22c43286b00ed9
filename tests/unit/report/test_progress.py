"""Progress: whoever gives a function is told, scripts are left alone, a notebook gets a bar that vanishes."""

import sys
from types import SimpleNamespace

from archsim.report.progress import shown


def test_a_function_is_told():
    told = []
    with shown(lambda *step: told.append(step)) as show:
        show("conv1", 0, 2)
    assert told == [("conv1", 0, 2)]


def test_a_script_is_left_alone(monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    with shown(None) as show:
        assert show is None
    assert capsys.readouterr() == ("", "")


def test_a_notebook_has_a_bar_from_the_start(monkeypatch):
    drawn = []
    handle = SimpleNamespace(update=lambda content, raw: drawn.append(content["text/html"]))

    def display(content, raw, display_id):
        handle.update(content, raw)
        return handle

    shell = SimpleNamespace(kernel="a kernel")
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=display))
    with shown(None) as show:
        assert drawn == ["<progress></progress> reading"]
        show("<conv1>", 1, 2)
    assert drawn[1:] == ['<progress value="1" max="2"></progress> &lt;conv1&gt; 1/2', ""]
    shell.kernel = None  # IPython in a terminal
    with shown(None) as show:
        assert show is None
