"""The architecture as a test: who may import whom (one-way streets), and where heavy libraries live."""

import ast
import inspect
import textwrap
from pathlib import Path
from types import FunctionType

import pytest

PACKAGE = Path(__file__).parent.parent / "archsim"
GROUND = {
    "_version",
    "arguments",
    "atomic",
    "cluster",
    "doors",
    "errors",
    "examples",
    "jit",
    "processes",
    "threads",
    "",
}

MAY_IMPORT = {
    "trace": {"trace"},
    "export": {"export", "trace"},
    "compress": {"compress"},
    "hardware": {"hardware", "compress"},
    "engine": {"engine", "hardware", "compress"},
    "dataflow": {"dataflow", "engine", "hardware", "compress", "trace"},
    "analog_network": {"analog_network", "dataflow", "hardware", "compress", "trace"},
    "accelerators": {"accelerators", "analog_network", "dataflow", "engine", "hardware", "compress", "trace"},
    "cost": {"cost", "hardware"},
    "report": {"report", "engine", "cost", "hardware"},
    "simulate": {"accelerators", "dataflow", "engine", "report", "cost", "hardware", "trace"},
    "sweeping": {"simulate", "hardware", "report", "cost", "trace"},
    "comparing": {"simulate", "dataflow", "report", "trace"},
    "adapting": {"simulate", "accelerators", "analog_network", "dataflow", "report", "hardware", "trace"},
    "cli": {
        "cli",
        *(
            "comparing",
            "adapting",
            "docs",
            "examples",
            "simulate",
            "sweeping",
            "accelerators",
            "dataflow",
            "engine",
            "report",
            "cost",
            "hardware",
            "trace",
            "export",
        ),
        "jit",
    },
    "docs": {"docs", "examples", "accelerators", "dataflow", "hardware", "report", "simulate"},
    "__main__": {"cli"},
    "__init__": {"adapting", "comparing", "simulate", "sweeping", "report", "trace", "hardware", "accelerators"},
    "arguments": set(),
    "doors": set(),
    "atomic": set(),
    "cluster": set(),
    "_version": set(),
    "errors": set(),
    "examples": set(),
    "processes": set(),
    "threads": set(),
    "jit": set(),
}
LIBRARY_HOMES = {
    "simpy": {"engine/reference.py"},
    "matplotlib": {"report/plots.py", "report/mesh_plots.py", "report/drawing.py"},
    "pandas": {
        "report/report.py",
        "report/plots.py",
        "report/mesh_plots.py",
        "report/drawing.py",
        "report/comparison.py",
        "sweeping.py",
    },
    "torch": {"export/torch_tensors.py", "export/torch_tracing.py"},
    "nir": set(),
    "h5py": {"export/hdf5.py"},
    "snntorch": set(),
    "spikingjelly": set(),
    "typer": {"cli"},
    "rich": {"report/progress.py", "report/terminal.py"},
    "distributed": {"cluster.py"},
    "jinja2": {"report/page.py"},
    "sphinx": {"docs/site.py"},
    "hatchling": {"docs/wheel_hook.py"},
}
FILES = sorted(PACKAGE.rglob("*.py"))


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            if node.module == "archsim":
                yield from (f"archsim.{alias.name}" for alias in node.names)
            else:
                yield node.module


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_streets(path):
    relative = path.relative_to(PACKAGE)
    room = relative.parts[0].removesuffix(".py")
    for module in imports(path):
        parts = module.split(".")
        if parts[0] == "archsim" and len(parts) > 1 and not parts[1].startswith("__"):
            assert parts[1] in MAY_IMPORT[room] | GROUND, f"{relative} imports {module}"
        homes = LIBRARY_HOMES.get(parts[0])
        if homes is not None:
            assert {room, str(relative)} & homes, f"{relative} imports {module}"


def test_every_room_is_visited():
    rooms = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in FILES}
    assert rooms == set(MAY_IMPORT)


def test_every_file_of_the_machines_is_a_machine():
    """Of its name: it is imported when the machine is asked for. Dataflows, networks and shared agents have rooms of
    their own."""
    from archsim.accelerators import registry

    machines = {name: (machine.__module__, machine.name) for name, machine in registry().items()}
    files = {path.stem for path in (PACKAGE / "accelerators").glob("*.py")} - {"__init__"}
    assert machines == {name: (f"archsim.accelerators.{name}", name) for name in files}


def test_no_file_imports_in_a_circle():
    """Neither within a room nor between rooms; what is imported for types only counts too.

    Doors (``__init__``) name what is behind them, so they do not count as what a file imports.
    """
    names = {".".join(("archsim", *path.relative_to(PACKAGE).with_suffix("").parts)): path for path in FILES}
    edges = {name: {module for module in files(path) if module in names} - {name} for name, path in names.items()}
    while free := [name for name, targets in edges.items() if not targets & edges.keys()]:
        for name in free:
            del edges[name]
    assert not edges, sorted(edges)


def files(path):
    """Modules that ``path`` imports, or imports from."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_engines_know_no_accelerator_and_no_unit():
    from archsim.accelerators import registry

    names = set(registry())
    assert names
    for path in (PACKAGE / "engine").glob("*.py"):
        text = path.read_text().lower()
        assert not [name for name in names if name in text], path


def test_the_door_opens_lightly():
    """Importing archsim loads nothing heavy; its public names exist."""
    import subprocess
    import sys

    program = "import sys, archsim; print(sorted({'numba', 'numpy', 'pandas', 'matplotlib'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout.strip() == "[]"

    import archsim

    assert all(getattr(archsim, name) for name in archsim.__all__)


# The limits within which a file, a machine and an agent can be read in one go. A machine or
# agents that are older than the limit, and longer, are listed with the reason and a length that they must keep to;
# nothing new is added.

FILE_LINES, VARIANT_LINES, DATAFLOW_LINES, AGENTS_LINES, AGENT_LINES = 650, 120, 350, 100, 60
LONG_MACHINES = {
    "loas": (248, "the first of its family: what it may do in other ways, for ablations, is its own"),
    "ptb": (190, "packs inputs into slots"),
    "systolic": (156, "three dataflows on one array"),
    "stellar": (241, "lays out filter rows, which no other array has"),
    "gospa_snn": (528, "a dataflow of its own, older than the limit"),
    "prosperity": (396, "a dataflow of its own, older than the limit"),
    "sata": (637, "inference and four stages of training"),
    "spinalflow": (527, "a dataflow of its own, older than the limit"),
    "spikesim": (277, "a chip of crossbar arrays"),
    "imc": (468, "a chip of crossbar arrays for three kinds of networks"),
}
LONG_AGENTS = {
    "Gustavson": (220, "reads heads first, then rests, of rows of B and of partial fibers, whole or through a merger"),
    "InnerProduct": (184, "passes and chunks, words read in four ways, fibers of B fetched ahead or on demand"),
    "GospaSnn": (148, "partial sums in banks of their own or in the cache, put away and brought back"),
    "CrossbarMachine": (156, "nine kinds: four of a tile, two of a module, hops, and what brings and stores rows"),
    "ArrayMachine": (148, "three dataflows: partial sums, also late ones, inputs one by one or all, sums by blocks"),
    "Sata": (132, "potentials in PEs, buffers or DRAM, masks, and stages of training"),
    "TtSnn": (132, "those of SATA"),
}


def lines_of(function):
    """Lines of a function that are code: without its docstring, comments and blank lines."""
    text = textwrap.dedent(inspect.getsource(function))
    (tree,) = ast.parse(text).body
    body = tree.body[1:] if ast.get_docstring(tree) else tree.body
    rows = {row for node in (tree.args, *body) for row in _rows_of(node)} | {1}
    return sum(bool(line.strip()) and not line.strip().startswith("#")
               for row, line in enumerate(text.splitlines(), 1) if row in rows)  # fmt: skip


def _rows_of(node):
    found = [inner for inner in ast.walk(node) if hasattr(inner, "lineno")]
    return range(min(n.lineno for n in found), max(n.end_lineno for n in found) + 1) if found else ()


def with_handle(function, homes):
    """The function and all that it gives its handle ``a`` to, as far as they are in the modules ``homes``."""
    found, waiting = [], [function]
    while waiting:
        one = waiting.pop()
        if one in found or one.__module__ not in homes:
            continue
        found.append(one)
        for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(one)))):
            if isinstance(node, ast.Call) and node.args and ast.unparse(node.args[0]) == "a":
                given = one.__globals__.get(ast.unparse(node.func))
                waiting += [given] if isinstance(given, FunctionType) else []
    return found


def families():
    """Classes whose agents are drawn, by name, with the functions of these agents.

    An agent is its own function and all functions of its own module that are given its handle. Shared parts
    (``archsim/dataflow/parts.py``) and kernels of units are no lines of a dataflow: they are written once.
    """
    from archsim.accelerators import registry

    found = {}
    for machine in registry().values():
        family = machine.family()
        homes = {agent.__module__ for agent in family.agents}
        found[family.__name__] = {one for agent in family.agents for one in with_handle(agent, homes)}
    return found


def test_no_file_is_too_long_to_read():
    lengths = {str(path.relative_to(PACKAGE)): len(path.read_text().splitlines()) for path in FILES}
    assert {name: length for name, length in lengths.items() if length > FILE_LINES} == {}


def test_a_variant_and_a_new_dataflow_fit_their_promise():
    """A machine that takes over another's agents is a variant; one that brings its own is a dataflow, in one file."""
    from archsim.accelerators import registry

    for name, machine in registry().items():
        path = PACKAGE / "accelerators" / f"{machine.__module__.rsplit('.', 1)[1]}.py"
        own = machine.family() is machine
        limit = LONG_MACHINES.get(name, (DATAFLOW_LINES if own else VARIANT_LINES,))[0]
        assert len(path.read_text().splitlines()) <= limit, name


def test_agents_are_loop_nests_that_can_be_read():
    found = families()
    assert len(found) >= 7
    for family, functions in found.items():
        for function in functions:
            assert lines_of(function) <= AGENT_LINES, f"{family}: {function.__name__}"
        total = sum(map(lines_of, functions))
        assert total <= LONG_AGENTS.get(family, (AGENTS_LINES,))[0], f"{family}: {total} lines of agents"


def test_what_is_longer_than_a_limit_still_exists():
    from archsim.accelerators import registry

    assert set(LONG_MACHINES) <= set(registry())
    assert set(LONG_AGENTS) <= set(families())


def test_no_agent_computes_with_the_numbers_of_ports():
    """A FIFO is named; where several were drawn at once, one number, or a remainder, is added to the first.

    What needs more has a name of its own in the diagram (``Fifo.reader``), or asks ``port_of``.
    """
    seen = 0
    for family, functions in families().items():
        for function in functions:
            tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
            above = {id(inner): node for node in ast.walk(tree) for inner in ast.iter_child_nodes(node)}
            for node in ast.walk(tree):
                if isinstance(node, ast.Attribute) and node.attr in ("port", "fifo"):
                    seen += 1
                    whole = above[id(node)] if _is_index(above[id(node)]) else node
                    assert not isinstance(above[id(whole)], ast.BinOp), f"{family}: {ast.unparse(above[id(whole)])}"
    assert seen > 60


def _is_index(node):
    """Whether a sum is the first FIFO of several and the number of one."""
    if not isinstance(node, ast.BinOp) or not isinstance(node.op, ast.Add) or not isinstance(node.left, ast.Attribute):
        return False
    number = isinstance(node.right, ast.Name | ast.Attribute)
    return number or (isinstance(node.right, ast.BinOp) and isinstance(node.right.op, ast.Mod))
