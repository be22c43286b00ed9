"""The architecture as a test: who may import whom (one-way streets), and where heavy libraries live."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "archsim"
GROUND = {"_version", "arguments", "atomic", "errors", "examples", "jit", "processes", ""}

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
    "sweeping": {"simulate", "hardware", "report", "cost"},
    "adapting": {"simulate", "accelerators", "analog_network", "dataflow", "report", "hardware", "trace"},
    "cli": {
        "cli",
        *(
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
    "__init__": {"adapting", "simulate", "sweeping", "report", "trace", "hardware", "accelerators"},
    "arguments": set(),
    "atomic": set(),
    "_version": set(),
    "errors": set(),
    "examples": set(),
    "processes": set(),
    "jit": set(),
}
LIBRARY_HOMES = {
    "simpy": {"engine/reference.py"},
    "matplotlib": {"report/plots.py", "report/drawing.py"},
    "pandas": {"report/report.py", "report/plots.py", "report/drawing.py", "sweeping.py"},
    "torch": {"export/torch_tensors.py", "export/torch_tracing.py"},
    "nir": set(),
    "h5py": {"export/hdf5.py"},
    "snntorch": set(),
    "spikingjelly": set(),
    "typer": {"cli"},
    "rich": {"cli", "report/terminal.py"},
    "distributed": {"sweeping.py"},
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
    """Dataflows, networks and shared agents have rooms of their own."""
    from archsim.accelerators import registry

    machines = {machine.__module__ for machine in registry().values()}
    files = {f"archsim.accelerators.{path.stem}" for path in (PACKAGE / "accelerators").glob("*.py")}
    assert files - {"archsim.accelerators.__init__"} == machines


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
