"""The many-core chip, stepped cycle by cycle by plain Python: a slow twin of its agents, its mesh and its arbitration.

It is given spikes, weights, and which neurons are in which core; nothing else of the package is used.
"""

from collections import deque
from itertools import count, pairwise

AWAY = {"west": (0, -1), "east": (0, 1), "north": (-1, 0), "south": (1, 0)}
FACING = {"west": "east", "east": "west", "north": "south", "south": "north"}


class Sender:
    """A soma or a host port: a list of jobs in each step, (cycles, message or None)."""

    def __init__(self, jobs, buffer):
        self.jobs, self.buffer, self.ready = deque(jobs), buffer, None


class Input:
    """An input of a router."""

    def __init__(self, place, buffer):
        self.place, self.buffer, self.message, self.ready = place, buffer, None, None


def cycles_of(config, layers, spikes, steps):
    """Cycles of all ``steps``.

    ``layers`` are (sources, weight bool [N, K], ends, cores, cycles of a synapse, depth) with sources the numbers of
    the K neurons that are read; inputs are (None, size, depth 0). Neurons are numbered in the order of the layers.
    ``spikes`` [layers][sequence] lists of neurons of the layer.
    """
    noc, neuron = config.noc, config.neuron
    first, sizes = [], []
    for layer in layers:
        first.append(sum(sizes))
        sizes.append(layer[1] if layer[0] is None else len(layer[1]))
    targets = {}
    for sources, weight, ends, cores, time, _depth in (layer for layer in layers if layer[0] is not None):
        for place, source in enumerate(sources):
            for begin, end, core in zip(ends[:-1], ends[1:], cores, strict=True):
                synapses = sum(bool(weight[n][place]) for n in range(begin, end))
                if synapses:
                    work = config.synapse.message_cycles + synapses * time
                    targets.setdefault(source, []).append((core, work))
    inputs, number = {}, 0
    links = {(r, c, side): deque() for r in range(noc.rows) for c in range(noc.columns) for side in AWAY}
    injected = {core: deque() for core in range(config.pe.count)}
    queues = {core: deque() for core in range(config.pe.count)}
    for r in range(noc.rows):
        for c in range(noc.columns):
            for side in AWAY:
                inputs[number], number = Input((r, c), links[r, c, side]), number + 1
            node = r * noc.columns + c
            for core in range(node * noc.cores, (node + 1) * noc.cores):
                inputs[number], number = Input((r, c), injected[core]), number + 1
    per_neuron = neuron.access_cycles + neuron.cycles + neuron.axon_cycles * config.pe.axons
    now, waiting, granted = 0, [], []
    for step in range(steps):
        senders, expected, busy = [], dict.fromkeys(queues, 0), dict.fromkeys(queues, None)
        for which, layer in enumerate(layers):
            place = step - (0 if layer[0] is None else layer[5])
            fired = spikes[which][place] if 0 <= place < len(spikes[which]) else []
            if layer[0] is None:
                ports = config.host.ports
                parts = [(p, layer[1] * p // ports, layer[1] * (p + 1) // ports) for p in range(ports)]
                homes = [(links[p, 0, "west"], begin, end) for p, begin, end in parts]
            else:
                homes = [(injected[core], *part) for core, part in zip(layer[3], pairwise(layer[2]), strict=True)]
            for buffer, begin, end in homes:
                jobs, passed = [], begin
                for one in (one for one in fired if begin <= one < end):
                    if layer[0] is not None:
                        jobs.append(((one + 1 - passed) * per_neuron + neuron.spike_cycles, None))
                    passed = one + 1
                    for message in targets.get(first[which] + one, []):
                        expected[message[0]] += 1
                        each = config.host.message_cycles if layer[0] is None else neuron.message_cycles
                        jobs.append((each, message))
                if layer[0] is not None:
                    jobs.append(((end - passed) * per_neuron, None))
                senders.append(Sender(jobs, buffer))
        for now in count(now):  # noqa: B020
            for one, message, buffer in granted:
                buffer.append(message)
                if isinstance(one, Input):
                    one.message = None
                else:
                    one.jobs.popleft()
                    one.ready = None
            granted = []
            moved = True
            while moved:
                moved = False
                for core, queue in queues.items():
                    if busy[core] is not None and busy[core] <= now:
                        busy[core], moved = None, True
                    if busy[core] is None and queue:
                        busy[core], moved = now + queue.popleft()[1], True
                        expected[core] -= 1
                for number, one in inputs.items():
                    if one.message is None and one.buffer:
                        one.message, moved = one.buffer.popleft(), True
                        way, cycles = onward(one, noc)
                        one.ready = now + cycles - 1
                        one.target = links[way] if way else queues[one.message[0]]
                    if one.message is not None and one.ready == now:
                        waiting.append((now, number, one, one.message, one.target))
                        one.ready = None
                for number, one in enumerate(senders):
                    if not one.jobs:
                        continue
                    cycles, message = one.jobs[0]
                    if one.ready is None:
                        one.ready, moved = now + cycles, True
                    if one.ready > now or one.ready < 0:
                        continue
                    if message is None:
                        one.jobs.popleft()
                        one.ready, moved = None, True
                    elif any(one.buffer is buffer for buffer in injected.values()):
                        if len(one.buffer) < noc.buffer:
                            one.buffer.append(message)
                            one.jobs.popleft()
                            one.ready, moved = None, True
                    else:
                        waiting.append((now, 10**6 + number, one, message, one.buffer))
                        one.ready, moved = -1, True
            waiting.sort(key=lambda request: request[:2])
            taken = []
            for request in list(waiting):
                buffer = request[4]
                if any(buffer is other for other in taken):
                    continue
                taken.append(buffer)
                room = config.pe.queue if any(buffer is queue for queue in queues.values()) else noc.buffer
                if len(buffer) < room:
                    granted.append(request[2:])
                    waiting.remove(request)
            idle = all(one is None for one in busy.values()) and not any(one.jobs for one in senders)
            if idle and not any(expected.values()):
                break
        now += config.scheduler.barrier_cycles
    return now


def onward(one, noc):
    """The link that an input's message takes next, None out of the mesh; and in how many cycles."""
    core = one.message[0]
    row, column = divmod(core // noc.cores, noc.columns)
    r, c = one.place
    if column != c:
        side, cycles = ("east" if column > c else "west"), noc.row_cycles
    elif row != r:
        side, cycles = ("south" if row > r else "north"), noc.column_cycles
    else:
        return None, noc.out_cycles
    down, right = AWAY[side]
    return (r + down, c + right, FACING[side]), cycles
