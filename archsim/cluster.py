"""Work on the workers of a Dask cluster: points of a sweep, layers of a run.

Workers read the same files as this machine, by the same paths, and have the same archsim; one that finds another ends
the work with an error. What a worker was doing when it died is done by another one.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from archsim._version import __version__
from archsim.errors import ArchsimError, UsageError

if TYPE_CHECKING:
    from archsim.dataflow.base import Accelerator, EngineName, Progress
    from archsim.engine.result import LayerResult
    from archsim.trace import Operation, Trace

Item = TypeVar("Item")
Result = TypeVar("Result")


class Lost(NamedTuple):
    """An item that killed every worker that tried it, or whose work failed in a way that no input explains."""

    why: str


def results(
    work: Callable[[Item], Result], items: Sequence[Item], address: str
) -> Generator[tuple[int, Result | Lost], None, None]:
    """Places of ``items`` with what ``work`` returns for them on a worker of the scheduler at ``address``, as they
    finish.

    An ArchsimError of ``work`` is raised here. Raises UsageError where Dask is not installed, no scheduler answers, or
    a worker has another archsim.
    """
    try:
        from distributed import Client, as_completed
    except ImportError as error:
        raise UsageError("--cluster needs Dask: pip install 'archsim[cluster]'") from error
    try:
        client = Client(address, timeout="10s")
    except (OSError, ValueError) as error:
        raise UsageError(f"--cluster {address}: no scheduler answers: {error}") from error
    with client:
        under_way = {
            client.submit(_on_worker, __version__, work, item, pure=False): place for place, item in enumerate(items)
        }
        for future in as_completed(under_way):
            lost = future.exception()
            if isinstance(lost, ArchsimError):
                raise lost
            yield under_way[future], future.result() if lost is None else Lost(str(lost))


def _on_worker(version: str, work: Callable[[Item], Result], item: Item) -> Result:
    if version != __version__:
        raise UsageError(f"--cluster: a worker has archsim {__version__}, this is {version}; install the same on both")
    return work(item)


class SharedRun(NamedTuple):
    """A run whose layers workers simulate: its files as the user named them, where they are, and their hashes."""

    hardware: str
    trace: str
    files: tuple[str, str]
    hashes: tuple[str, str]
    overrides: tuple[str, ...]
    engine: EngineName
    verify: bool


def shared_run(
    hardware: str | Path, trace: str | Path, loaded: Trace, overrides: Sequence[str], engine: EngineName, verify: bool
) -> SharedRun:
    """The run of the trace ``loaded`` from ``trace`` on the machine of the file ``hardware``."""
    from archsim.simulate import machine_sha256

    return SharedRun(
        str(hardware), str(trace), (_everywhere(hardware), _everywhere(trace)),
        (machine_sha256(hardware), loaded.sha256), tuple(overrides), engine, verify,
    )  # fmt: skip


def layers(
    run: SharedRun, accelerator: Accelerator, operations: Sequence[Operation], progress: Progress | None, address: str
) -> Iterator[LayerResult]:
    """Results of ``operations`` in their order, from the workers of the scheduler at ``address``.

    A layer is a piece of work of its own; on a machine that holds a whole network, all layers are one. UsageError for
    layers whose workers died.
    """
    names = [operation.name for operation in operations]
    pieces = [(name,) for name in names] if accelerator.layers_apart else [tuple(names)]
    found: dict[int, list[LayerResult]] = {}
    wanted = 0
    finished = results(functools.partial(_simulated, run), pieces, address)
    for done, (place, piece) in enumerate(finished, 1):
        if isinstance(piece, Lost):
            raise UsageError(f"--cluster {address}: {', '.join(pieces[place])}: its worker died: {piece.why}")
        found[place] = piece
        if progress:
            progress(pieces[place][-1], done, len(pieces))
        while wanted in found:
            yield from found.pop(wanted)
            wanted += 1


def _simulated(run: SharedRun, names: Sequence[str]) -> list[LayerResult]:
    """On a worker: the layers called ``names``."""
    accelerator, trace = _loaded(run.hardware, run.trace, run.files, run.hashes, run.overrides)
    chosen = [operation for operation in accelerator.layers(trace) if operation.name in names]
    return list(accelerator.run_layers(trace, chosen, run.engine, verify=run.verify, record=False))


@functools.lru_cache(maxsize=1)
def _loaded(
    hardware: str, trace: str, files: tuple[str, str], hashes: tuple[str, str], overrides: tuple[str, ...]
) -> tuple[Any, Trace]:
    """The machine, built for the trace, and what it sees of the trace; kept for the next layer of the same run."""
    from archsim.simulate import load_accelerator, machine_sha256
    from archsim.trace import load_trace

    loaded = load_trace(files[1])
    here = (machine_sha256(files[0]), loaded.sha256)
    other = [name for name, one, two in zip((hardware, trace), here, hashes, strict=True) if one != two]
    if other:
        raise UsageError([f"{name}: is another file on a worker than where the run began" for name in other])
    accelerator = load_accelerator(files[0], overrides)
    seen = accelerator.visible_trace(loaded)
    accelerator = accelerator.specialised_for(seen)
    return accelerator, accelerator.visible_trace(loaded)


def _everywhere(path: str | Path) -> str:
    """The path of a file, whatever folder a worker is in; the name of an example, which every archsim has."""
    return str(Path(path).resolve() if Path(path).exists() else path)
