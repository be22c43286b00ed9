"""Random agents: every form of statement that an agent may have, nested at random, and always ending.

Programs are text, as an agent is read from its file. Each has locals ``u, v, w``, loops with and without a ``yield``,
branches, jumps, parts with arguments, counters and kept numbers; every loop is bounded.
"""

from __future__ import annotations

import random

HEAD = "from archsim.hardware.agent import op\nONE, TWO = 1, 2\n"
LOCALS = ("u", "v", "w")
FIELDS = ("pop", "pops", "compute", "pause", "push", "pushes", "value", "barrier")


class Program:
    """The text of one random agent with its parts."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.loops = 0
        self.functions: list[str] = []
        self.functions = [self.function(number) for number in range(2)]
        self.parts = [self.part(number) for number in range(self.random.randrange(3))]
        body = self.block(3, in_loop=False, names=LOCALS)
        start = "".join(f"    {name} = {self.random.randrange(5)}\n" for name in LOCALS)
        last = f"    {self.operation(LOCALS)}\n"
        self.text = f"{HEAD}\n\n{''.join(self.functions + self.parts)}def program(a, m, x):\n{start}{body}{last}"

    def part(self, number: int) -> str:
        names = ("p", "q", *self.random.sample(LOCALS, 1))
        start = f"    {names[2]} = p + {self.random.randrange(4)}\n"
        self.parts = []
        body = self.block(2, in_loop=False, names=names, calls=False)
        last = f"    {self.operation(names)}\n"
        return f"def part{number}(a, m, x, p, q):\n{start}{body}{last}\n\n"

    def function(self, number: int) -> str:
        """A plain function of the handle; the second may call the first."""
        self.functions = []
        names = ("p", "u")
        lines = [f"u = p + {self.random.randrange(3)}"]
        for _ in range(self.random.randrange(3)):
            lines += self.statement(0, in_loop=False, names=names, calls=False)
        lines = [line for line in lines if not line.startswith("yield")]
        if self.random.random() < 0.5:
            lines += [f"if {self.condition(names)}:", f"    return {self.expression(names)}"]
        if number:
            lines += ["u += function0(a, m, x, p)"]
        lines += [f"return {self.expression(names)}"]
        return f"def function{number}(a, m, x, p):\n" + "".join(f"    {line}\n" for line in lines) + "\n\n"

    def expression(self, names: tuple[str, ...]) -> str:
        if self.functions and self.random.random() < 0.1:
            return f"function{self.random.randrange(2)}(a, m, x, {self.random.choice(names)}) % 11"
        pick = self.random.randrange(9)
        name, other = self.random.choice(names), self.random.choice(names)
        return (
            f"{name}", f"{name} + {other}", f"{name} * 2 - {other}", f"({name} + 3) % 5", f"{name} // 2", "a.value % 7",
            "a.now % 3 + m.size", f"x.table[({name}) % 4]", f"a.me + TWO + a.kept[{self.random.randrange(2)}]",
        )[pick]  # fmt: skip

    def condition(self, names: tuple[str, ...]) -> str:
        left = self.expression(names)
        return f"({left}) % {self.random.randrange(2, 4)} {self.random.choice(['==', '<', '!='])} ONE"

    def operation(self, names: tuple[str, ...]) -> str:
        chosen = self.random.sample(FIELDS, self.random.randrange(len(FIELDS)))
        return f"yield op({', '.join(f'{field}={self.expression(names)}' for field in chosen)})"

    def block(self, depth: int, *, in_loop: bool, names: tuple[str, ...], calls: bool = True) -> str:
        lines: list[str] = []
        for _ in range(self.random.randrange(2, 6)):
            lines += self.statement(depth, in_loop=in_loop, names=names, calls=calls)
        return "".join(f"    {line}\n" for line in lines)

    def statement(self, depth: int, *, in_loop: bool, names: tuple[str, ...], calls: bool) -> list[str]:
        pick = self.random.randrange(12 if depth else 6)
        target = self.random.choice(names)
        match pick:
            case 0 | 1:
                return [self.operation(names)]
            case 2:
                return [f"{target} = {self.expression(names)}"]
            case 3:
                return [f"{target} += {self.expression(names)}", f"{target} %= 50"]
            case 4:
                return [f"a.count[{self.random.randrange(2)}] += ({self.expression(names)}) % 9"]
            case 5:
                if in_loop and self.random.random() < 0.5:
                    return [f"if {self.condition(names)}:", f"    {self.random.choice(['break', 'continue'])}"]
                return [f"a.kept[{self.random.randrange(2)}] = {self.expression(names)}"]
            case 6 | 7:
                inside = {"in_loop": in_loop, "names": names, "calls": calls}
                found = [f"if {self.condition(names)}:", *self.indented(depth, **inside)]
                return [*found, "else:", *self.indented(depth, **inside)] if self.random.random() < 0.5 else found
            case 8 | 9:
                self.loops += 1
                name = self.random.choice([f"i{self.loops}", *names])
                first = f"{self.random.randrange(2)}, " if self.random.random() < 0.5 else ""
                inside = {"in_loop": True, "names": (*names, name), "calls": calls}
                if name in names:
                    inside["names"] = names
                ahead = [] if name in names else [f"{name} = 0"]
                end = f"({self.expression(names)}) % 4 + {self.random.randrange(2)}"
                return [*ahead, f"for {name} in range({first}{end}):", *self.indented(depth, **inside)]
            case 10:
                self.loops += 1
                turn = f"t{self.loops}"
                inside = {"in_loop": True, "names": names, "calls": calls}
                return [f"{turn} = 0", f"while {turn} < {self.random.randrange(1, 4)}:", f"    {turn} += 1",
                        *self.indented(depth, **inside)]  # fmt: skip
            case _:
                if calls and self.parts:
                    part = self.random.randrange(len(self.parts))
                    given = self.random.choice(names), self.expression(names)
                    return [f"yield from part{part}(a, m, x, {given[0]}, {given[1]})"]
                if calls and not in_loop and self.random.random() < 0.3:
                    return [f"if {self.condition(names)}:", "    return"]
                return [self.operation(names)]

    def indented(self, depth: int, **more: object) -> list[str]:
        return self.block(depth - 1, **more).splitlines()  # type: ignore[arg-type]
