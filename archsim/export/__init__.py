"""From training tools to traces: SpikingJelly, snnTorch, plain PyTorch (``from_torch``) and NIR (``from_nir``).

A trained network is floating-point, a trace is integers. ``torch_tracing`` and ``nir_graph`` read a model into a float
``Network`` (``network``); ``quantisation`` turns that into integers, runs it on the same inputs, and returns an
``Exported`` that says how far the two are apart. Spikes in the trace are those of the integer network, so a machine
that computes the trace has 0 mismatches by construction.

The frameworks are optional and imported when used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from archsim.doors import door

if TYPE_CHECKING:
    from archsim.export.comparison import LayerError
    from archsim.export.converting import Converted, convert
    from archsim.export.neuron_rules import SpikingNeuron
    from archsim.export.nir_graph import from_nir
    from archsim.export.quantisation import Exported
    from archsim.export.torch_quantising import quantise
    from archsim.export.torch_running import QuantisedModel
    from archsim.export.torch_tracing import from_torch

__all__ = [
    "Converted", "Exported", "LayerError", "QuantisedModel", "SpikingNeuron", "convert", "from_nir", "from_torch",
    "quantise",
]  # fmt: skip

_HOMES = {
    "Converted": "converting",
    "Exported": "quantisation",
    "LayerError": "comparison",
    "QuantisedModel": "torch_running",
    "SpikingNeuron": "neuron_rules",
    "convert": "converting",
    "from_nir": "nir_graph",
    "from_torch": "torch_tracing",
    "quantise": "torch_quantising",
}
__getattr__, __dir__ = door(__name__, _HOMES)
