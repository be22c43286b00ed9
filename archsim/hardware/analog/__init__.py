"""In-memory computing: crossbar arrays of cells and the converters behind their columns."""

from archsim.hardware.analog.wires import effective_conductance

__all__ = ["effective_conductance"]
