"""A 16-channel, 8x autoencoder in the layout of the host's tiny autoencoder, trainable without the host.

Module order and names are those that the stock VAE loader knows (`taesd_encoder.*`, `taesd_decoder.*`,
`vae_scale`, `vae_shift`). With scale and shift those of FLUX.1, the raw encoder output is what the
transformer sees after the model's own latent scaling; so training holds it near unit variance.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

LATENT_CHANNELS = 16
DOWNSCALE = 8
FLUX_SCALE, FLUX_SHIFT = 0.3611, 0.1159
"""FLUX.1's latent scaling: the transformer sees (latent - shift) * scale."""

_WIDTH = 64


def _conv(inputs: int, outputs: int, **kwargs) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, **kwargs)


class _Clamp(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x / 3) * 3


class _Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        w = _WIDTH
        self.conv = nn.Sequential(_conv(w, w), nn.ReLU(), _conv(w, w), nn.ReLU(), _conv(w, w))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.conv(x) + x)


def _encoder() -> nn.Sequential:
    layers: list[nn.Module] = [_conv(3, _WIDTH), _Block()]
    for _ in range(3):
        layers += [_conv(_WIDTH, _WIDTH, stride=2, bias=False), _Block(), _Block(), _Block()]
    return nn.Sequential(*layers, _conv(_WIDTH, LATENT_CHANNELS))


def _decoder() -> nn.Sequential:
    layers: list[nn.Module] = [_Clamp(), _conv(LATENT_CHANNELS, _WIDTH), nn.ReLU()]
    for _ in range(3):
        up = [nn.Upsample(scale_factor=2), _conv(_WIDTH, _WIDTH, bias=False)]
        layers += [_Block(), _Block(), _Block(), *up]
    return nn.Sequential(*layers, _Block(), _conv(_WIDTH, 3))


class Autoencoder(nn.Module):
    """Pictures [B, 3, H, W] in 0..1 to latents [B, 16, H / 8, W / 8] as the transformer sees them."""

    def __init__(self) -> None:
        super().__init__()
        self.taesd_encoder = _encoder()
        self.taesd_decoder = _decoder()

    def encode(self, pictures: Tensor) -> Tensor:
        return self.taesd_encoder(pictures)

    def decode(self, latents: Tensor) -> Tensor:
        return self.taesd_decoder(latents)

    def host_state_dict(self) -> dict[str, Tensor]:
        """The state dict that the stock VAE loader takes, in float16."""
        tensors = {k: v.detach().half() for k, v in self.state_dict().items()}
        scaling = {"vae_scale": torch.tensor(FLUX_SCALE), "vae_shift": torch.tensor(FLUX_SHIFT)}
        return {**tensors, **scaling}


def reconstruction_loss(
    model: Autoencoder, pictures: Tensor, noise: float
) -> tuple[Tensor, dict[str, Tensor]]:
    """L1 on pixels and on their differences, with a noisy latent kept near unit variance.

    The noise makes nearby latents decode alike, so that a transformer's small errors stay small in the
    picture; the differences keep edges sharp.

    Args:
        model: the autoencoder.
        pictures: [B, 3, H, W] in 0..1, of both domains.
        noise: standard deviation of the noise added to latents.
    """
    latents = model.encode(pictures)
    decoded = model.decode(latents + noise * torch.randn_like(latents)).float()
    error = decoded - pictures
    pixels = error.abs().mean()
    edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    stats = latents.float()
    mean, var = stats.mean((0, 2, 3)), stats.var((0, 2, 3))
    scale = (mean.square() + (var.clamp_min(1e-4).sqrt() - 1).square()).mean()
    tails = (stats.abs() - 3).clamp_min(0).square().mean()
    loss = pixels + 0.5 * edges + 0.05 * scale + 0.1 * tails
    return loss, {"l1": pixels, "latent_scale": scale, "mse": error.square().mean()}
