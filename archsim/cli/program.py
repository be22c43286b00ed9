"""The command ``archsim``: runs a verb, says in one line what went wrong, and returns the exit code.

0: done, 2: the user's input is wrong or a resource is used up, 1: a bug in archsim, 128 plus its number after a signal
(130 Ctrl-C, 143 SIGTERM).
"""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TextIO

import typer

from archsim.cli.printing import note
from archsim.cli.verbs import app
from archsim.errors import ArchsimError, nearest, printable

# typer exports only one leaf of its usage errors; the base of that leaf is what they share.
USAGE_ERROR: type[Exception] = typer.BadParameter.__bases__[0]


def main(arguments: Sequence[str] | None = None, interrupted: Callable[[], bool] = lambda: False) -> int:
    """Run the command line ``arguments`` (default: those of the process) and return the exit code.

    Where a signal has ``interrupted`` the process, whatever fails does so for that reason, and nothing is said of it.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    command = typer.main.get_command(app)
    if "_ARCHSIM_COMPLETE" in os.environ and arguments is None:
        command(prog_name="archsim")  # the shell asks how a word may go on
    # A stream that was closed before the start is None.
    sys.stdout = sys.stdout or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    sys.stderr = sys.stderr or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        # A file name that the terminal's encoding does not know is no reason to fail.
        with contextlib.suppress(AttributeError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    code, failed = 0, None
    try:
        try:
            with command.make_context("archsim", [argument for argument in given if argument != "--debug"]) as context:
                command.invoke(context)
        except typer.Exit as done:
            code = done.exit_code
        except KeyboardInterrupt:
            return 130
        except Exception as error:
            failed = error
        failed = failed or _unwritten(sys.stdout)
        if failed is None:
            return code
        if isinstance(failed, BrokenPipeError):
            return 0  # whoever read our output has seen enough
        if "--debug" in given:
            traceback.print_exception(failed)
        return 1 if interrupted() else _report_error(failed)
    finally:
        for stream in (sys.stdout, sys.stderr):
            _unwritten(stream)


def _unwritten(stream: TextIO) -> OSError | None:
    """Why what was printed on ``stream`` cannot be written, if it cannot; then it is forgotten.

    Python would try again at its end, complain, and have an exit code of its own.
    """
    try:
        stream.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return error
    return None


def _report_error(error: Exception) -> int:
    """Print the lines that say what went wrong; the exit code."""
    if isinstance(error, ArchsimError):
        problems: Sequence[str] = error.problems
    elif isinstance(error, USAGE_ERROR):
        problems = [_command_line_problem(error)]
    elif (scarce := _out_of_memory(error)) is not None:
        problems = [f"not enough memory: {str(scarce) or 'no reason given'}"]
    elif isinstance(error, OSError):
        problems = [f"{error.filename or 'input or output'}: {error.strerror or error}"]
    else:
        what = printable(f"{type(error).__name__}: {error}")
        note(f"archsim: error: this is a bug in archsim ({what}); run with --debug and report the traceback")
        return 1
    for line in ArchsimError(problems).lines():
        note(f"archsim: error: {line}")
    return 2


def _out_of_memory(error: BaseException | None) -> BaseException | None:
    """What in the history of ``error`` says that there was no memory, for an array or for a thread; else None."""
    while error is not None:
        if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "start new thread" in str(error)):
            return error
        error = error.__cause__ or error.__context__
    return None


def _command_line_problem(error: Any) -> str:
    """typer's complaint in one line, with the nearest option and where to read on."""
    message = " ".join(error.format_message().split()).rstrip(".")
    option = getattr(error, "option_name", None)
    if option and message.startswith("No such option"):
        known = [name for parameter in error.ctx.command.params for name in parameter.opts] if error.ctx else []
        message = f"No such option: {option}{nearest(option, [*known, '--help'])}"
    where = error.ctx.command_path if error.ctx else "archsim"
    return f"{where}: {message[:1].lower()}{message[1:]}; see '{where} --help'"
