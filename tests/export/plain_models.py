"""Networks without spikes as their authors define them, with settled batch-norms and weights that nobody trained."""

from __future__ import annotations

import numpy as np

from tests.export.frameworks import need

torch = need("torch")
nn = torch.nn


def pictures(images, side, seed=0, channels=3):
    """Pixels [I, C, H, W] of smooth pictures, multiples of 1/255."""
    generator = np.random.default_rng(seed)
    coarse = generator.random((images, channels, side // 4, side // 4)).repeat(4, 2).repeat(4, 3)
    return torch.as_tensor(np.round(255 * (0.7 * coarse + 0.3 * generator.random(coarse.shape))) / 255).float()


def settled(model, inputs):
    """``model`` after a batch in training mode, so that batch-norms fit what comes."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(0, 0.3)
    model.train()
    with torch.no_grad():
        model(inputs)
    return model.eval()


def cnn(width=8):
    """A VGG of three stages, as torch's tutorials write one."""
    layers, before = [], 3
    for stage in range(3):
        for _ in range(2):
            layers += [nn.Conv2d(before, width << stage, 3, padding="same"), nn.BatchNorm2d(width << stage), nn.ReLU()]
            before = width << stage
        layers.append(nn.MaxPool2d(2) if stage else nn.AvgPool2d(2))
    head = [nn.Flatten(), nn.Linear(before * 4, 32), nn.ReLU(inplace=True), nn.Dropout(), nn.Linear(32, 10)]
    return settled(nn.Sequential(*layers, *head), pictures(16, 16))


class BasicBlock(nn.Module):
    """The block of torchvision's ResNet-18."""

    def __init__(self, before, planes, stride=1, downsample=None):
        super().__init__()
        self.conv1 = nn.Conv2d(before, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = downsample

    def forward(self, x):
        identity = x
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        if self.downsample is not None:
            identity = self.downsample(x)
        out += identity
        return self.relu(out)


class ResNet18(nn.Module):
    """torchvision's ResNet-18; ``width`` is 64 there."""

    def __init__(self, width=64, classes=10):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1, self.relu, self.maxpool = nn.BatchNorm2d(width), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)
        planes = [width << stage for stage in range(4)]
        before = [width, *planes[:3]]
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            self._stage(one, other, 1 if one == other else 2) for one, other in zip(before, planes, strict=True)
        )
        self.avgpool, self.fc = nn.AdaptiveAvgPool2d((1, 1)), nn.Linear(planes[3], classes)

    def _stage(self, before, planes, stride):
        shortcut = None
        if stride != 1:
            shortcut = nn.Sequential(nn.Conv2d(before, planes, 1, stride, bias=False), nn.BatchNorm2d(planes))
        return nn.Sequential(BasicBlock(before, planes, stride, shortcut), BasicBlock(planes, planes))

    def forward(self, x):
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(torch.flatten(self.avgpool(x), 1))


def resnet18():
    return settled(ResNet18(width=16), pictures(16, 32))


class EncoderBlock(nn.Module):
    """The block of torchvision's ViT."""

    def __init__(self, dim, heads, mlp):
        super().__init__()
        self.ln_1 = nn.LayerNorm(dim, eps=1e-6)
        self.self_attention = nn.MultiheadAttention(dim, heads, dropout=0.1, batch_first=True)
        self.dropout, self.ln_2 = nn.Dropout(0.1), nn.LayerNorm(dim, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(dim, mlp), nn.GELU(), nn.Dropout(0.1), nn.Linear(mlp, dim), nn.Dropout(0.1))

    def forward(self, tokens):
        x = self.ln_1(tokens)
        x, _ = self.self_attention(x, x, x, need_weights=False)
        x = self.dropout(x) + tokens
        return x + self.mlp(self.ln_2(x))


class VisionTransformer(nn.Module):
    """torchvision's ViT: class token, position embedding, encoder; ``dim`` is 768 there."""

    def __init__(self, dim=32, heads=4, depth=2, patch=4, side=16, classes=10, block=EncoderBlock):
        super().__init__()
        self.conv_proj = nn.Conv2d(3, dim, patch, patch)
        self.class_token = nn.Parameter(0.5 * torch.randn(1, 1, dim))
        self.pos_embedding = nn.Parameter(0.2 * torch.randn(1, (side // patch) ** 2 + 1, dim))
        self.dropout = nn.Dropout(0.1)
        self.layers = nn.Sequential(*(block(dim, heads, 2 * dim) for _ in range(depth)))
        self.ln, self.head = nn.LayerNorm(dim, eps=1e-6), nn.Linear(dim, classes)

    def forward(self, x):
        n = x.shape[0]
        x = self.conv_proj(x)
        x = x.reshape(n, x.shape[1], -1).permute(0, 2, 1)
        x = torch.cat([self.class_token.expand(n, -1, -1), x], dim=1)
        x = self.ln(self.layers(self.dropout(x + self.pos_embedding)))
        return self.head(x[:, 0])


def vit():
    return VisionTransformer().eval()


class TimmAttention(nn.Module):
    """Attention as timm and DeiT write it."""

    def __init__(self, dim, heads, fused):
        super().__init__()
        self.heads, self.scale, self.fused = heads, (dim // heads) ** -0.5, fused
        self.qkv, self.proj = nn.Linear(dim, dim * 3), nn.Linear(dim, dim)

    def forward(self, x):
        batch, tokens, dim = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        if self.fused:
            x = nn.functional.scaled_dot_product_attention(q, k, v)
        else:
            x = (q * self.scale @ k.transpose(-2, -1)).softmax(dim=-1) @ v
        return self.proj(x.transpose(1, 2).reshape(batch, tokens, dim))


class TimmBlock(nn.Module):
    """Its block, with the scales of CaiT and DeiT III, and its other GELU."""

    fused = False

    def __init__(self, dim, heads, mlp):
        super().__init__()
        self.norm1, self.attn, self.norm2 = nn.LayerNorm(dim), TimmAttention(dim, heads, self.fused), nn.LayerNorm(dim)
        self.gamma = nn.Parameter(torch.rand(dim))
        self.fc1, self.act, self.fc2 = nn.Linear(dim, mlp), nn.GELU(approximate="tanh"), nn.Linear(mlp, dim)

    def forward(self, x):
        x = x + self.gamma * self.attn(self.norm1(x))
        return x + self.fc2(self.act(self.fc1(self.norm2(x))))


class FusedBlock(TimmBlock):
    """The same with torch's fused attention."""

    fused = True


def deit():
    return VisionTransformer(block=TimmBlock).eval()


def deit_fused():
    return VisionTransformer(block=FusedBlock).eval()


class Encoder(nn.Module):
    """torch's own encoder layers, norms before and after, between patches and a mean over tokens."""

    def __init__(self, dim=32):
        super().__init__()
        options = {"batch_first": True, "dim_feedforward": 64, "activation": "gelu"}
        self.patches = nn.Conv2d(3, dim, 4, 4)
        self.first = nn.TransformerEncoderLayer(dim, 4, norm_first=True, **options)
        self.second = nn.TransformerEncoderLayer(dim, 4, **options)
        self.head = nn.Linear(dim, 10)

    def forward(self, x):
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        return self.head(self.second(self.first(tokens)).mean(1))


def encoder():
    return Encoder().eval()
