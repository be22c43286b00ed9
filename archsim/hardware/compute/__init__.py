"""Compute units: inner join, accumulators, neurons."""
