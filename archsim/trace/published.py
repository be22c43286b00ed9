"""Whole networks as they were published, for synthetic traces: their graphs, shapes and densities of spikes.

Shapes are those of the authors' code, densities those that Prosperity (Wei et al., HPCA 2025) was evaluated with: the
share of ones in what the layers of a network read, on average. Each entry of :data:`NETWORKS` says what is taken from
where, and what was not published and is assumed. Batch norms are a bias and a threshold, as an exporter makes them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from archsim.trace.plan import Given, Plan

_SPREAD = "a pool of maxima behind neurons has the density, and the neurons fire less"
_PIXELS = "pixels are uniform from 0 to 255 and independent"


@dataclass(frozen=True)
class Published:
    """A network: ``build`` plans it, ``density`` is that of the spikes of every layer of neurons, behind its pool."""

    build: Callable[[], Plan]
    timesteps: int
    density: float
    source: str
    assumed: str


def spikformer(width: int = 384, depth: int = 4, heads: int = 12, side: int = 32, classes: int = 10) -> Plan:
    """Spikformer for CIFAR: convolutions that halve the map twice, then blocks whose sums are of spikes."""
    plan = Plan()
    x = plan.input("pixels", Given((3, side, side), "pixels"))
    for index, part in enumerate((8, 4, 2, 1), 1):
        x = plan.conv(f"sps.conv{index}", x, width // part, 3)
        if index > 2:
            x = plan.maximum(f"sps.pool{index}", x, 3, 2)
    x = plan.add("add", "sps.sum", plan.conv("sps.position", x, width, 3), x)
    for index in range(1, depth + 1):
        at = f"block{index}"
        x = plan.add("add", f"{at}.sum1", x, _self_attention(plan, at, x, heads, keys_first=False))
        x = plan.add("add", f"{at}.sum2", x, _hidden(plan, at, x))
    plan.head(x, classes)
    return plan


def _self_attention(plan: Plan, at: str, x: str, heads: int, *, keys_first: bool) -> str:
    """Attention without a softmax, (Q K^T) V, or with ``keys_first`` Q (K^T V): the same integers, other work."""
    width = plan.shapes[x][0]
    q, k, v = (plan.conv(f"{at}.{name}", x, width) for name in "qkv")
    if keys_first:
        product = plan.add("matmul", f"{at}.kv", k, v, transpose_first=True, heads=heads)
        attention = plan.add("matmul", f"{at}.attention", q, product, heads=heads, fires="spikes")
    else:
        product = plan.add("matmul", f"{at}.scores", q, k, transpose=True, heads=heads)
        attention = plan.add("matmul", f"{at}.attention", product, v, heads=heads, fires="spikes")
    return plan.conv(f"{at}.projection", attention, width)


def _hidden(plan: Plan, at: str, x: str) -> str:
    width = plan.shapes[x][0]
    return plan.conv(f"{at}.fc2", plan.conv(f"{at}.fc1", x, 4 * width), width)


def spike_driven(
    width: int = 512, depth: int = 2, pools: str = "0011", side: int = 32, classes: int = 10
) -> Plan:  # fmt: skip
    """The Spike-driven Transformer: membrane shortcuts, and attention of sums over tokens that mask Q."""
    plan = Plan()
    x = plan.input("pixels", Given((3, side, side), "pixels"))
    for index, (part, pooled) in enumerate(zip((8, 4, 2), pools, strict=False), 1):
        x = plan.conv(f"sps.conv{index}", x, width // part, 3)
        x = plan.maximum(f"sps.pool{index}", x, 3, 2) if pooled == "1" else x
    x = plan.conv("sps.conv4", x, width, 3, fires="")
    x = plan.maximum("sps.pool4", x, 3, 2) if pools[3] == "1" else x
    position = plan.conv("sps.position", plan.fire("sps.fire", x), width, 3, fires="")
    x = plan.add("add", "sps.sum", position, x)
    for index in range(1, depth + 1):
        at = f"block{index}"
        spikes = plan.fire(f"{at}.fire1", x)
        q, k, v = (plan.conv(f"{at}.{name}", spikes, width) for name in "qkv")
        both = plan.add("multiply", f"{at}.kv", k, v)
        mask = plan.add("reduce", f"{at}.mask", both, axis="positions", fires="spikes")
        masked = plan.add("multiply", f"{at}.attention", q, mask)
        x = plan.add("add", f"{at}.sum1", plan.conv(f"{at}.projection", masked, width, fires=""), x)
        hidden = plan.conv(f"{at}.fc1", plan.fire(f"{at}.fire2", x), 4 * width)
        x = plan.add("add", f"{at}.sum2", plan.conv(f"{at}.fc2", hidden, width, fires=""), x)
    plan.head(plan.fire("head.fire", x), classes)
    return plan


def qkformer(width: int = 384, depth: int = 4, heads: int = 8, side: int = 32, classes: int = 10) -> Plan:
    """QKFormer for CIFAR: two stages with a block of token attention each, then blocks of self-attention."""
    plan = Plan()
    x = plan.input("pixels", Given((3, side, side), "pixels"))
    x = plan.conv("embed1.conv1", x, width // 8, 3)
    straight = plan.conv("embed1.conv2", x, width // 4, 3)
    x = plan.add("add", "embed1.sum", straight, plan.conv("embed1.shortcut", x, width // 4))
    x = _token_block(plan, "stage1", x, heads)
    for stage, part in ((2, 2), (3, 1)):
        at, channels = f"embed{stage}", width // part
        inner = plan.conv(f"{at}.conv2", plan.conv(f"{at}.conv1", x, channels, 3), channels, 3, fires="")
        straight = plan.fire(f"{at}.fire", plan.maximum(f"{at}.pool", inner, 3, 2))
        x = plan.add("add", f"{at}.sum", straight, plan.conv(f"{at}.shortcut", x, channels, 1, 2))
        if stage == 2:
            x = _token_block(plan, "stage2", x, heads)
    for index in range(1, depth - 1):
        at = f"stage3.block{index}"
        x = plan.add("add", f"{at}.sum1", x, _self_attention(plan, at, x, heads, keys_first=True))
        x = plan.add("add", f"{at}.sum2", x, _hidden(plan, at, x))
    plan.head(x, classes)
    return plan


def _token_block(plan: Plan, at: str, x: str, heads: int) -> str:
    """Of every head, the sum of Q at a position fires a mask of K there."""
    width = plan.shapes[x][0]
    q, k = (plan.conv(f"{at}.{name}", x, width) for name in "qk")
    mask = plan.add("reduce", f"{at}.mask", q, axis="channels", groups=heads, fires="spikes")
    masked = plan.add("multiply", f"{at}.attention", k, mask)
    x = plan.add("add", f"{at}.sum1", x, plan.conv(f"{at}.projection", masked, width))
    return plan.add("add", f"{at}.sum2", x, _hidden(plan, at, x))


def spikebert(width: int = 768, depth: int = 12, heads: int = 8, tokens: int = 128) -> Plan:
    """SpikeBERT behind its embedding: a Spikformer over tokens with layer norms in place of batch norms."""
    plan = Plan(weight_bits=6)
    x = plan.input("tokens", Given((width, tokens, 1), "spikes", still=True))

    def layer(name: str, source: str, channels: int) -> str:
        sums = plan.conv(f"{name}.sums", source, channels, fires="")
        return plan.fire(name, plan.add("layer_norm", f"{name}.norm", sums))

    for index in range(1, depth + 1):
        at = f"block{index}"
        q, k, v = (layer(f"{at}.{name}", x, width) for name in "qkv")
        scores = plan.add("matmul", f"{at}.scores", q, k, transpose=True, heads=heads)
        attention = plan.add("matmul", f"{at}.attention", scores, v, heads=heads, fires="spikes")
        x = plan.add("add", f"{at}.sum1", x, layer(f"{at}.projection", attention, width))
        hidden = layer(f"{at}.fc2", layer(f"{at}.fc1", x, 4 * width), width)
        x = plan.add("add", f"{at}.sum2", x, hidden)
    plan.head(plan.add("layer_norm", "head.norm", x), 2)
    return plan


def spikingbert(width: int = 768, depth: int = 4, heads: int = 12, tokens: int = 128) -> Plan:
    """SpikingBERT behind its embedding: Q of integers, K and V of spikes, a softmax, and layer norms of sums."""
    plan = Plan()
    x = plan.input("tokens", Given((width, tokens, 1), "spikes"))
    for index in range(1, depth + 1):
        at = f"block{index}"
        q = plan.conv(f"{at}.q", x, width, fires="")
        k, v = (plan.conv(f"{at}.{name}", x, width) for name in "kv")
        scores = plan.add("matmul", f"{at}.scores", q, k, transpose=True, heads=heads, requantised=True)
        by_head, by_token = (heads, tokens, tokens), (tokens, heads, tokens)
        apart = plan.add("rearrange", f"{at}.apart", scores, view=by_head, order=(1, 0, 2), shape=by_token)
        shares = plan.add("softmax", f"{at}.softmax", apart)
        whole = plan.shapes[scores]
        shares = plan.add("rearrange", f"{at}.shares", shares, view=by_token, order=(1, 0, 2), shape=whole)
        x = _summed(plan, f"{at}.projection", plan.add(
            "matmul", f"{at}.attention", shares, v, heads=heads, fires="spikes"
        ), x)  # fmt: skip
        x = _summed(plan, f"{at}.fc2", plan.conv(f"{at}.fc1", x, 4 * width), x)
    plan.head(x, 2)
    return plan


def _summed(plan: Plan, name: str, source: str, shortcut: str) -> str:
    """A layer, plus the spikes of a shortcut, normalised."""
    sums = plan.conv(f"{name}.sums", source, plan.shapes[shortcut][0], fires="")
    whole = plan.add("add", f"{name}.whole", sums, shortcut)
    return plan.fire(name, plan.add("layer_norm", f"{name}.norm", whole))


def sew_resnet(
    blocks: tuple[int, ...] = (2, 2, 2, 2), bottleneck: bool = False, width: int = 64, side: int = 224,
    classes: int = 1000,
) -> Plan:  # fmt: skip
    """SEW-ResNet with the connection ADD: IF neurons in front of every sum."""
    plan = Plan(kind="if")
    x = plan.conv("conv1", plan.input("pixels", Given((3, side, side), "pixels")), width, 7, 2)
    x = plan.maximum("pool1", x, 3, 2)
    for stage, count in enumerate(blocks):
        channels = width << stage
        for index in range(1, count + 1):
            at, stride = f"layer{stage + 1}.block{index}", 2 if stage and index == 1 else 1
            if bottleneck:
                y = plan.conv(f"{at}.conv2", plan.conv(f"{at}.conv1", x, channels), channels, 3, stride)
                y = plan.conv(f"{at}.conv3", y, 4 * channels)
            else:
                y = plan.conv(f"{at}.conv2", plan.conv(f"{at}.conv1", x, channels, 3, stride), channels, 3)
            if plan.shapes[x] != plan.shapes[y]:
                x = plan.conv(f"{at}.shortcut", x, plan.shapes[y][0], 1, stride)
            x = plan.add("add", f"{at}.sum", y, x)
    plan.head(x, classes)
    return plan


def vgg16(width: int = 64, side: int = 224, hidden: int = 4096, classes: int = 1000) -> Plan:
    """VGG16 with batch norms and three fully connected layers."""
    plan = Plan(kind="if")
    x, number = plan.input("pixels", Given((3, side, side), "pixels")), 0
    for stage, count in enumerate((2, 2, 3, 3, 3)):
        for _ in range(count):
            number += 1
            x = plan.conv(f"conv{number}", x, width << min(stage, 3), 3)
        x = plan.maximum(f"pool{stage + 1}", x, 2, 2)
    x = plan.linear("fc1", x, hidden, fires="spikes")
    plan.linear("fc3", plan.linear("fc2", x, hidden, fires="spikes"), classes)
    return plan


def dvs_gesture(
    channels: int = 128, side: int = 128, hidden: int = 512, classes: int = 11, counts: float = 0.1
) -> Plan:
    """DVSGestureNet: five convolutions with pools, two fully connected layers, and ten votes per class."""
    plan = Plan()
    x = plan.input("events", Given((2, side, side), "counts", mean=counts))
    for index in range(1, 6):
        x = plan.maximum(f"pool{index}", plan.conv(f"conv{index}", x, channels, 3), 2, 2)
    x = plan.linear("fc1", x, hidden, fires="spikes")
    plan.add("reduce", "votes", plan.linear("fc2", x, 10 * classes, fires="spikes"), axis="channels", groups=classes)
    return plan


def recurrent(inputs: int = 700, neurons: int = 256, classes: int = 20) -> Plan:
    """A recurrent layer that reads its own spikes a timestep later, and a leaky read-out."""
    plan = Plan(kind="lif", leak_shift=4, leak_subtracts=True)
    x = plan.linear("current", plan.input("spikes", Given((inputs,), "spikes")), neurons)
    past = plan.linear("feedback", plan.delay("past", "recurrent", (neurons,)), neurons)
    x = plan.add("add", "recurrent", x, past, fires="spikes")
    plan.linear("readout", x, classes, fires="potentials")
    return plan


_PROSPERITY = "Prosperity (HPCA 2025), density_analysis_reference.xlsx of its artifact, bit density"


def _networks() -> dict[str, Published]:
    images = f"{_PIXELS}; {_SPREAD}"
    sew = "SEW-ResNet (Fang et al., NeurIPS 2021), spikingjelly sew_resnet.py; connection ADD"
    density = "no density is published: it is that of"
    resnet = f"{density} ResNet18 on CIFAR-10 in {_PROSPERITY}; {images}"
    sdt = "Spike-driven Transformer (Yao et al., NeurIPS 2023), module/ms_conv.py and sps.py"
    return {
        "spikformer-4-384": Published(
            spikformer, 4, 0.149,
            f"Spikformer (Zhou et al., ICLR 2023), cifar10/model.py, 3 x 32 x 32; density: {_PROSPERITY}", images,
        ),
        "sdt-2-512": Published(
            spike_driven, 4, 0.146, f"{sdt}, CIFAR-10, 3 x 32 x 32; density: {_PROSPERITY}",
            f"the density is that of four blocks, as the artifact runs it; {images}",
        ),
        "sdt-8-512": Published(
            partial(spike_driven, depth=8, pools="1111", side=224, classes=1000), 4, 0.146,
            f"{sdt}, ImageNet, 3 x 224 x 224", f"{density} SDT on CIFAR-10 in {_PROSPERITY}; {images}",
        ),
        "qkformer-4-384": Published(
            qkformer, 4, 0.149, "QKFormer (Zhou et al., NeurIPS 2024), cifar10/model.py, HST-4-384, 3 x 32 x 32",
            f"{density} Spikformer on CIFAR-10 in {_PROSPERITY}; {images}",
        ),
        "spikebert": Published(
            spikebert, 4, 0.132,
            "SpikeBERT (Lv et al., 2023), model/new_spikformer.py and new_distill_spikformer.sh, 12 layers, 768 wide, "
            f"8 heads, 128 tokens, T = 4, a leak of a half; density (SST-2): {_PROSPERITY}",
            "the embedding and the transforms for distillation are left out; the spikes of the embedding are random, "
            "have the density and are the same at every timestep; weights have 6 bits, so that the squares of a layer "
            "norm fit 64",
        ),
        "spikingbert": Published(
            spikingbert, 16, 0.205,
            "SpikingBERT (Bal and Sengupta, AAAI 2024), config.json and snn_bert_modules.py, 4 layers, 768 wide; "
            f"128 tokens and T = 16: simulator/configs.py of Prosperity's artifact; density (SST-2): {_PROSPERITY}",
            "the embedding is left out and its spikes are random with the density; a spike of a shortcut counts as one "
            "unit of the sums; the class is read from the sum over tokens; the leak is a half",
        ),
        "sew-resnet18": Published(sew_resnet, 4, 0.0909, f"{sew}, 3 x 224 x 224", resnet),
        "sew-resnet34": Published(
            partial(sew_resnet, (3, 4, 6, 3)), 4, 0.0909, f"{sew}, 3 x 224 x 224", resnet
        ),
        "sew-resnet50": Published(
            partial(sew_resnet, (3, 4, 6, 3), bottleneck=True), 4, 0.0909, f"{sew}, 3 x 224 x 224", resnet
        ),
        "vgg16-imagenet": Published(
            vgg16, 4, 0.0896, "VGG16 (Simonyan and Zisserman, 2015), spikingjelly spiking_vgg.py, 3 x 224 x 224",
            f"{density} VGG16 on CIFAR-10 in {_PROSPERITY}; {images}",
        ),
        "dvs-gesture": Published(
            dvs_gesture, 20, 0.136,
            "DVSGestureNet (Fang et al., ICCV 2021), spikingjelly parametric_lif_net.py, 2 x 128 x 128, T = 20",
            f"{density} Spikformer on CIFAR10-DVS in {_PROSPERITY}; counts of events have a mean of 0.1 and are "
            f"independent; the leak is a half; {_SPREAD}",
        ),
        "shd": Published(
            recurrent, 100, 0.1,
            "Spiking Heidelberg Digits (Cramer et al., 2022): 700 inputs and 20 classes; a recurrent layer",
            "256 neurons, T = 100, densities of 0.1 (inputs and neurons) and a decay of 15/16",
        ),
    }  # fmt: skip


NETWORKS = _networks()
