"""Every column, key and event that archsim writes: its unit, the files that have it, and what it means.

The table feeds ``archsim columns``, the tooltips of report pages and the reference of the documentation. Cycles are of
the machine's base clock, ``clock_mhz``. A share is a number from 0 to 1. Words such as fiber, timestep and agent are in
the glossary of the documentation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

LAYERS, TRAFFIC, ENERGY, TIMESTEPS = "layers.csv", "traffic.csv", "energy.csv", "timesteps.csv"
AREA, UNITS = "area.csv", "units.csv"
CORES, LINKS = "cores.csv", "links.csv"
SUMMARY, TIMING = "summary.json", "timing.json"
EVENTS, LEFT_OUT = "summary.json: events", "summary.json: left_out"
EVIDENCE = "summary.json: evidence"
ESTIMATE, NEUROBENCH = "summary.json: estimate", "summary.json: neurobench"
COMPARISON, ADAPTATION, CORRECTIONS = "comparison.csv", "adaptation.csv", "corrections.csv"
SWEEP = "CSV of a sweep"
INFO, CHECK, EXPLAIN = "archsim trace info", "archsim trace check", "archsim explain"
SETTING = "PATH"
"""Stands for the columns of a sweep that are called like the settings they hold."""

_BY_LAYER = (LAYERS, TRAFFIC, ENERGY, TIMESTEPS, UNITS)
_OF_CORES = (CORES, LINKS)
_TOTALS = (SUMMARY, COMPARISON, SWEEP)
_EVENT = (LAYERS, EVENTS)


class Column(NamedTuple):
    """A name in files, its ``unit`` ("" for text), and its ``meaning`` in one sentence.

    ``files`` are result files, the parts of ``summary.json`` that hold rows of their own, and commands whose piped
    output is a table. A name that means different things in different files has several entries.
    """

    name: str
    unit: str
    files: tuple[str, ...]
    meaning: str


GROUPS: Mapping[str, tuple[Column, ...]] = {
    "What ran": (
        Column("accelerator", "", _TOTALS, "The type of the machine, such as loas."),
        Column("description", "", (SUMMARY,), "What the hardware file says of the machine in one line."),
        Column("fitted", "true or false", (SUMMARY, COMPARISON),
               "True if the machine's constants were chosen so that they reproduce published results."),
        Column("hardware", "", (SUMMARY, COMPARISON, SWEEP), "The hardware file as it was given."),
        Column("overrides", "", (SUMMARY, COMPARISON), "What --set changed of the hardware file."),
        Column("workload", "", _TOTALS, "The name of the network, from the trace."),
        Column("trace", "", _TOTALS, "The trace file as it was given."),
        Column("kind", "", (COMPARISON,), "What the trace says of its spikes: trained, recorded or synthetic."),
        Column("trace_sha256", "", (SUMMARY, COMPARISON, SWEEP), "The hash of the trace file."),
        Column("hardware_sha256", "", (SUMMARY, COMPARISON, SWEEP),
               "The hash of the hardware file, or of the hashes of it and of those that it extends."),
        Column("cost_table_sha256", "", (SUMMARY, COMPARISON, SWEEP),
               "The hash of the file of the cost table that the run uses."),
        Column("labels", "", (SUMMARY,), "What the trace says of its origin: data set, training, accuracy."),
        Column("evidence", "", (SUMMARY,), "What each kind of result rests on."),
        Column("engine", "", (SUMMARY,), "The engine that simulated: compiled or reference."),
        Column("archsim_version", "", (SUMMARY, COMPARISON, SWEEP), "The version of archsim that made the result."),
        Column("images", "count", (*_TOTALS, ADAPTATION),
               "Images that the totals are of; in adaptation.csv, images that accuracies are of."),
        Column("timesteps", "count", (SUMMARY, COMPARISON),
               "Timesteps of an image; the most that any layer has."),
        Column("layers", "count", _TOTALS, "Layers that were simulated."),
        Column("coverage", "share", _TOTALS,
               "Share of the network's synaptic operations that was simulated, at the timesteps that ran. Where a "
               "network has none, the share of its layers."),
        Column("left_out", "", _TOTALS,
               "Operations of the network that were not simulated, in its order; CSV files have their names alone."),
        Column("layer", "", (LEFT_OUT,), "The operation that was not simulated."),
        Column("reason", "", (LEFT_OUT,), "Why the operation was not simulated."),
        Column("share", "share", (LEFT_OUT,), "The operation's share of the network's synaptic operations."),
        Column("clock_mhz", "MHz", (SUMMARY, COMPARISON), "The machine's base clock."),
        Column("sram_size_kib", "KiB", _TOTALS,
               "Capacity of the machine's on-chip memories, without tags and registers."),
    ),
    "Layers": (
        Column("layer", "", (*_BY_LAYER, *_OF_CORES, CORRECTIONS, EXPLAIN), "The layer's name in the trace."),
        Column("op", "", (LAYERS,), "The kind of operation, as the trace format names it."),
        Column("m", "count", (LAYERS,),
               "Rows of the layer as a matrix product: output positions times images."),
        Column("n", "count", (LAYERS,), "Columns of the layer as a matrix product: output channels."),
        Column("k", "count", (LAYERS,), "Reduction length: products that one output adds up."),
        Column("timesteps", "count", (LAYERS,), "Timesteps of the layer."),
    ),
    "Time": (
        Column("cycles", "cycles", (LAYERS,), "Cycles from the layer's first to its last event, from a cold start."),
        Column("cycles", "cycles", _TOTALS,
               "Cycles of the run, for all images together: the sum over its layers, or from first to last event where "
               "layers overlap."),
        Column("compute_cycles", "cycles", (LAYERS, SUMMARY),
               "Cycles in which the busiest agent that computes (a PE, or an array as a whole) does so."),
        Column("stall_cycles", "cycles", (LAYERS, SUMMARY),
               "All other cycles: the busiest agent waits for memory or for slower agents."),
        Column("lower_bound_cycles", "cycles", (LAYERS,),
               "Cycles that no schedule can beat: work divided by PEs or compulsory bytes divided by bandwidth, "
               "whichever is more."),
        Column("latency_s", "s", (LAYERS, *_TOTALS), "Cycles divided by the clock, for all images together."),
        Column("images_per_s", "1/s", _TOTALS, "Images divided by latency."),
        Column("first_response_cycles", "cycles", (SUMMARY,),
               "Cycles until the read-out, the network's last layer, is known for the first timestep of the first "
               "image: in a pipeline, until that map is stored (with all timesteps if they are read together); layer "
               "by layer, until the read-out ends. Empty where it was not simulated."),
        Column("first_response_s", "s", _TOTALS, "First-response cycles divided by the clock."),
        Column("utilization", "share", (LAYERS, *_TOTALS),
               "Share of the cycles of all PEs that were built in which they work; in totals, weighted by cycles."),
        Column("engine_wall_s", "s", (TIMING,),
               "Seconds that the engine computed: the only number that differs between equal runs."),
    ),
    "Work": (
        Column("matches", "count", (LAYERS, SUMMARY),
               "Pairs of an input that is not zero in at least one timestep and a weight that is not zero, each "
               "counted once for all timesteps; the same on every machine."),
        Column("synaptic_operations", "count", (LAYERS, *_TOTALS),
               "Products of an input that is not zero and a weight that is not zero, timestep by timestep; the same "
               "on every machine."),
        Column("performed_operations", "count", (LAYERS, SUMMARY),
               "Synaptic operations as this machine performs them: more where it multiplies zeros, fewer where it "
               "reuses sums."),
    ),
    "Outputs": (
        Column("mismatches", "count", (LAYERS, *_TOTALS),
               "Outputs that differ from the trace's; empty if none was compared."),
        Column("verified", "true or false", _TOTALS,
               "True if every output that was compared equals the trace's; empty if none was compared."),
        Column("layers_verified", "count", (SUMMARY,), "Layers whose outputs were compared with the trace's."),
        Column("exact", "true or false", (SUMMARY,),
               "False if the machine may lose precision by design, so that outputs that differ are no error; absent "
               "otherwise."),
        Column("accuracy", "share", (*_TOTALS, ADAPTATION),
               "Share of images that this machine classifies as their labels say, over the trace's evaluation set or, "
               "without one, over the traced images."),
        Column("exact_accuracy", "share", (*_TOTALS, ADAPTATION), "The same share with exact arithmetic."),
        Column("agreement", "share", (SUMMARY,), "Share of images that get the same class as with exact arithmetic."),
        Column("evaluated_images", "count", (SUMMARY,), "Images of the evaluation set that accuracies are of."),
        Column("standard_error", "share", (ADAPTATION,),
               "Standard error of an accuracy a over n images: sqrt(a (1 - a) / n)."),
    ),
    "Energy and area": (
        Column("energy_pj", "pJ", (LAYERS, ENERGY, TIMESTEPS, *_TOTALS),
               "Counts times prices, leakage and DRAM included, for all images together."),
        Column("energy_per_image_pj", "pJ", _TOTALS, "Energy divided by images."),
        Column("pj_per_synaptic_operation", "pJ", _TOTALS,
               "Energy divided by synaptic operations; empty where there are none."),
        Column("tops", "TOPS", _TOTALS,
               "Operations of the simulated layers divided by latency, in 10^12 a second, as if nothing were skipped: "
               "every weight counts at every timestep, zeros included, with one operation (an addition) where inputs "
               "are spikes and two where they are integers. Empty in training."),
        Column("tops_per_w", "TOPS/W", _TOTALS, "The same operations divided by energy: operations per pJ."),
        Column("leakage_pj", "pJ", (SUMMARY,), "The part of the energy that is static: leakage power times latency."),
        Column("power_mw", "mW", (SUMMARY,), "Energy divided by latency, DRAM included."),
        Column("energy_by_unit_pj", "pJ", (SUMMARY,), "Energy of each part of the machine."),
        Column("energy_by_stage_pj", "pJ", (SUMMARY,), "Energy of each stage of a training step."),
        Column("energy_by_timestep_pj", "pJ", (SUMMARY,),
               "Energy of each timestep, and under none what belongs to no single one, such as weights and leakage."),
        Column("unit", "", (ENERGY, TIMESTEPS, AREA, UNITS), "The part of the machine, such as pe, cache or dram."),
        Column("action", "", (ENERGY, TIMESTEPS), "What the unit did; leakage is static energy."),
        Column("count", "count", (ENERGY, TIMESTEPS), "How often the unit did it; of leakage, cycles."),
        Column("timestep", "", (TIMESTEPS,), "The timestep, from 0; empty for what belongs to no single timestep."),
        Column("instances", "count", (AREA,), "How many equal units there are."),
        Column("area_mm2", "mm2", (AREA,),
               "Area of all instances together; 0 for what is off chip or contained in another row."),
        Column("area_mm2", "mm2", _TOTALS, "Area of the chip, without DRAM."),
        Column("source", "", (AREA,), "Where the figure of the area comes from."),
        Column("edap_j_s_mm2", "J s mm2", _TOTALS, "Energy times latency times area of the run."),
    ),
    "The estimate of papers": (
        Column("estimate_pj", "pJ", (LAYERS, INFO, *_TOTALS),
               "Energy as papers on spiking networks estimate it, of all images: accumulations (firing rate x "
               "timesteps x FLOPs) where a layer reads spikes, multiply-accumulates (FLOPs) where it reads integers, "
               "each times its price at 45 nm; the guide has the whole rule. In totals, of the simulated layers; empty "
               "in training."),
        Column("energy_over_estimate", "ratio", _TOTALS, "The simulated energy divided by the estimate."),
        Column("estimate", "", (SUMMARY,), "The estimate of the whole network, and what it is made of."),
        Column("accumulations", "count", (ESTIMATE,), "Accumulations of all images by the rule of the estimate."),
        Column("multiply_accumulates", "count", (ESTIMATE,),
               "Multiply-accumulates of all images by the rule of the estimate."),
        Column("energy_pj", "pJ", (ESTIMATE,), "The estimate of the whole network, for all images."),
        Column("technology_nm", "nm", (ESTIMATE,), "The technology of the prices."),
        Column("pj_per_accumulation", "pJ", (ESTIMATE,), "The price of an accumulation."),
        Column("pj_per_multiply_accumulate", "pJ", (ESTIMATE,), "The price of a multiply-accumulate."),
        Column("source", "", (ESTIMATE,), "Where the prices are from."),
    ),
    "NeuroBench": (
        Column("neurobench", "", (SUMMARY,),
               "The metrics of NeuroBench, of the whole network for one image, as its harness defines them."),
        Column("footprint_bytes", "bytes", (NEUROBENCH,),
               "Bytes of all parameters as the trace has them: weights by their bits, biases, thresholds and more."),
        Column("parameter_count", "count", (NEUROBENCH,), "Weights and biases."),
        Column("connection_sparsity", "share", (NEUROBENCH,), "Share of the weights that are zero."),
        Column("activation_sparsity", "share", (NEUROBENCH,),
               "Share of zeros among the outputs of all neurons at all timesteps, and of all ReLUs; empty where the "
               "trace does not store them."),
        Column("dense_operations", "count", (NEUROBENCH,),
               "Products of all layers at all timesteps, zeros included, those of the padding not."),
        Column("effective_acs", "count", (NEUROBENCH,), "Synaptic operations of layers that read spikes."),
        Column("effective_macs", "count", (NEUROBENCH,), "Synaptic operations of layers that read integers."),
        Column("membrane_updates", "count", (NEUROBENCH,),
               "Potentials, as they are compared with the threshold, that differ from those of the timestep before; at "
               "the first timestep all count. Empty without verification."),
    ),
    "Memory traffic": (
        Column("dram_read_bytes", "bytes", (LAYERS, *_TOTALS), "Bytes read from DRAM, in whole lines."),
        Column("dram_write_bytes", "bytes", (LAYERS, *_TOTALS), "Bytes written to DRAM, in whole lines."),
        Column("dram_bandwidth_gb_s", "GB/s", (SUMMARY,),
               "Bandwidth of DRAM that the machine's file declares, in 10^9 bytes/s; empty with ideal memory."),
        Column("dram_gb_s", "GB/s", (LAYERS, SUMMARY),
               "Bandwidth of DRAM that was reached: bytes read and written, divided by latency; empty with ideal "
               "memory."),
        Column("dram_utilization", "share", (LAYERS, SUMMARY),
               "Share of the declared bandwidth of DRAM that was reached; empty with ideal memory."),
        Column("bound_by", "", (LAYERS,),
               "What of DRAM bound the layer: bandwidth where nine tenths of it were reached; latency where they were "
               "not, computing stalled in more than half of the cycles, and the lines that were read, one after the "
               "other, take as long as it stalled; else empty."),
        Column("sram_read_bytes", "bytes", (LAYERS, *_TOTALS),
               "Useful bytes read at the banks of on-chip memory."),
        Column("sram_write_bytes", "bytes", (LAYERS, *_TOTALS),
               "Useful bytes written at the banks of on-chip memory, fills from DRAM included."),
        Column("level", "", (TRAFFIC,), "The memory: sram or dram."),
        Column("tensor", "", (TRAFFIC,),
               "What moves: input, weight, psum or output; with _format, what says where its values are."),
        Column("direction", "", (TRAFFIC,), "read or write."),
        Column("bytes", "bytes", (TRAFFIC,), "Bytes that move."),
        Column("accesses", "count", (TRAFFIC,), "Requests that a bank serves, or lines of DRAM."),
    ),
    "Units": (
        Column("instance", "", (UNITS,), "The number of the unit among equal ones, from 0."),
        Column("busy_cycles", "cycles", (UNITS,), "Cycles in which the unit computes."),
        Column("stall_cycles", "cycles", (UNITS,), "Cycles in which the unit waits for operands, memory or room."),
        Column("idle_cycles", "cycles", (UNITS,),
               "Cycles in which the unit waits at a barrier, has ended or has no work; busy, stall and idle add up to "
               "the cycles of the layer."),
    ),
    "Cores on a mesh": (
        Column("core", "", (CORES, EXPLAIN),
               "The number of the core, from 0: router by router, along the rows."),
        Column("row", "", (*_OF_CORES, EXPLAIN),
               "The row of the core's router, or of the router that the link leads to; from 0."),
        Column("column", "", (*_OF_CORES, EXPLAIN), "The column of that router, from 0."),
        Column("first_neuron", "", (CORES, EXPLAIN),
               "The first of the core's neurons, by its number in the layer, from 0."),
        Column("neurons", "count", (CORES, EXPLAIN), "Neurons of the layer that are on the core."),
        Column("messages", "count", (CORES, EXPLAIN), "Spikes that came to the core."),
        Column("operations", "count", (CORES, EXPLAIN), "Synaptic operations that the core performed."),
        Column("side", "", (LINKS,),
               "Where the link comes from: west, east, north or south; at the west end of a row from the host."),
        Column("messages", "count", (LINKS,), "Messages to cores of the layer that took the link."),
        Column("busiest_over_mean_core", "ratio", (SUMMARY,),
               "Synaptic operations of the busiest core divided by their mean over all cores in use; empty where there "
               "are none."),
        Column("busiest_over_mean_core_by_step", "ratio", (SUMMARY,),
               "The same step by step: operations of the core that is busiest in each step, added up, divided by that "
               "mean."),
        Column("hops_per_message", "ratio", (SUMMARY,), "Links between routers that a message took on average."),
        Column("busiest_over_mean_link", "ratio", (SUMMARY,),
               "Messages of the busiest link divided by their mean over all links that took any."),
    ),
    "Settings that tell results apart": (
        Column("sparsity", "", (*_BY_LAYER, AREA, *_TOTALS),
               "SATA: how it treats silent spikes, by gating or by skipping."),
        Column("stage", "", _BY_LAYER,
               "SATA in training: the stage, one of forward, potential_gradient, backward and update."),
        Column("noise", "", (LAYERS, TRAFFIC, ENERGY, UNITS, AREA, *_TOTALS, ADAPTATION),
               "Analog arrays: when noise is drawn, frozen, per_batch or per_read."),
        Column("noise_seed", "", (SUMMARY, ADAPTATION), "Analog arrays: the seed that noise is drawn with."),
        Column("device", "", (SUMMARY,), "Analog arrays: the kind of memory device."),
        Column("age_s", "s", (SUMMARY,), "Analog arrays: the age of the cells, over which they drift."),
        Column("adc_range", "", (SUMMARY,), "Analog arrays: what range the converters span."),
        Column("digital_gain", "", _TOTALS, "Analog arrays: what calibration corrects behind the converters."),
        Column("adaptation", "", (*_TOTALS, ADAPTATION, CORRECTIONS),
               "Analog arrays: how gain and offset behind them are found, none, statistics or fine_tuned."),
        Column("fitted_noc_rows", "count", (SUMMARY,),
               "Rows of the mesh that were built for the network, where noc.rows is fit."),
        Column("cell_writes_per_image", "count", (SUMMARY,), "Cells of arrays that an image writes."),
        Column("decision_ticks", "ticks", (SUMMARY,),
               "First spikes: the tick at which the first neuron of the last layer fires, the mean over images."),
        Column("spikes_before_decision", "ratio", (SUMMARY,),
               "First spikes: the share of the other layers' spikes that come before that tick."),
        Column("images_to_wear_out", "count", (SUMMARY,),
               "Images until the cell that is written most often is worn out; empty for never."),
    ),
    "Events": (
        Column("events", "count", (SUMMARY,), "Noteworthy things that happened, each with how often it did."),
        Column("hits", "count", _EVENT, "Requests whose line was in the cache."),
        Column("misses", "count", _EVENT, "Requests whose line was fetched from DRAM."),
        Column("merged_misses", "count", _EVENT, "Requests for a line that was already on its way."),
        Column("bank_wait_cycles", "cycles", _EVENT, "Cycles that requests waited for a bank or a switch, added up."),
        Column("dram_row_misses", "count", _EVENT, "Accesses that had to open a row of DRAM."),
        Column("output_is_upper_bound", "count", _EVENT,
               "Layers (0 or 1 of each) whose outputs are unknown, so that they are written as if dense."),
        Column("accumulator_overflows", "count", _EVENT, "Sums beyond the bits of the accumulator; sums stay exact."),
        Column("pseudo_accumulator_overflows", "count", _EVENT,
               "LoAS: pseudo-sums beyond the bits of the pseudo-accumulator."),
        Column("correction_accumulator_overflows", "count", _EVENT,
               "LoAS: corrections beyond the bits of their accumulators."),
        Column("psum_overflows", "count", _EVENT, "GoSPA: partial sums beyond their bits."),
        Column("membrane_overflows", "count", _EVENT, "Membrane potentials beyond the bits that store them."),
        Column("sum_overflows", "count", _EVENT, "Crossbar arrays: sums beyond a word of the network on chip."),
        Column("additions", "count", _EVENT, "LoAS without speculation: weights added for spikes."),
        Column("correction_additions", "count", _EVENT, "LoAS: weights taken back at timesteps without a spike."),
        Column("discarded_words", "count", _EVENT,
               "LoAS: matches whose packed word spikes at every timestep, so that nothing is taken back."),
        Column("few_spikes", "count", _EVENT, "Stellar: spikes that its few-spikes neurons would fire."),
        Column("spikes", "count", _EVENT, "Prosperity: input spikes."),
        Column("spikes_left", "count", _EVENT, "Prosperity: input spikes that no prefix covers."),
        Column("exact_match_rows", "count", _EVENT, "Prosperity: rows that equal an earlier row of their tile."),
        Column("partial_match_rows", "count", _EVENT,
               "Prosperity: rows that contain a row of fewer spikes in their tile."),
        Column("positions_larger_than_buffer", "count", _EVENT,
               "SpinalFlow, first spikes: output positions whose sorted spikes do not fit the spike buffer at once."),
        Column("potential_overflows", "count", _EVENT, "First spikes: potentials beyond their bits; they stay exact."),
        Column("scanned_ticks", "count", _EVENT,
               "First spikes: ticks that were looked at between two spikes, or as the last one."),
        Column("scan_products", "count", _EVENT, "First spikes: products that PEs made for scanned_ticks."),
        Column("gradients_non_zero", "count", _EVENT, "SATA in training: gradients of potentials that are not zero."),
        Column("gradients_are_upper_bound", "count", _EVENT,
               "SATA in training: layers (0 or 1 of each) whose gradient masks are not in the trace and are bounded "
               "from above."),
        Column("cores", "count", _EVENT, "Many-core chip: cores that the layer takes."),
        Column("messages", "count", _EVENT, "Many-core chip: spikes that came to the cores of the layer."),
        Column("hops", "count", _EVENT, "Many-core chip: links between routers that these messages took."),
        Column("busiest_core_operations", "count", _EVENT,
               "Many-core chip: synaptic operations of the core of the layer that performs most; layers added up."),
        Column("mean_core_operations", "count", _EVENT,
               "Many-core chip: synaptic operations of a core of the layer on average, rounded down; layers added up."),
        Column("busiest_core_step_operations", "count", _EVENT,
               "Many-core chip: synaptic operations of the core of the chip that performs most in a step, of the steps "
               "in which it is of the layer, added up."),
        Column("critical_synapse_cycles", "cycles", _EVENT,
               "Many-core chip: cycles that the synapses of a core worked that a step waited for, or, where cores run "
               "freely, that are on the critical path; all critical ones add up to the cycles of a run."),
        Column("critical_soma_cycles", "cycles", _EVENT,
               "Many-core chip: the same of a soma."),
        Column("critical_host_cycles", "cycles", _EVENT,
               "Many-core chip: the same of a port of the host; of the first layer."),
        Column("critical_network_cycles", "cycles", _EVENT,
               "Many-core chip: cycles that the one which a step waited for waited itself, for messages or for room in "
               "the mesh; where cores run freely without the work of those that send them."),
        Column("critical_barrier_cycles", "cycles", _EVENT,
               "Many-core chip: cycles of barriers, or of tokens where cores run freely."),
        Column("tiles", "count", _EVENT, "Crossbar arrays: tiles that the layer takes."),
        Column("pes", "count", _EVENT, "Crossbar arrays: PEs that the layer takes."),
        Column("programmed_cells", "count", _EVENT, "Crossbar arrays: cells that hold the layer's weights."),
    ),
    "Comparisons": (
        Column("machine", "", (COMPARISON,), "The name of the hardware file."),
        Column("speedup", "ratio", (COMPARISON,), "Latency of the first machine divided by this one's."),
        Column("energy_gain", "ratio", (COMPARISON,), "Energy of the first machine divided by this one's."),
        Column("energy_delay_pj_s", "pJ s", (COMPARISON, SWEEP), "Energy times latency."),
        Column("energy_delay_gain", "ratio", (COMPARISON,),
               "Energy times latency of the first machine divided by this one's."),
        Column("same_layers", "true or false", (COMPARISON,),
               "False if this machine simulated other layers than the first one, so that speedup and gains compare "
               "different parts of the network."),
        Column("dram_bytes", "bytes", (COMPARISON, SWEEP), "Bytes read from and written to DRAM."),
        Column("sram_bytes", "bytes", (COMPARISON, SWEEP), "Bytes read and written at the banks of on-chip memory."),
    ),
    "Sweeps": (
        Column("point", "", (SWEEP,), "The number of the point, from 0."),
        Column(SETTING, "", (SWEEP,),
               "The value of a setting; each path that --set gives has a column of that name, such as pe.count."),
        Column("pareto", "true or false", (SWEEP,),
               "True if no other point of the same trace is at least as good in all columns that --pareto names "
               "and better in one."),
        Column("error", "", (SWEEP,), "Why the point could not run; empty if it did."),
        Column("chosen_layers", "", (SWEEP,), "The only layers that were asked for; empty for all."),
        Column("verify", "true or false", (SWEEP,), "Whether outputs were to be compared with the trace's."),
    ),
    "Adaptation": (
        Column("calibration_images", "count", (SUMMARY, ADAPTATION), "Images that corrections are found with."),
        Column("channel", "", (CORRECTIONS,), "The output channel of the layer, from 0."),
        Column("gain", "", (CORRECTIONS,), "What the channel's sum on the arrays is multiplied by."),
        Column("offset", "", (CORRECTIONS,), "What is added to the product of sum and gain, before the bias."),
    ),
    "Traces": (
        Column("fact", "", (INFO,), "What is told of the trace as a whole."),
        Column("value", "", (INFO,), "Its value."),
        Column("layer", "", (INFO, CHECK), "The operation's name in the trace."),
        Column("op", "", (INFO,), "The kind of operation."),
        Column("m", "count", (INFO,),
               "Rows of the operation, or of a pass of training, as a matrix product: output positions times images; "
               "of a backward-weight pass, elements of a kernel."),
        Column("n", "count", (INFO,),
               "Columns of the operation or pass as a matrix product: output channels; of a backward-data pass, input "
               "channels."),
        Column("k", "count", (INFO,), "Reduction length: products that one output adds up in a timestep."),
        Column("pass", "", (INFO,),
               "Of a sub-convolution of a tensor train: forward, backward-data (gradients of inputs) or "
               "backward-weight (gradients of weights)."),
        Column("timesteps", "count", (INFO,), "Timesteps at which the pass is computed."),
        Column("macs", "count", (INFO,), "Multiply-accumulate operations of the pass: m n k timesteps."),
        Column("rows", "", (INFO,), "What the pass has as rows: its kind, and the tensor, or operation of a gradient."),
        Column("columns", "", (INFO,), "What it has as columns, in the same words; weights are of an operation."),
        Column("spike_density", "share", (INFO,),
               "Share of ones among the input spikes, each counted as often as the layer reads it."),
        Column("silent_ratio", "share", (INFO,), "Share of inputs without a spike in any timestep."),
        Column("fire_once_ratio", "share", (INFO,), "Share of inputs with exactly one spike."),
        Column("weight_density", "share", (INFO,), "Share of weights that are not zero."),
        Column("input_density", "share", (INFO,), "Share of stored input values that are not zero."),
        Column("operand", "", (INFO,), "The kind of the inputs: spike, signed_spike, spike_time or int."),
        Column("operand_bits", "bits", (INFO,), "Bits of an input."),
        Column("inputs", "", (INFO,), "Shapes of the inputs."),
        Column("output", "", (INFO,), "Shape of the output."),
        Column("gradient_density", "share", (INFO,),
               "Share of potentials, over all timesteps, whose gradient is not zero; of traces of training alone."),
        Column("outputs", "count", (CHECK,), "Stored outputs that were computed again."),
        Column("mismatches", "count", (CHECK,), "Stored outputs that do not follow from the stored inputs."),
        Column("note", "", (CHECK,), "Why nothing was compared."),
    ),
    "Machines": (
        Column("path", "", (EXPLAIN,), "The setting, as --set takes it."),
        Column("value", "", (EXPLAIN,), "The setting's value."),
        Column("given", "", (EXPLAIN,), "Where the value is given: in a file, by an override, or by default."),
        Column("evidence", "", (EXPLAIN,),
               "How far to trust the value: rtl, silicon, paper, inferred or assumed; the guide has a page on them."),
        Column("meaning", "", (EXPLAIN,), "What the setting means."),
        Column("source", "", (EXPLAIN,), "Where the value, the area or the price comes from."),
        Column("unit", "", (EXPLAIN,), "The part of the machine."),
        Column("instances", "count", (EXPLAIN,), "How many equal units there are."),
        Column("area_mm2", "mm2", (EXPLAIN,),
               "Area of all instances together; 0 for what is off chip or contained in another row."),
        Column("action", "", (EXPLAIN,), "What the unit can do."),
        Column("price", "", (EXPLAIN,), "What one such action costs, in the unit of price."),
        Column("unit of price", "", (EXPLAIN,), "The unit that the price is given in."),
        Column("confidence", "", (EXPLAIN,), "How far the price can be trusted."),
        Column("result", "", (EXPLAIN, EVIDENCE), "A kind of result: cycles, traffic, energy or area."),
        Column("grade", "", (EXPLAIN, EVIDENCE), "The weakest evidence that the result rests on."),
        Column("rests_on", "", (EXPLAIN, EVIDENCE), "How much of what the result rests on has which evidence."),
    ),
}  # fmt: skip
"""All columns by what they tell of."""


def columns() -> tuple[Column, ...]:
    """All columns, group after group."""
    return tuple(column for group in GROUPS.values() for column in group)


def meaning(name: str, file: str) -> str:
    """What the column ``name`` of ``file`` means, with its unit; nothing if it is a setting of the user's."""
    for column in columns():
        if column.name == name and file in column.files:
            return f"{column.meaning} Unit: {column.unit}." if column.unit else column.meaning
    return ""


_RESULTS = {
    "area": r"area_mm2|edap_.*",
    "energy": r"(?!estimate)(.*_)?pj(_per_.*)?|power_mw|tops_per_w|edap_.*",
    "traffic": r"(dram|sram)_((read|write)_)?bytes|bytes|accesses",
    "cycles": r"(.*_)?cycles|latency_s|first_response_s|images_per_s|utilization|tops",
}


def results_in(name: str) -> list[str]:
    """The kinds of results (:mod:`archsim.report.evidence`) that the numbers of the column ``name`` are."""
    return [result for result, names in _RESULTS.items() if re.fullmatch(names, name)]


def markdown() -> str:
    """The whole table as Markdown: a heading and a table for each group."""
    parts = []
    for title, group in GROUPS.items():
        lines = [f"## {title}", "", "| name | unit | in | meaning |", "| --- | --- | --- | --- |"]
        lines += [
            f"| `{one.name}` | {one.unit} | {', '.join(map(_code, one.files))} | {one.meaning} |" for one in group
        ]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _code(file: str) -> str:
    """A file's name, or a command, in the font of code; words in that of text."""
    return file if file == SWEEP else f"`{file}`"
