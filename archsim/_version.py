"""The version of archsim, in a file of its own so that no module needs the door of the package to know it."""

__version__ = "0.2.0"
