"""Files as they come back from disks, editors and strangers: ways to damage a table or a text, drawn with a seed."""

import random

WORDS = (
    *("", "nan", "inf", "-inf", "-1", "1e999", "1e-320", "1e308", "9" * 30, "9" * 5_000, "0", "0.0", "0x10", "1_0"),
    *(
        "word",
        "True",
        "none",
        "null",
        "=1+1",
        "'=1",
        "@x",
        "-",
        " ",
        "\t",
        "a,b",
        '"',
        '""',
        "$\\alpha$",
        "_",
        "脉冲",
        "🦊",
    ),
    *("\r", "\x0b", "\x0c", "\x1b[31m", "\x85", "\u2028", "\u202e", "\x00", "x" * 300, "x" * 140_000, "{a: [1", "*a"),
    *(".", "/", "{a: 1, b: {c: 2}}", "[[[[[[", "\uff11\uff12", "²", "1e5", "5.", ".5", "+5"),
)


def table(text: str, seed: int) -> bytes:
    """The CSV ``text``, damaged."""
    draw = random.Random(seed)
    lines = text.split("\n")
    place = draw.randrange(max(1, len(lines) - 1))
    cells = lines[place].split(",")
    other = draw.randrange(len(cells))
    kind = draw.randrange(12)
    if kind < 4:
        cells[other] = draw.choice(WORDS)
    elif kind == 4:
        one = draw.randrange(len(cells))
        cells[one], cells[other] = cells[other], cells[one]
    elif kind == 5:
        cells[other : other + draw.randrange(3)] = draw.choices(WORDS, k=draw.randrange(3))
    elif kind == 6:
        lines.insert(draw.randrange(len(lines)), lines[place])
    elif kind == 7:  # all cells of a column
        word = draw.choice(WORDS)
        header, *rows = [line.split(",") for line in lines if line]
        lines = [",".join(header), *(",".join([*row[:other], word, *row[other + 1 :]]) for row in rows), ""]
        return "\n".join(lines).encode()
    elif kind == 8:
        word = draw.choice(WORDS)
        cells[other] = f'"{word}\n{word}"'
    lines[place] = ",".join(cells)
    return content("\n".join(lines).encode(), seed) if kind > 8 else "\n".join(lines).encode()


def content(whole: bytes, seed: int) -> bytes:
    """The bytes of a file, damaged."""
    draw = random.Random(~seed)
    place, length = draw.randrange(len(whole)), draw.randrange(1, 20)
    match draw.randrange(8):
        case 0:
            return whole[:place] + bytes([whole[place] ^ 1 << draw.randrange(8)]) + whole[place + 1 :]
        case 1:
            return whole[:place]
        case 2:
            return whole[:place] + whole[place + length :]
        case 3:
            return whole[:place] + whole[place : place + length] + whole[place:]
        case 4:
            return whole[:place] + draw.randbytes(length) + whole[place + length :]
        case 5:
            return whole[:place] + b"\0" * length + whole[place:]
        case 6:
            return whole[:place] + draw.choice(WORDS).encode("utf-8", "surrogatepass") + whole[place + length :]
    return whole.replace(b"\n", draw.choice((b"\r\n", b"\r", b"\n\n", b"\x0b", b"")))
