"""Gamma-SNN: Gamma's row-wise product (Zhang et al., ASPLOS 2021) on spikes, timesteps one after the other.

As LoAS (MICRO 2024, section V) builds it for comparison: sixteen PEs without multipliers, each with a merger,
LoAS's memory system as FiberCache, order m, k, t, n. A row of A is a list of spikes for each timestep, so a task is a
row and timestep, and there are T rows of sums for each row of the output. The agents are those of
:mod:`archsim.dataflow.gustavson`; a neuron unit fires one timestep of a neuron in ``neuron.cycles``.

Hand-traced example (M = N = 1, T = 1, K = 2, both weights and both inputs set, memory.ideal, overhead 1, R = 64, no
prefetch): at 0 the scheduler takes a credit and hands the task out, done at 1; it is granted to the fetch stage at 1,
which begins at 2; A is read until 3, the table until 4, both rows until 5. The merger takes 2 + 2 + 6 cycles, to 15,
the neuron unit fires in 1, to 16, and writes until 17: the layer ends in cycle 17.

Sources are in ``hwconfigs/gamma_snn.yaml``; deviations in DEVIATIONS.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

from pydantic import Field

from archsim.dataflow.base import MachineConfig
from archsim.dataflow.gustavson import Gustavson, GustavsonConfig
from archsim.dataflow.layer import Layer
from archsim.hardware.inventory import Component


class GammaSnnConfig(GustavsonConfig):
    """A Gamma-SNN machine."""

    accelerator: Literal["gamma_snn"] = Field(description="which machine this file describes")


class GammaSnn(Gustavson):
    """Gamma-SNN (as in LoAS, MICRO 2024): Gustavson's dataflow, timestep after timestep, one coordinate per spike."""

    name: ClassVar[str] = "gamma_snn"
    Config: ClassVar[type[MachineConfig]] = GammaSnnConfig
    neuron_name: ClassVar[str] = "lif"
    config: GammaSnnConfig

    def inventory(self) -> Sequence[Component]:
        """PEs, neuron units, and LoAS's memories, switches and wires."""
        neurons = Component("lif", "logic", self.config.pe.count, {"block": "lif"})
        return (*self.pe_components(), neurons, *self.other_components())

    def more_actions(
        self, layer: Layer, done: Mapping[tuple[str, str] | str, int], events: Mapping[str, int]
    ) -> dict[tuple[str, str], int]:
        """Every entry that is merged is added."""
        fires = layer.fires
        return {**super().more_actions(layer, done, events), ("lif", "update"): done["updates"] if fires else 0}
