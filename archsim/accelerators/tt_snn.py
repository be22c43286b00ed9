"""TT-SNN's training machine (Li, Kim, Lee, Panda; DATE 2024): SATA's units as four clusters, a sub-convolution each.

All PEs together are the array of :mod:`archsim.accelerators.sata`, on which ordinary layers run all stages of their
training. Its rows come in four clusters. A convolution that the trace holds as its sub-convolutions (tensor train,
``archsim.trace.tensor_train``) runs on them as a pipeline, c1 to c4 forward and c4 to c1 backward, c2 and c3 side by
side with an adder behind where they are parallel: :mod:`archsim.dataflow.cluster_pipeline` says how, and
:mod:`archsim.dataflow.cluster_stages` what each stage moves. So a layer and its twin without decomposition have the
same PEs and the same buffers.

The body of the paper was not read: what is known of its hardware is that it has four clusters and takes SATA's training
as its base; all sizes are assumed. Sources are in ``hwconfigs/tt_snn_training.yaml``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from archsim.accelerators.sata import Sata, SataConfig
from archsim.dataflow.base import EngineName, HardwareConfig
from archsim.dataflow.cluster_pipeline import ClusterPipeline, StageWork
from archsim.dataflow.cluster_stages import Clusters, room_of, stage_works
from archsim.dataflow.decomposed import CLUSTERS, Array
from archsim.dataflow.training import Stage
from archsim.engine.recording import Window
from archsim.engine.result import LayerResult
from archsim.hardware.inventory import Component
from archsim.hardware.loading import Block, CrossFieldError
from archsim.trace import Operation, Trace
from archsim.trace.tensor_train import Decomposed, decomposed_at


class ClustersConfig(Block):
    """What is between the clusters."""

    link_kib: int = Field(ge=1, le=4096, description="buffer behind each cluster and behind the adder, in KiB")
    adder_lanes: int = Field(ge=1, le=1024, description="values that the adder stage adds in a cycle")


class TtSnnConfig(SataConfig):
    """A machine of four clusters."""

    accelerator: Literal["tt_snn"] = Field(  # type: ignore[assignment]
        description="which machine this file describes"
    )
    clusters: ClustersConfig = Field(description="four clusters, each with a quarter of the rows")

    @model_validator(mode="after")
    def _rows_are_shared_out(self) -> Self:
        if self.pe.rows % CLUSTERS:
            raise CrossFieldError({"pe.rows": f"must be a multiple of {CLUSTERS}, the number of clusters"})
        return self


class TtSnn(Sata):
    """TT-SNN (DATE 2024): SATA's training on four clusters, one for each sub-convolution of a tensor train."""

    name: ClassVar[str] = "tt_snn"
    Config: ClassVar[type[HardwareConfig]] = TtSnnConfig
    config: TtSnnConfig
    agents = Sata.agents  # which see this configuration

    @property
    def clusters(self) -> Clusters:
        """The clusters as the stages of a decomposed convolution see them."""
        pe, training, buffers = self.config.pe, self.config.training, self.config.memory.buffers
        steps = self.most_timesteps
        return Clusters(
            array=Array(pe.rows // CLUSTERS, pe.columns, self.skips),
            span_of_sums=pe.span(steps, pe.accumulator_bits),
            span=pe.span(steps, training.sum_bits, training.gradient_bits),
            weight_bits=pe.weight_bits,
            value_bits=training.gradient_bits,
            sum_bits=pe.accumulator_bits,
            membrane_bits=self.config.membrane.bits,
            neuron_cycles=self.neuron_cycles,
            adder_lanes=self.config.clusters.adder_lanes,
            link_bytes=1024 * self.config.clusters.link_kib,
            held_bytes=buffers.usable_bytes("potential") // CLUSTERS,
            width_bits=buffers.width_bits,
        )

    def decomposed(self, trace: Trace, operations: Sequence[Operation]) -> list[Decomposed]:
        """The convolutions that the clusters run, of those that begin with one of the ``operations``."""
        found = (decomposed_at(trace, operation) for operation in operations if self.trains)
        return [one for one in found if one is not None]

    def cluster_work(self, trace: Trace, operation: Operation, verify: bool) -> Iterator[StageWork | Stage]:
        """The stages of the decomposed convolution that begins with ``operation``."""
        (one,) = self.decomposed(trace, [operation])
        return stage_works(self.clusters, trace, one, verify)

    def inventory(self) -> Sequence[Component]:
        """SATA's, links and the adder stage; an adder is priced as SATA's adder and register, with their AND."""
        buffers, pe, training = self.config.memory.buffers, self.config.pe, self.config.training
        link: dict[str, int | float | str] = {
            "capacity_bytes": 1024 * self.config.clusters.link_kib, "width_bits": buffers.width_bits, "ports": "1r1w",
            "access_cycles": buffers.access_cycles,
        }  # fmt: skip
        adder: dict[str, int | float | str] = {
            "block": "sata_pe", "weight_bits": training.gradient_bits, "sum_bits": pe.accumulator_bits
        }  # fmt: skip
        return (
            *super().inventory(),
            Component("link_buffer", "sram", CLUSTERS + 1, link),
            Component("adder", "logic", self.config.clusters.adder_lanes, adder),
        )

    def unsupported(self, trace: Trace) -> Sequence[str]:
        """Also convolutions whose strips do not fit a link."""
        rooms = (room_of(self.clusters, one, trace.timesteps) for one in self.decomposed(trace, trace.operations))
        return [*super().unsupported(trace), *(problem for _, problem in rooms if problem)]

    def fused(self, trace: Trace, layers: Sequence[Operation]) -> set[str]:
        """Also all that is part of a decomposed convolution."""
        found = self.decomposed(trace, layers)
        return super().fused(trace, layers) | {part.name for one in found for part in one.members}

    def run_operation(
        self, trace: Trace, operation: Operation, engine: EngineName, *, verify: bool, record: Window
    ) -> Iterator[LayerResult]:
        """A decomposed convolution on the clusters, everything else on the array."""
        if not self.decomposed(trace, [operation]):
            yield from super().run_operation(trace, operation, engine, verify=verify, record=record)
            return
        begin = 0
        for work in self.cluster_work(trace, operation, verify):
            window = record.later(begin)
            if isinstance(work, Stage):
                result = self.run_layer(work, engine, verify=verify, record=window)
            else:
                result = ClusterPipeline(self).run_work(work, engine, window)
            begin += result.cycles
            yield result
