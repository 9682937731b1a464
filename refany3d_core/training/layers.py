"""Layers of Flux with the original names of their parameters; the arithmetic is in
`transformer`."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HEAD_WIDTH = 128
MLP_RATIO = 4
RMS_EPS = 1e-6


class Embedder(nn.Module):
    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.in_layer = nn.Linear(inputs, hidden)
        self.out_layer = nn.Linear(hidden, hidden)

    def forward(self, x: Tensor) -> Tensor:
        return self.out_layer(F.silu(self.in_layer(x)))


class Modulation(nn.Module):
    def __init__(self, hidden: int, parts: int) -> None:
        super().__init__()
        self.lin = nn.Linear(hidden, parts * hidden)


class Scale(nn.Module):
    """RMSNorm with the original name of its weight."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(HEAD_WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x.float(), (HEAD_WIDTH,), self.scale.float(), RMS_EPS)


class QKNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.query_norm, self.key_norm = Scale(), Scale()


class SelfAttention(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(hidden, 3 * hidden)
        self.norm = QKNorm()
        self.proj = nn.Linear(hidden, hidden)


def mlp(hidden: int) -> nn.Sequential:
    wide = MLP_RATIO * hidden
    return nn.Sequential(
        nn.Linear(hidden, wide), nn.GELU(approximate="tanh"), nn.Linear(wide, hidden)
    )


class DoubleBlock(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.img_mod, self.txt_mod = Modulation(hidden, 6), Modulation(hidden, 6)
        self.img_attn, self.txt_attn = SelfAttention(hidden), SelfAttention(hidden)
        self.img_mlp, self.txt_mlp = mlp(hidden), mlp(hidden)


class SingleBlock(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.modulation = Modulation(hidden, 3)
        self.linear1 = nn.Linear(hidden, (3 + MLP_RATIO) * hidden)
        self.norm = QKNorm()
        self.linear2 = nn.Linear((1 + MLP_RATIO) * hidden, hidden)


class LastLayer(nn.Module):
    def __init__(self, hidden: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(hidden, outputs)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(hidden, 2 * hidden))
