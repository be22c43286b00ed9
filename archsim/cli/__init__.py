"""The command line: each verb parses, calls one library function and prints; no modelling here.

Tables go to stdout: for people on a terminal, with full precision and tab-separated in a pipe. What was done, warnings
(``archsim: warning:``) and errors (``archsim: error:``) go to stderr, a line each; progress too, but only to a
terminal. Whatever takes long to import is imported where it is used.
"""

from archsim.cli.program import main
from archsim.cli.verbs import app

__all__ = ["app", "main"]
