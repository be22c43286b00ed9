"""archsim: a cycle-accurate architectural simulator for neuromorphic accelerators.

The public names, imported when first used:

* :func:`run` simulates a trace on a machine and returns a :class:`Report`;
* :func:`sweep` does so for many settings, in parallel, and returns a table;
* :func:`adapt` says what batch-norm adaptation gives back of the accuracy that analog arrays cost;
* :func:`load_accelerator` and :func:`load_trace` read what it runs;
* :class:`ArchsimError` is whatever is wrong with the input.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from archsim._version import __version__
from archsim.errors import ArchsimError

if TYPE_CHECKING:
    from archsim.adapting import adapt
    from archsim.report.report import Report
    from archsim.simulate import load_accelerator, run
    from archsim.sweeping import sweep
    from archsim.trace import load_trace

__all__ = ["ArchsimError", "Report", "__version__", "adapt", "load_accelerator", "load_trace", "run", "sweep"]

_HOMES = {
    "Report": "archsim.report.report",
    "adapt": "archsim.adapting",
    "load_accelerator": "archsim.simulate",
    "load_trace": "archsim.trace",
    "run": "archsim.simulate",
    "sweep": "archsim.sweeping",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
