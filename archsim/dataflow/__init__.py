"""How work flows through a machine: dataflow families, what their machines share, and the parts of their agents."""
