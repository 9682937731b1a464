"""A 16-channel, 8x autoencoder in the layout of the host's tiny autoencoder, trainable without the
host.

Module order and names are those that the stock VAE loader knows (`taesd_encoder.*`,
`taesd_decoder.*`, `vae_scale`, `vae_shift`). With scale and shift those of FLUX.1, the raw encoder
output is what the transformer sees after the model's own latent scaling; so it is made near unit
variance.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...reference import LATENT_CHANNELS

DOWNSCALE = 8
FLUX_SCALE, FLUX_SHIFT = 0.3611, 0.1159
"""FLUX.1's latent scaling: the transformer sees (latent - shift) * scale."""

_WIDTH = 64
_PATCH_VALUES = 3 * DOWNSCALE * DOWNSCALE
_SUBPIXELS = ((0, 0), (0, 1), (1, 0), (1, 1))


def _conv(inputs: int, outputs: int, **kwargs) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, **kwargs)


class _Clamp(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x / 3) * 3


class _Block(nn.Module):
    conv: nn.Sequential

    def __init__(self) -> None:
        super().__init__()
        w = _WIDTH
        self.conv = nn.Sequential(_conv(w, w), nn.ReLU(), _conv(w, w), nn.ReLU(), _conv(w, w))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.conv(x) + x)


def _last_conv(block: _Block) -> nn.Conv2d:
    last = block.conv[-1]
    assert isinstance(last, nn.Conv2d)
    return last


def _bias(layer: nn.Conv2d) -> Tensor:
    assert layer.bias is not None
    return layer.bias


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
    """Pictures [B, 3, H, W] in 0..1 to latents [B, 16, H / 8, W / 8] as the transformer sees them.

    The encoder is linear: the first 16 principal components of 8x8 patches (`fit`), which need no
    training. Only the decoder learns. `host_state_dict` writes the same map as convolutions of the
    tiny autoencoder: two space-to-depth steps, the projection, and an offset that carries signed
    values through the ReLUs.
    """

    projection: Tensor
    bias: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.taesd_decoder = _decoder()
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for module in self.modules():
            if isinstance(module, _Block):  # starts as a ReLU alone
                nn.init.zeros_(_last_conv(module).weight)
        self.register_buffer("projection", torch.zeros(LATENT_CHANNELS, _PATCH_VALUES))
        self.register_buffer("bias", torch.zeros(LATENT_CHANNELS))

    @torch.no_grad()
    def fit(self, pictures: Tensor) -> float:
        """Set the encoder to the principal components of uint8 pictures [B, 3, H, W].

        Components are scaled to standard deviations that follow the fourth root of their own:
        nearly white, so that all take part in the flow, with the coarse ahead of the fine.

        Returns:
            The share of the patches' variance that the 16 components hold.
        """
        patches = F.pixel_unshuffle(pictures.float() / 255, DOWNSCALE).movedim(1, -1).flatten(0, -2)
        mean = patches.mean(0)
        values, vectors = torch.linalg.eigh((patches - mean).T @ (patches - mean) / len(patches))
        deviation = values.flip(0)[:LATENT_CHANNELS].sqrt()
        wanted = deviation**0.25
        scale = wanted / wanted.square().mean().sqrt() / deviation
        # rounded as the file holds it, so that training sees the latents of the shipped encoder
        self.projection.copy_((vectors.flip(1)[:, :LATENT_CHANNELS] * scale).T.half().float())
        self.bias.copy_(-self.projection @ mean)
        return float(deviation.square().sum() / values.sum())

    @staticmethod
    def host_scaling() -> tuple[float, float]:
        """(scale, shift): the transformer sees (latent - shift) * scale, as with FLUX.1's VAE."""
        return FLUX_SCALE, FLUX_SHIFT

    def encode(self, pictures: Tensor) -> Tensor:
        patches = F.pixel_unshuffle(pictures.float(), DOWNSCALE)
        with torch.autocast(pictures.device.type, enabled=False):
            return F.conv2d(patches, self.projection[..., None, None], self.bias)

    def decode(self, latents: Tensor) -> Tensor:
        return self.taesd_decoder(latents)

    def host_state_dict(self) -> dict[str, Tensor]:
        """The state dict that the stock VAE loader takes, in float16."""
        encoder = _encoder()
        for parameter in encoder.parameters():
            nn.init.zeros_(parameter)
        with torch.no_grad():
            first, *strided = [m for m in encoder if isinstance(m, nn.Conv2d)]
            first.weight[range(3), range(3), 1, 1] = 1
            for layer, channels in zip(strided, (3, 12)):
                for i, (dy, dx) in enumerate(_SUBPIXELS):
                    layer.weight[range(i, 4 * channels, 4), range(channels), 1 + dy, 1 + dx] = 1
            # rows and columns bit by bit, the finest pair first, as the two steps above nest them
            weight = self.projection.reshape(LATENT_CHANNELS, 3, 2, 2, 2, 2, 2, 2)
            weight = weight.permute(0, 1, 4, 7, 3, 6, 2, 5)
            strided[2].weight[:LATENT_CHANNELS, :48, 1:, 1:] = weight.reshape(-1, 48, 2, 2)
            offset = -self.projection.clamp_max(0).sum(1)
            block = encoder[list(encoder).index(strided[2]) + 1]
            assert isinstance(block, _Block)
            _bias(_last_conv(block))[:LATENT_CHANNELS] = offset
            strided[3].weight[range(LATENT_CHANNELS), range(LATENT_CHANNELS), 1, 1] = 1
            _bias(strided[3]).copy_(self.bias - offset.half().float())
        tensors = {f"taesd_encoder.{k}": v for k, v in encoder.state_dict().items()}
        tensors |= {k: v for k, v in self.state_dict().items() if k.startswith("taesd_decoder.")}
        scaling = {"vae_scale": torch.tensor(FLUX_SCALE), "vae_shift": torch.tensor(FLUX_SHIFT)}
        # the last bias takes the offset away again: float32 keeps their difference exact
        wide = f"taesd_encoder.{len(encoder) - 1}.bias"
        return {k: v.float() if k == wide else v.half() for k, v in tensors.items()} | scaling


def random_crop(pictures: Tensor, size: int) -> Tensor:
    """One random square of `size` pixels out of all pictures [B, 3, H, W]; all of them for 0."""
    if not size:
        return pictures
    top, left = (int(torch.randint(side - size + 1, ())) for side in pictures.shape[-2:])
    return pictures[..., top : top + size, left : left + size]


def reconstruction_loss(
    model: Autoencoder, pictures: Tensor, noise: float
) -> tuple[Tensor, dict[str, Tensor]]:
    """L1 on pixels and on their differences, from noisy latents.

    The noise makes nearby latents decode alike, so that a transformer's small errors stay small in
    the picture; the differences keep edges sharp.

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
    return pixels + 0.5 * edges, {"l1": pixels, "mse": error.square().mean()}
