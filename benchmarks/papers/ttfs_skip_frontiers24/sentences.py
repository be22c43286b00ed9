"""What the README says of the tables, with the numbers of these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from paper_tables import Row

SENTENCES = ("networks", "joins", "costs", "chips", "claims")


def text(name: str, filled: Mapping[str, Sequence[Row]]) -> str:
    """The sentences on the table ``name``."""
    made = {"networks": _networks, "joins": _joins, "costs": _costs, "chips": _chips, "claims": _claims}
    return made[name](filled[name])


def _by_task(rows: Sequence[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row["task"], []).append(row)
    return found


def _with(row: Row, name: str, form: str) -> str:
    """``mean +- deviation``."""
    return f"{row[name]:{form}} +- {row[f'{name}_deviation']:{form}}"


def _networks(rows: Sequence[Row]) -> str:
    parts = []
    for task, own in _by_task(rows).items():
        told = "; ".join(
            f"{row['join']} {_with(row, 'accuracy', '.1f')} % at tick {_with(row, 'latency', '.0f')}, with"
            f" {_with(row, 'share', '.0f')} % of the spikes of hidden neurons before it"
            for row in own
        )
        parts.append(f"On {task} ({own[0]['tested']:,} test items, {own[0]['seeds']} seeds): {told}.")
    most = max(row["undecided"] for row in rows)
    undecided = f"At most {most:.1f} % of the items of a network are undecided." if most else "All items are decided."
    return (
        "*Networks.* Accuracy of the integer networks and tick of the first output spike, mean +- deviation over seeds."
        f" {' '.join(parts)} {undecided}"
    )


def _joins(rows: Sequence[Row]) -> str:
    parts = []
    for task, own in _by_task(rows).items():
        plain = [row for row in own if row["join"] == "concatenation"]
        late = [row for row in own if row["join"] == "concatenation with delay"]
        parts.append(
            f"On {task} a block's neurons fire {' and '.join(_with(row, 'gap', '.0f') for row in plain)} ticks behind"
            f" what concatenation puts beside them (blocks 1 and 2). Learnt delays are"
            f" {' and '.join(_with(row, 'delay', '.0f') for row in late)} ticks in the mean, with deviations over"
            f" channels of {' and '.join(format(row['channels'], '.0f') for row in late)}, and leave gaps of"
            f" {' and '.join(_with(row, 'gap', '.0f') for row in late)}; without their delays the same networks have"
            f" {' and '.join(_with(row, 'without', '.0f') for row in late)}."
        )
    return f"*Joins.* {' '.join(parts)}"


def _costs(rows: Sequence[Row]) -> str:
    parts = []
    for task, own in _by_task(rows).items():
        ends = [row for row in own if row["until"] == "the end"]
        decided = [row for row in own if row["until"] == "the decision"]
        told = "; ".join(
            f"{end['join']} {_with(end, 'cycles', ',.0f')} cycles and {_with(end, 'energy_nj', ',.0f')} nJ to the end,"
            f" {100 * there['cycles_relative']:.0f} % and {100 * there['energy_nj_relative']:.0f} % of them to the"
            " decision"
            for end, there in zip(ends, decided, strict=True)
        )
        parts.append(f"On {task}: {told}.")
    return (
        f"*Costs* per item on `ttfs`. {' '.join(parts)} Outputs are those of the traces: together"
        f" {sum(row['mismatches'] for row in rows)} mismatches."
    )


def _chips(rows: Sequence[Row]) -> str:
    cycles, energies = ([row[f"{name}_relative"] for row in rows] for name in ("cycles", "energy_nj"))
    return (
        "*Steps instead of events.* On `manycore`, whose cores go through all their neurons in every tick, the same"
        f" traces take {min(cycles):.0f} to {max(cycles):.0f} times the cycles and {min(energies):.0f} to"
        f" {max(energies):.0f} times the energy, again with {sum(row['mismatches'] for row in rows)} mismatches. Times"
        " that add up are added by the host there."
    )


def _claims(rows: Sequence[Row]) -> str:
    parts = []
    for claim in dict.fromkeys(row["claim"] for row in rows):
        told = ", ".join(
            f"{row['verdict']} on {row['task']} ({row['measure']}: {_with(row, 'value', '.2f')}; {row['held']} of"
            f" {row['seeds']} seeds)"
            for row in rows if row["claim"] == claim
        )  # fmt: skip
        parts.append(f'"{claim}" is {told}')
    return f"*Claims.* {'; '.join(parts)}."
