"""Interconnect units: crossbar switches and the broadcast bus."""
