"""A real Dask scheduler with workers in processes of their own."""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent


class Cluster(NamedTuple):
    """Its address, and the processes of its workers."""

    address: str
    workers: list[subprocess.Popen]


@contextlib.contextmanager
def two_workers(folder: Path) -> Iterator[Cluster]:
    """A scheduler and two workers with one thread each, which work in ``folder``, until the block ends."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "DASK_DISTRIBUTED__WORKER__DAEMON": "False"}

    def launch(what, *arguments):
        module = [sys.executable, "-W", "ignore", "-m", f"distributed.cli.dask_{what}", *arguments]
        return subprocess.Popen(module, env=environment, cwd=folder, stderr=subprocess.DEVNULL)

    file = folder / "scheduler.json"
    options = ("--no-dashboard", "--scheduler-file", str(file))
    scheduler, workers = launch("scheduler", "--host", "127.0.0.1", "--port", "0", *options), []
    try:
        while not file.exists():
            time.sleep(0.05)
        worker = ("--scheduler-file", str(file), "--nthreads", "1", "--no-dashboard", "--no-nanny")
        workers += [launch("worker", *worker) for _ in range(2)]
        yield Cluster(json.loads(file.read_text())["address"], workers)
    finally:
        for process in (scheduler, *workers):
            process.kill()
            process.wait()
