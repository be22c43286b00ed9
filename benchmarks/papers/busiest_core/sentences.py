from __future__ import annotations


def write_sentences(output, filled):
    pass
