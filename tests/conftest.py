"""No test is timed: a busy machine would fail it, and speed is a benchmark (``benchmarks/engine``)."""

from hypothesis import settings

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
