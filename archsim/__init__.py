"""archsim: a cycle-accurate architectural simulator for neuromorphic accelerators."""

__version__ = "0.1.0"
