"""What ran: the trace of a network, its file format, statistics, synthetic traces and importers.

The format is specified in ``workloads/README.md``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from archsim.doors import door

if TYPE_CHECKING:
    from archsim.trace.density import LayerStatistics, statistics, total
    from archsim.trace.model import ImageSet, Trace
    from archsim.trace.neurons import Neuron
    from archsim.trace.operation import Operation, Requantiser
    from archsim.trace.presets import PRESETS, ActivationLayer, SyntheticLayer, activation_product, matrix_product
    from archsim.trace.reading import load_trace
    from archsim.trace.recorded import import_spikes
    from archsim.trace.resimulation import Check, check_trace, resimulate
    from archsim.trace.synthetic import synthesize
    from archsim.trace.writing import save_trace

__all__ = [
    "PRESETS",
    "ActivationLayer",
    "Check",
    "ImageSet",
    "LayerStatistics",
    "Neuron",
    "Operation",
    "Requantiser",
    "SyntheticLayer",
    "Trace",
    "activation_product",
    "check_trace",
    "import_spikes",
    "load_trace",
    "matrix_product",
    "resimulate",
    "save_trace",
    "statistics",
    "synthesize",
    "total",
]

_HOMES = {
    "PRESETS": "presets",
    "ActivationLayer": "presets",
    "Check": "resimulation",
    "ImageSet": "model",
    "LayerStatistics": "density",
    "Neuron": "neurons",
    "Operation": "operation",
    "Requantiser": "operation",
    "SyntheticLayer": "presets",
    "Trace": "model",
    "activation_product": "presets",
    "check_trace": "resimulation",
    "import_spikes": "recorded",
    "load_trace": "reading",
    "matrix_product": "presets",
    "resimulate": "resimulation",
    "save_trace": "writing",
    "statistics": "density",
    "synthesize": "synthetic",
    "total": "density",
}
__getattr__, __dir__ = door(__name__, _HOMES)
