"""Memory units: cache, DRAM, and the system that they form."""
