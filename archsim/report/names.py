"""How names of machines, networks, units and columns are spelt where people read them, in figures and pages.

Files have plain identifiers (``sparten_snn``, ``energy_gain``). Here a word has the spelling of the papers, if it has
one of its own; all others stand as they are, with a space for each underscore.
"""

from __future__ import annotations

import re

SPELT = {
    **{"loas": "LoAS", "sparten": "SparTen", "gospa": "GoSPA", "gamma": "Gamma", "ptb": "PTB", "stellar": "Stellar"},
    **{"sata": "SATA", "spinalflow": "SpinalFlow", "prosperity": "Prosperity", "gustav_snn": "GustavSNN"},
    **{
        "spikesim": "SpikeSim",
        "systolic": "Dense systolic array",
        "flywire": "FlyWire",
        "manycore": "Many-core chip",
        "loihi": "Loihi",
        "tt_snn": "TT-SNN",
        "ttfs": "First spikes",
        "snn": "SNN",
        "cnn": "CNN",
        "vit": "ViT",
        "f40": "F40",
    },
    **{"alexnet": "AlexNet", "vgg": "VGG", "resnet": "ResNet", "cifar": "CIFAR"},
    **{"dram": "DRAM", "sram": "SRAM", "adc": "ADC", "pe": "PE", "tppe": "TPPE", "lif": "LIF", "pgu": "PGU"},
    "p_lif": "P-LIF",
}
"""Spellings by word, a number at its end apart, or by whole name."""
_WORDS = re.compile(r"[A-Za-z0-9]+(_[A-Za-z0-9]+)*", re.ASCII)


def readable(name: str) -> str:
    """A name such as sparten_snn_f40 as SparTen-SNN F40; a name that is no identifier stands as it is."""
    if not _WORDS.fullmatch(name):
        return name
    return SPELT.get(name) or " ".join(map(_spelt, name.split("_"))).replace(" SNN", "-SNN")


def _spelt(word: str) -> str:
    """A word such as vgg16 as VGG16."""
    stem = word.rstrip("0123456789")
    return SPELT.get(word) or SPELT.get(stem, stem) + word[len(stem) :]
