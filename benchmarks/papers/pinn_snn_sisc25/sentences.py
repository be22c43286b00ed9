"""What the README says of the tables, with the numbers of these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from paper_tables import Row

SENTENCES = ("networks", "slopes", "timesteps", "costs", "equal", "activation", "divider", "mapping")


def text(name: str, filled: Mapping[str, Sequence[Row]]) -> str:
    """The sentences on the table ``name``."""
    made = {
        "networks": _networks, "slopes": _slopes, "timesteps": _timesteps, "costs": _costs, "equal": _equal,
        "activation": _activation, "divider": _divider, "mapping": _mapping,
    }  # fmt: skip
    return made[name](filled[name])


def _range(values: Sequence[float], form: str) -> str:
    """``least to most``."""
    return f"{min(values):{form}} to {max(values):{form}}"


def _networks(rows: Sequence[Row]) -> str:
    told = ", ".join(
        f"{row['problem']} {row['error']:.2g}"
        + (
            f" (standard deviation {row['deviation']:.2g}, seeds: {row['seeds']})"
            if row["deviation"]
            else " (one seed)"
        )
        for row in rows
    )
    rates = _range([100 * row["spike_rate"] for row in rows], ".0f")
    return (
        f"*Networks.* Relative L2 errors of the float networks are {told}. Hidden neurons fire in {rates} % of all"
        " timesteps: a signed spike says a digit of a number, and numbers near zero are rare behind a tanh or a sine."
        ' "Low spike rates", as the abstract says, are not what this neuron gives.'
    )


def _slopes(rows: Sequence[Row]) -> str:
    nearest = [row for row in rows if row["rounding"] == "nearest"]
    down = [row for row in rows if row["rounding"] == "down"]
    slopes = [row[f"slope_{name}"] for row in rows for name in ("none", "light", "advanced")]
    spread = [row[f"slope_{name}_deviation"] or 0.0 for row in rows for name in ("none", "light", "advanced")]
    gains = [row[f"gain_{name}_deviation"] or 0.0 for row in rows for name in ("light", "advanced")]
    return (
        f"*1 / T and calibration.* From T = 4 to 64 the error to the float network falls with slopes of"
        f" {_range(slopes, '.2f')} in log-log, where 1 / T is -1. Of neurons that round down, light calibration divides"
        f" the error by {_range([row['gain_light'] for row in down], '.2f')} and advanced calibration by"
        f" {_range([row['gain_advanced'] for row in down], '.2f')} (geometric means over T and seeds, by problem); of"
        f" neurons that round to the nearest, by {_range([row['gain_light'] for row in nearest], '.2f')} and"
        f" {_range([row['gain_advanced'] for row in nearest], '.2f')}. Over seeds a slope deviates by"
        f" {max(spread):.2f} at most, such a factor by {max(gains):.2f}. Rounding down is off by half a spike on"
        " average, and a start of half a spike is all that advanced calibration has to find."
    )


def _timesteps(rows: Sequence[Row]) -> str:
    chosen = [row for row in rows if (row["rounding"], row["calibration"]) == ("nearest", "advanced")]
    first = _range([row["t4"] for row in chosen], ".2g")
    last = _range([row["t256"] for row in chosen], ".2g")
    down = [row for row in rows if row["rounding"] == "down"]
    pairs = [
        (one["t16"], next(other["t16"] for other in chosen if other["problem"] == one["problem"]))
        for one in down if one["calibration"] == "advanced"
    ]  # fmt: skip
    return (
        f"*Errors.* To the nearest and with advanced calibration the relative error to the solution is {first} at T = 4"
        f" and {last} at T = 256, where weights of 8 bits begin to count. Rounded down and calibrated it is"
        f" {_range([one / other for one, other in pairs], '.2f')} of that at T = 16: behind the calibration both"
        " neurons are one."
    )


def _costs(rows: Sequence[Row]) -> str:
    fronts = {machine: [row for row in rows if row["machine"] == machine] for machine in _machines(rows)}
    cores = [row["coverage"] for row in rows if row["coverage"] < 1]
    told = ", ".join(
        f"{sum(row['on_front'] and row['network'][0] == 'T' for row in part)} of"
        f" {sum(row['network'][0] == 'T' for row in part)} on {machine}"
        for machine, part in fronts.items()
    )
    mismatches = sum(row["mismatches"] for row in rows)
    return (
        f"*Front.* On the Pareto fronts of error and energy are of the networks of signed spikes {told}. All"
        f" {len(rows)} networks on machines together have {mismatches} mismatches. Core chips run"
        f" {_range(cores, '.1%')} of a network's operations: the first layer reads numbers, and its spikes come from"
        " outside."
    )


def _machines(rows: Sequence[Row]) -> list[str]:
    """In the order of the rows."""
    return list(dict.fromkeys(row["machine"] for row in rows))


def _equal(rows: Sequence[Row]) -> str:
    known = [row for row in rows if row.get("energy_ratio")]
    unmatched = [row for row in rows if not row.get("energy_ratio")]
    parts = []
    for machine in _machines(rows):
        own = [row for row in known if row["machine"] == machine]
        wins = sum(row["energy_ratio"] < 1 for row in own)
        parts.append(
            f"on {machine} {_range([row['time_ratio'] for row in own], '.1f')} times the time and"
            f" {_range([row['energy_ratio'] for row in own], '.1f')} times the energy ({wins} of {len(own)} cheaper)"
        )
    return (
        f"*At equal error* signed spikes take, over all problems and T, {'; '.join(parts)}. Core chips, which run"
        " nothing else, are compared with the systolic array, whose prices are of 32 nm where theirs are of 14 nm. A"
        " network without spikes needs a bit for twice the accuracy, rate coding twice the timesteps, two bits each. Of"
        f" {len(rows)} networks of spikes {len(unmatched)} are more accurate than any here without spikes, whose"
        " activations end at 10 bits."
    )


def _activation(rows: Sequence[Row]) -> str:
    told = ", ".join(f"{row['share']:.1%} on {row['machine']}" for row in rows)
    first = rows[0]
    dynamic = sum(first[name] for name in ("scale", "divide", "read", "track"))
    parts = ", ".join(
        f"{first[name] / dynamic:.0%} {words}"
        for name, words in (("scale", "a multiplication"), ("divide", "the division"), ("read", "the table"),
                            ("track", "following"))
    )  # fmt: skip
    return (
        "*The neuron.* What it has beside any other neuron, multipliers, a divider and a table of 4,096 entries, takes"
        f" {told} of the energy of Poisson at T = 64; on {first['machine']} without the table's leakage {parts}."
    )


def _divider(rows: Sequence[Row]) -> str:
    told = ", ".join(f"{row['cycles_relative']:.2f} on {row['machine']}" for row in rows if row["update_cycles"] == 32)
    return (
        "*The division.* A neuron divides by the number of the timestep. With 32 cycles an update instead of one,"
        f" Poisson at T = 64 takes {told} times the cycles."
    )


def _mapping(rows: Sequence[Row]) -> str:
    _, spread = rows
    return (
        "*Cores.* On many-core chips each layer of 32 neurons is in a core of its own, which takes its synapses one"
        f" after the other. Spread over all cores, Poisson at T = 64 takes {spread['time_relative']:.1f} times the time"
        f" and {spread['energy_relative']:.1f} times the energy: each spike is then a message to every core of the next"
        " layer."
    )
