"""Gamma (Zhang et al., ASPLOS 2021): row-wise product of sparse activations and sparse weights of an ANN.

A row of the output is a combination of the rows of B that the activations of a row of A select, each multiplied by its
activation as it leaves the merger. The agents are those of :mod:`archsim.dataflow.gustavson` with one timestep, as
LoAS (MICRO 2024, Fig. 18) sizes it: 16 PEs and LoAS's memory system, not the 32 PEs and 3 MB of the original.
Activation functions and requantisation take no time of their own: an output unit passes a sum on in ``neuron.cycles``.

Sources are in ``hwconfigs/gamma.yaml``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

from pydantic import Field

from archsim.dataflow.base import MachineConfig, Timesteps
from archsim.dataflow.gustavson import Gustavson, GustavsonConfig
from archsim.dataflow.layer import Layer
from archsim.hardware.inventory import Component


class GammaConfig(GustavsonConfig):
    """A Gamma machine."""

    accelerator: Literal["gamma"] = Field(description="which machine this file describes")
    timesteps: Timesteps = Field(description="most timesteps that the machine is built for")


class Gamma(Gustavson):
    """Gamma (ASPLOS 2021), for 8-bit ANNs: Gustavson's dataflow, mergers, FiberCache."""

    name: ClassVar[str] = "gamma"
    operand: ClassVar[Literal["spike", "int"]] = "int"
    Config: ClassVar[type[MachineConfig]] = GammaConfig
    neuron_name: ClassVar[str] = "output_unit"
    neuron_update: ClassVar[tuple[str, str]] = ("pe", "add")
    config: GammaConfig

    def inventory(self) -> Sequence[Component]:
        """PEs and LoAS's memories, switches and wires."""
        return (*self.pe_components(), *self.other_components())

    def more_actions(
        self, layer: Layer, done: Mapping[tuple[str, str] | str, int], events: Mapping[str, int]
    ) -> dict[tuple[str, str], int]:
        """Every weight that is merged is multiplied; every entry is added."""
        return {**super().more_actions(layer, done, events), ("pe", "multiply"): done["matches"]}
