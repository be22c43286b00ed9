"""``python -m archsim`` is the command ``archsim``. A signal ends it tidily, from its first line to its last."""

import contextlib
import gc
import os
import signal
import sys
from types import FrameType
from typing import NoReturn

ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
AGAIN_S = 0.05
YOUNG = 100_000
"""So many new objects are a reason to look for garbage, not Python's 700: nearly all that a start makes stays."""


class Ending:
    """Ends the process when a signal asks for it: SystemExit rises through what is under way, which leaves nothing.

    ``number`` is that of the signal, 0 as long as there was none.
    """

    def __init__(self) -> None:
        self.number = 0
        for number in ENDINGS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # as of a process that a script has in the background
                signal.signal(number, self.begin)
        sys.unraisablehook = self.lost

    def begin(self, number: int, frame: FrameType | None) -> NoReturn:
        """Handle a signal."""
        if number != signal.SIGALRM:
            self.number = number
        raise SystemExit(128 + self.number)

    def lost(self, unraisable: "sys.UnraisableHookArgs") -> None:
        """An exception cannot rise through C code that has called Python, as LLVM does: it begins again, soon."""
        if self.number and isinstance(unraisable.exc_value, SystemExit):
            signal.signal(signal.SIGALRM, self.begin)
            signal.setitimer(signal.ITIMER_REAL, AGAIN_S)
        else:
            sys.__unraisablehook__(unraisable)

    def over(self) -> None:
        """What is left to do takes no time; Python would else end by the signal itself, with another exit code."""
        for number in (*ENDINGS, signal.SIGALRM):
            signal.signal(number, signal.SIG_IGN)


def main() -> str | int | None:
    """The command line; returns its exit code, 128 plus its number where a signal has ended it."""
    gc.set_threshold(YOUNG)
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "1")  # it would look for some in every package that is installed
    ending = Ending()
    code: str | int | None
    try:
        from archsim.cli import main

        code = main(interrupted=lambda: ending.number > 0)
    except SystemExit as end:
        code = end.code
    except KeyboardInterrupt:
        code = 128 + signal.SIGINT
    ending.over()
    gc.freeze()  # the end of a process gives its memory back; to look through it for garbage takes a fifth of a second
    if ending.number:
        code = 128 + ending.number
    if code == 128 + signal.SIGINT:
        with contextlib.suppress(OSError):  # nobody can be told
            os.write(2, b"archsim: interrupted\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
