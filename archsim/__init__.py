"""archsim: a cycle-level architectural simulator for neuromorphic accelerators.

The public names, imported when first used:

* :func:`run` simulates a trace on a machine and returns a :class:`Report`;
* :func:`compare` does so for several machines, and returns a :class:`Comparison`;
* :func:`sweep` does so for many settings, in parallel, and returns a table;
* :func:`adapt` says what batch-norm adaptation gives back of the accuracy that analog arrays cost;
* :func:`load_accelerator` and :func:`load_trace` read what it runs;
* :class:`ArchsimError` is whatever is wrong with the input.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from archsim._version import __version__
from archsim.doors import door
from archsim.errors import ArchsimError

if TYPE_CHECKING:
    from archsim.adapting import adapt
    from archsim.comparing import compare
    from archsim.report.comparison import Comparison
    from archsim.report.report import Report
    from archsim.simulate import load_accelerator, run
    from archsim.sweeping import sweep
    from archsim.trace import load_trace

__all__ = [
    "ArchsimError",
    "Comparison",
    "Report",
    "__version__",
    "adapt",
    "compare",
    "load_accelerator",
    "load_trace",
    "run",
    "sweep",
]

_HOMES = {
    "Comparison": "report.comparison",
    "Report": "report.report",
    "adapt": "adapting",
    "compare": "comparing",
    "load_accelerator": "simulate",
    "load_trace": "trace",
    "run": "simulate",
    "sweep": "sweeping",
}
__getattr__, __dir__ = door(__name__, _HOMES)
