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


def free_cycles_of(config, layers, spikes, steps):
    """Cycles of all ``steps`` where cores run freely; arguments as of :func:`cycles_of`.

    Everybody is a generator that asks for one thing at a time: to wait, to take from a buffer, to put into one.
    """
    noc, neuron, scheduler = config.noc, config.neuron, config.scheduler
    sizes = [layer[1] if layer[0] is None else len(layer[1]) for layer in layers]
    first = [sum(sizes[:which]) for which in range(len(sizes))]
    parts = []  # (layer, first neuron, end, core or None, the buffer that is written)
    links = {(r, c, side): deque() for r in range(noc.rows) for c in range(noc.columns) for side in AWAY}
    injected, queues = ({core: deque() for core in range(config.pe.count)} for _ in range(2))
    for which, layer in enumerate(layers):
        if layer[0] is None:
            ports, size = config.host.ports, layer[1]
            parts += [
                (which, size * p // ports, size * (p + 1) // ports, None, links[p, 0, "west"]) for p in range(ports)
            ]
        else:
            parts += [
                (which, *part, core, injected[core]) for core, part in zip(layer[3], pairwise(layer[2]), strict=True)
            ]
    targets, expected = {}, {}  # messages of a neuron; how many come to a core in a step
    for sources, weight, ends, cores, time, _depth in (layer for layer in layers if layer[0] is not None):
        for place, source in enumerate(sources):
            for (begin, end), core in zip(pairwise(ends), cores, strict=True):
                if synapses := sum(bool(weight[n][place]) for n in range(begin, end)):
                    targets.setdefault(source, []).append((core, config.synapse.message_cycles + synapses * time))

    def fired(which, step):
        place = step - (0 if layers[which][0] is None else layers[which][5])
        return spikes[which][place] if 0 <= place < len(spikes[which]) else []

    def own_targets(part):
        which, begin, end, *_ = part
        return {core for n in range(begin, end) for core, _ in targets.get(first[which] + n, [])}

    for which, *_ in {part[0]: part for part in parts}.values():
        for step in range(steps):
            for one in fired(which, step):
                for core, _ in targets.get(first[which] + one, []):
                    expected[core, step] = expected.get((core, step), 0) + 1
    pairs = [(a, b) for a, part in enumerate(parts) for b, to in enumerate(parts) if to[3] in own_targets(part)]
    ended, freed = ({pair: deque() for pair in pairs} for _ in range(2))
    summed = {core: deque() for core in queues}
    room = {id(buffer): noc.buffer for buffer in (*links.values(), *injected.values())}
    room |= {id(buffer): config.pe.queue for buffer in queues.values()}
    room |= {id(buffer): scheduler.buffers + 1 for buffer in ended.values()}
    room |= {id(buffer): scheduler.buffers for buffer in freed.values()}
    shared = {id(buffer) for buffer in (*links.values(), *queues.values())}
    per_neuron = neuron.access_cycles + neuron.cycles + neuron.axon_cycles * config.pe.axons

    def sender(me):
        which, begin, end, core, buffer = parts[me]
        before, behind = ([pair for pair in pairs if pair[side] == me] for side in (1, 0))
        for step in range(steps):
            for pair in before if step > 0 else ():
                yield "take", ended[pair]
            for pair in behind if step >= scheduler.buffers else ():
                yield "take", freed[pair]
            if core is not None and step > 0:
                yield "take", summed[core]
            passed = begin
            for one in (one for one in fired(which, step) if begin <= one < end):
                if core is not None:
                    yield "wait", (one + 1 - passed) * per_neuron + neuron.spike_cycles
                passed = one + 1
                for message in targets.get(first[which] + one, []):
                    yield "wait", config.host.message_cycles if core is None else neuron.message_cycles
                    yield "put", buffer, (*message, step)
            if core is not None:
                yield "wait", (end - passed) * per_neuron
            for pair in before if step > 0 else ():
                yield "wait", scheduler.token_cycles
                yield "put", freed[pair], None
            for pair in behind:
                yield "wait", scheduler.token_cycles
                yield "put", ended[pair], None

    def receiver(core):
        got = {}
        for step in range(steps):
            while got.get(step, 0) < expected.get((core, step), 0):
                _, work, of = yield "take", queues[core]
                got[of] = got.get(of, 0) + 1
                yield "wait", work
            summed[core].append(None)

    def router(place, buffer):
        while True:
            message = yield "take", buffer
            way, cycles = towards(message[0], place, noc)
            yield "wait", cycles - 1
            yield "put", links[way] if way else queues[message[0]], message

    routers = []
    for r in range(noc.rows):
        for c in range(noc.columns):
            node = r * noc.columns + c
            own = [injected[core] for core in range(node * noc.cores, (node + 1) * noc.cores)]
            routers += [router((r, c), buffer) for buffer in (*(links[r, c, side] for side in AWAY), *own)]
    by_kind = sorted(range(len(parts)), key=lambda me: parts[me][3] is None)  # hosts have the larger numbers
    working = [sender(me) for me in by_kind] + [receiver(part[3]) for part in parts if part[3] is not None]
    everybody = [
        [one, next(one, None), None] for one in (*routers, *working)
    ]  # generator, what it asks for, since when
    waiting, granted = [], []
    for now in range(10**6):
        for number, buffer, message in granted:
            buffer.append(message)
            everybody[number][1:] = next(everybody[number][0], None), None
        granted, moved = [], True
        while moved:
            moved = False
            for number, state in enumerate(everybody):
                one, asked, since = state
                if asked is None or since == "at a buffer":
                    continue
                kind, what, given = asked[0], asked[1], None
                if kind == "wait":
                    since = state[2] = now if since is None else since
                    if now < since + what:
                        continue
                elif kind == "take":
                    if not what:
                        continue
                    given = what.popleft()
                elif id(what) in shared:
                    waiting.append((now, number, what, asked[2]))
                    state[2] = "at a buffer"
                    continue
                elif len(what) < room[id(what)]:
                    what.append(asked[2])
                else:
                    continue
                moved = True
                try:
                    state[1:] = one.send(given), None
                except StopIteration:
                    state[1:] = None, None
        waiting.sort(key=lambda request: request[:2])
        heads = {}
        for request in waiting:
            heads.setdefault(id(request[2]), request)
        for request in heads.values():
            if len(request[2]) < room[id(request[2])]:
                granted.append(request[1:])
                waiting.remove(request)
        if all(asked is None for _, asked, _ in everybody[len(routers) :]):
            return now
    raise AssertionError("nobody goes on")


def onward(one, noc):
    """The link that an input's message takes next, None out of the mesh; and in how many cycles."""
    return towards(one.message[0], one.place, noc)


def towards(core, place, noc):
    """The same, of a message to ``core`` in the router at ``place``."""
    row, column = divmod(core // noc.cores, noc.columns)
    r, c = place
    if column != c:
        side, cycles = ("east" if column > c else "west"), noc.row_cycles
    elif row != r:
        side, cycles = ("south" if row > r else "north"), noc.column_cycles
    else:
        return None, noc.out_cycles
    down, right = AWAY[side]
    return (r + down, c + right, FACING[side]), cycles
