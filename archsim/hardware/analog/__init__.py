"""In-memory computing: crossbar arrays of cells and the converters behind their columns."""
