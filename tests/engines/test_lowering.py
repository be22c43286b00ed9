"""Lowered agents against the generators that they come from, and what is refused."""

import importlib.util
import sys
import textwrap
from typing import NamedTuple

import numpy as np
import pytest

from archsim.engine.agent_rules import LoweringError
from archsim.engine.lowering import lower
from archsim.hardware import operation
from archsim.hardware.agent import Coroutines
from tests.engines.random_program import Program

CALLS = 60
COLUMNS = 500


class Machine(NamedTuple):
    size: int


class Operands(NamedTuple):
    table: np.ndarray


MACHINE, OPERANDS = Machine(3), Operands(np.array([4, 1, 3, 0]))


def module_of(text, folder, name="program"):
    """``text`` as a module with a file, since an agent is read from its file."""
    path = folder / f"{name}.py"
    path.write_text(text)
    specification = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(specification)
    sys.modules[path.stem] = module
    specification.loader.exec_module(module)
    return module


def calls(step, kept, agent=1, seed=0):
    """Operations of one agent, asked for again and again with the values that FIFOs would give; with its counters."""
    generator = np.random.default_rng(seed)
    state, counts = np.zeros((3, COLUMNS), np.int64), np.zeros((3, 2), np.int64)
    o = np.zeros((3, operation.HEADER + 4 * operation.REQUEST_FIELDS), np.int64)
    found, now = [], 0
    for _ in range(CALLS):
        o[agent, : operation.START] = 0
        o[agent, [operation.POP, operation.PUSH, operation.BARRIER]] = -1
        step(agent, now, MACHINE, state, OPERANDS, o, counts)
        found.append((o[agent].copy(), counts[agent].copy(), state[agent, kept : kept + 2].copy()))
        if o[agent, operation.END]:
            break
        o[agent, operation.VALUE], now = generator.integers(0, 9), now + int(generator.integers(0, 4))
        o[agent, operation.START] = now
    return found


def as_step(function):
    return lambda agent, now, m, state, x, o, counts: function(agent, agent, now, m, state, x, o, counts)


def meaningful(row):
    """An operation's fields; how many tokens only where there are any."""
    row = row.copy()
    for who, count in ((operation.POP, operation.POP_COUNT), (operation.PUSH, operation.PUSH_COUNT)):
        if row[who] < 0:
            row[count] = 0
    return row.tolist()


def assert_same(module, compiled=None):
    lowered = lower([module.program])
    expected = calls(Coroutines([(3, module.program)], lowered.kept), lowered.kept)
    function = lowered.functions["program"] if compiled is None else compiled(lowered.functions["program"])
    got = calls(as_step(function), lowered.kept)
    assert len(got) == len(expected)
    for (row, count, kept), (wanted, wanted_count, wanted_kept) in zip(got, expected, strict=True):
        assert meaningful(row) == meaningful(wanted)
        assert count.tolist() == wanted_count.tolist()
        assert kept.tolist() == wanted_kept.tolist()
    return expected


@pytest.mark.parametrize("seed", range(500))
def test_random_programs(seed, tmp_path):
    assert_same(module_of(Program(seed).text, tmp_path))


def test_random_programs_are_not_empty(tmp_path):
    lengths = [len(assert_same(module_of(Program(seed).text, tmp_path))) for seed in range(100)]
    assert sum(length > 5 for length in lengths) > 50
    assert sum(length == CALLS for length in lengths) < 50


@pytest.mark.parametrize("seed", range(6))
def test_random_programs_compiled(seed, tmp_path):
    import numba

    assert_same(module_of(Program(1000 + seed).text, tmp_path), lambda function: numba.njit(function))


AGENT = """
from archsim.hardware.agent import op
from math import sqrt

def helper(a, m, x):
    yield op(compute=1)

def circular(a, m, x):
    yield from circular(a, m, x)

def early(a, m, x):
    yield op()
    return

def plain_function(a, m, x):
    return 1

def program(a, m, x):
    u = 1
    yield op(compute=u)
    {line}
"""


@pytest.mark.parametrize(("line", "rule"), [
    ("f = lambda: 1", "no functions inside an agent"),
    ("def f(): pass", "no 'functiondef' in an agent"),
    ("try:\n        u = 1\n    finally:\n        u = 2", "no 'try' in an agent"),
    ("with u:\n        pass", "no 'with' in an agent"),
    ("assert u", "no 'assert' in an agent"),
    ("global z", "no 'global' in an agent"),
    ("import os", "no 'import' in an agent"),
    ("del u", "no 'delete' in an agent"),
    ("u: int = 3", "no 'annassign' in an agent"),
    ("raise ValueError", "no 'raise' in an agent"),
    ("match u:\n        case 1:\n            pass", "no 'match' in an agent"),
    ("return 3", "an agent returns nothing"),
    ("u = v = 1", "one assignment at a time"),
    ("x.table[0] = 1", "assigns to local names, a.count[...] and a.kept[...] only"),
    ("m.size = 1", "assigns to local names, a.count[...] and a.kept[...] only"),
    ("a = 1", "the name 'a' is taken"),
    ("pc = 1", "the name 'pc' is taken"),
    ("state = 1", "the name 'state' is taken"),
    ("u = [1]", "no lists"),
    ("u = {}", "no dictionaries"),
    ("u = sum(i for i in x.table)", "no comprehensions"),
    ("u = u / 2", "integers only: // instead of /"),
    ("u /= 2", "integers only: // instead of /"),
    ("u = 0.5", "integers only, got 0.5"),
    ("u = 'text'", "integers only, got 'text'"),
    ("u = (w := 3)", "no assignment inside an expression"),
    ("u = max(*x.table)", "no * arguments"),
    ("u = a.nothing", "a has no 'nothing'; allowed: me, now, value, start, count, kept, request, lines"),
    ("u = yield op()", "a yield is a statement of its own"),
    ("u = 1 + (yield op())", "a yield is a statement of its own"),
    ("if (yield op()):\n        pass", "a yield is a statement of its own"),
    ("yield 3", "yields op(...) with keywords"),
    ("yield", "yields op(...) with keywords"),
    ("yield op(3)", "yields op(...) with keywords"),
    ("yield op(computes=3)", "op has no 'computes'; allowed: pop, pops, compute, pause, push, pushes, value, barrier"),
    ("yield op(**u)", "op has no 'None'"),
    ("for u in x.table:\n        yield op()", "a loop with a yield goes over range(end) or range(first, end)"),
    ("for u in range(1, 9, 2):\n        yield op()", "a loop with a yield goes over range(end) or range(first, end)"),
    ("for u, w in range(3):\n        yield op()", "a loop with a yield goes over range(end) or range(first, end)"),
    ("while u:\n        yield op()\n    else:\n        pass", "no else behind a loop with a yield"),
    ("yield from range(3)", "'range' is no generator function of this module"),
    ("yield from plain_function(a, m, x)", "'plain_function' is no generator function of this module"),
    ("yield from nowhere(a, m, x)", "'nowhere' is no generator function of this module"),
    ("yield from helper(a, m)", "'helper' takes a, m, x"),
    ("yield from helper(a, m, x=x)", "what is given to a function besides a has no names"),
    ("u = abs(m, a)", "a is given to functions only, before all else"),
    ("u = a", "a is given to functions only, before all else"),
    ("u = plain_function(a, m, x=x)", "what is given to a function besides a has no names"),
    ("yield from x.helper()", "yields from part(...), called by its name"),
])  # fmt: skip
def test_what_is_refused(line, rule, tmp_path):
    module = module_of(AGENT.replace("{line}", line), tmp_path)
    with pytest.raises(LoweringError) as caught:
        lower([module.program])
    number = AGENT.splitlines().index("    {line}") + 1
    where, function, told = str(caught.value).split(": ", 2)
    assert where.startswith(f"{tmp_path / 'program.py'}:")
    assert number <= int(where.rpartition(":")[2]) <= number + 2
    assert function == "program"
    assert told.startswith(rule)


@pytest.mark.parametrize(("line", "culprit", "rule"), [
    ("yield from circular(a, m, x)", "circular", "the part 'circular' yields from itself"),
    ("yield from early(a, m, x)", "early", "a part ends at its end, without return"),
])  # fmt: skip
def test_what_is_refused_in_a_part(line, culprit, rule, tmp_path):
    module = module_of(AGENT.replace("{line}", line), tmp_path)
    with pytest.raises(LoweringError, match=f"{culprit}: {rule}"):
        lower([module.program])


@pytest.mark.parametrize(("head", "rule"), [
    ("def program(agent, m, x):", "an agent's parameters are a, m, x"),
    ("def program(a, m, x, y=1):", "an agent's parameters are a, m, x"),
    ("def program(a, m, *, x):", "no decorators, and plain parameters only"),
    ("def program(a, m, *x):", "no decorators, and plain parameters only"),
])  # fmt: skip
def test_parameters(head, rule, tmp_path):
    with pytest.raises(LoweringError, match=rule):
        lower([module_of(f"from archsim.hardware.agent import op\n{head}\n    yield op()\n", tmp_path).program])


def test_names_of_an_enclosing_function():
    from archsim.hardware.agent import op

    many = 3

    def program(a, m, x):
        yield op(compute=many)

    with pytest.raises(LoweringError, match="no names of an enclosing function"):
        lower([program])


def test_a_part_of_another_module_keeps_its_names(tmp_path):
    """Both modules have a SIZE of their own, and so have both a local called u."""
    module_of("""
from archsim.hardware.agent import op
SIZE = 7
def shared(a, m, size):
    u = SIZE + size
    yield op(compute=u)
    yield op(compute=u + 1)
""", tmp_path, "shared_parts")  # fmt: skip
    module = module_of("""
from archsim.hardware.agent import op
from shared_parts import shared
SIZE = 2
def program(a, m, x):
    u = SIZE
    for i in range(2):
        yield from shared(a, m, u + i)
        yield op(compute=u)
""", tmp_path)  # fmt: skip
    computed = [int(row[operation.COMPUTE]) for row, _, _ in assert_same(module)]
    assert computed == [9, 10, 2, 10, 11, 2, 0]


def test_a_function_with_the_handle_keeps_numbers_and_asks_for_lines(tmp_path):
    """A function's two results, what it keeps, and requests by tensor are those of the generator."""
    module = module_of("""
import numpy as np
from archsim.hardware.agent import op
from archsim.hardware.memory.placement import LineSpec, Tensor
from archsim.hardware.operation import RESIDENT_READ
MEMORY = LineSpec(32, 5, 3, 4, 4, 1)
TENSOR = Tensor(np.array([5, 9]), np.array([70, 40]), 2, 3)
def counted(a, m, amount):
    if amount > 4:
        return 0, 0
    a.kept[0] += amount
    return a.kept[0], a.access(MEMORY, TENSOR, 1, 8, 40, RESIDENT_READ, 6)
def program(a, m, x):
    for i in range(4):
        total, lines = counted(a, m, x.table[i])
        yield op(compute=total, pause=lines)
""", tmp_path)  # fmt: skip
    found = assert_same(module)
    assert [(int(row[operation.COMPUTE]), int(row[operation.PAUSE])) for row, _, _ in found[:4]] == [
        (4, 2), (5, 2), (8, 2), (8, 2)
    ]  # fmt: skip
    first = found[0][0][operation.HEADER :][: operation.DONE].tolist()
    assert first == [9, 3, 24, operation.RESIDENT_READ, 3, 6]  # line, beats, bytes, mode, row of the table, epoch


def test_an_error_names_the_line_of_the_agent(tmp_path):
    module = module_of(AGENT.replace("{line}", "u = x.table[u + 9]\n    yield op(compute=u)"), tmp_path)
    lowered = lower([module.program])
    with pytest.raises(IndexError) as caught:
        calls(as_step(lowered.functions["program"]), lowered.kept)
    place = caught.traceback[-1]
    assert str(place.path) == str(tmp_path / "program.py")
    assert AGENT.splitlines()[place.lineno] == "    {line}"


def test_the_text_names_the_lines(tmp_path):
    text = textwrap.dedent(Program(3).text)
    module = module_of(text, tmp_path)
    shown = lower([module.program]).text().splitlines()
    numbers = [int(line.rpartition("# line ")[2]) for line in shown if "# line " in line]
    assert len(numbers) > 20
    assert set(numbers) <= set(range(1, len(text.splitlines()) + 1))
    assert "u = 4" not in shown[0]


@pytest.mark.parametrize(("end", "behind", "columns"), [
    ("3", "", 2), ("m.size", "", 2),  # u and i; the end is the same at all times
    ("x.table[2]", "", 3), ("u", "", 3),  # the end too, as what it is made of may change
    ("3", "    yield op(compute=i)", 3),  # i is read behind the loop, so another number counts
    ("3", "        i += 0", 3),
])  # fmt: skip
def test_only_what_is_needed_behind_a_yield_is_kept(end, behind, columns, tmp_path):
    """u is, w is computed anew; of the loop its counter, and its end where that may change."""
    module = module_of(f"""
from archsim.hardware.agent import op
def program(a, m, x):
    u = m.size
    for i in range({end}):
        w = u + 1
        yield op(compute=w)
        w = 2
        u += w
{behind}
""", tmp_path)  # fmt: skip
    lowered = lower([module.program])
    assert lowered.kept == 1 + columns
    assert [int(row[operation.COMPUTE]) for row, _, _ in assert_same(module)][:3] == [4, 6, 8]


@pytest.mark.parametrize(("body", "computed"), [
    ("while True:\n    yield op()\n    break\nyield op(compute=u)", [0, 5, 0]),  # u is needed behind the break only
    ("t = 0\nwhile t < u:\n    t += 1\n    yield op()\n    continue", [0, 0, 0, 0, 0, 0]),  # by the head only
    ("while True:\n    yield op()\n    if m.size == 3:\n        u = 9\n        break\nyield op()\nyield op(compute=u)",
     [0, 0, 9, 0]),  # put away before the jump
    ("for i in range(3):\n    yield op(compute=i)\n    i = 7\nyield op(compute=i)", [0, 1, 2, 7, 0]),
    ("for i in range(3):\n    yield op(compute=i)\n    for i in range(2):\n        u += i", [0, 1, 2, 0]),
    ("for i in range(u if m.size else 2, 7):\n    yield op(compute=i)", [5, 6, 0]),
    ("i = 4\nfor i in range(0):\n    yield op(compute=i)\nyield op(compute=i)", [4, 0]),
    ("for i in range(2, 1):\n    yield op()\nfor w in range(u, u + 2):\n    yield op(compute=w)", [5, 6, 0]),
    ("if m.size == 4:\n    yield op(compute=1)\nelse:\n    u += 1\n    yield op(compute=u)\nyield op(compute=u)",
     [6, 6, 0]),
    ("while u > 3:\n    u -= 1\n    if u == 4:\n        yield op(compute=u)\n    elif u:\n        yield op(compute=8)",
     [4, 8, 0]),
    ("t = 0\nwhile t < 2:\n    t += 1\n    if t == 2:\n        yield op(compute=u)\n    else:\n        yield op()",
     [0, 5, 0]),  # only the next turn needs u
])  # fmt: skip
def test_by_hand(body, computed, tmp_path):
    text = "from archsim.hardware.agent import op\ndef program(a, m, x):\n    u = 5\n"
    module = module_of(text + textwrap.indent(body, "    ") + "\n", tmp_path)
    assert [int(row[operation.COMPUTE]) for row, _, _ in assert_same(module)] == computed


def test_requests_are_counted_from_zero_in_every_operation(tmp_path):
    module = module_of("""
from archsim.hardware.agent import op
def program(a, m, x):
    for i in range(3):
        while a.requests() < i:
            a.request(9, 1, 4, 0, 0, 0)
        yield op(compute=10 + a.requests())
""", tmp_path)  # fmt: skip
    found = [(int(row[operation.REQUESTS]), int(row[operation.COMPUTE])) for row, _, _ in assert_same(module)]
    assert found == [(0, 10), (1, 11), (2, 12), (0, 0)]


@pytest.mark.parametrize(("own", "behind", "columns"), [
    ("x.table[a.me]", "", 1), ("x.table[a.me]", "    own += 1", 2), ("x.table[0]", "", 2), ("a.me + 2", "", 2),
])  # fmt: skip
def test_a_view_is_looked_up_in_every_call(own, behind, columns, tmp_path):
    """An agent's own row needs no column of its state, unless the name is changed; a loop up to it none for its end."""
    module = module_of(f"""
from archsim.hardware.agent import op
def program(a, m, x):
    own = {own}
    for i in range(3):
        yield op(compute=own)
{behind}
""", tmp_path)  # fmt: skip
    assert lower([module.program]).kept == 1 + columns
    assert len(assert_same(module)) >= 3


def test_kinds_that_are_drawn_in_turns_are_numbered_by_kind():
    from archsim.hardware.diagram import Diagram

    def one(a):
        yield from ()

    def other(a):
        yield from ()

    diagram = Diagram()
    for function, count in ((one, 1), (other, 2), (one, 1), (other, 1)):
        diagram.agent(function, count)
    table = diagram.table((other, one)).tolist()
    assert table == [[1, 0], [0, 0], [0, 1], [1, 1], [0, 2]]
    coroutines = diagram.coroutines(0)
    assert [(function, me) for function, me in coroutines._kinds] == [((other, one)[kind], me) for kind, me in table]
