"""What archsim says about a run: the results folder, its figures and comparisons of several runs.

``report.py`` holds what a run found, ``invariants.py`` what must be true of it, ``files.py`` is the one writer,
``timeline.py`` and ``plots.py`` are for the eye, ``comparison.py`` sets several runs side by side.
"""
