"""The stages before the adapters: autoencoder, and base with text encoder, from nothing."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from comfy.ldm.flux.model import Flux
from torch import Tensor, nn

from ...host.small_text import TextEncoder, Tokenizer
from ...host.train import differentiable, training_attention
from ...int8_rows import quantise_rows
from ...reference import LATENT_CHANNELS
from ..cache import EncodedTriplets, encode_pictures
from ..checkpoint import load_metadata, load_tensors, save_tensors
from ..config import BaseConfig, Config
from ..loop import Loop
from ..models import Encoders, Models, load_small
from ..objectives import TRAINING_GUIDANCE, noisy
from ..pictures import save_grid
from ..refany3d import autocast
from ..sources import source_of, texts_of
from .autoencoder import Autoencoder, random_crop, reconstruction_loss
from .vocabulary import world_vocabulary
from .world.scenes import MAP_TEMPLATE

if TYPE_CHECKING:
    from accelerate import Accelerator

log = logging.getLogger(__name__)

PATCH = 2
AXES, THETA, HEAD_WIDTH = (16, 56, 56), 10000, 128
"""Of FLUX.1's rotary embedding and heads."""


class SmallRun:
    """The small model's own stages in a run's folder.

    Args:
        config: the run.
        folder: where files go and finished stages are found.
        accelerator: the processes that train together.
    """

    def __init__(self, config: Config, folder: Path, accelerator: Accelerator) -> None:
        self.config, self.folder, self.accelerator = config, folder, accelerator
        self.device = accelerator.device

    # Stage 1a
    def autoencoder(self) -> Autoencoder:
        """The trained autoencoder.

        Raises:
            ValueError: it is not trained.
        """
        path, basis = self._autoencoder_files()
        if not path.is_file() or not basis.is_file():
            raise ValueError(
                f"'{self.folder}' has no autoencoder: train the stage autoencoder first"
            )
        tensors = {**load_tensors(basis), **load_tensors(path)}
        model = Autoencoder()
        model.load_state_dict({k: tensors[k].float() for k in model.state_dict()})
        return model.requires_grad_(False).to(self.device)

    def _autoencoder_files(self) -> tuple[Path, Path]:
        return self.folder / "autoencoder.safetensors", self.folder / "patch_basis.safetensors"

    def train_autoencoder(self) -> None:
        """Fit the encoder, train the decoder, write both as the stock VAE loader takes them."""
        config = self.config.autoencoder
        path, basis = self._autoencoder_files()
        if config is None or path.is_file():
            return
        model = Autoencoder().to(self.device)
        # torch 2.11 has no type for it, 2.14 has.
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload, unused-ignore]
        pool = self._pool(config.pool)
        if basis.is_file():
            model.load_state_dict(load_tensors(basis), strict=False)
        else:
            log.info("16 components hold %.4f of the variance", model.fit(pool))
            if self.accelerator.is_main_process:
                save_tensors(basis, {"projection": model.projection, "bias": model.bias})
        bfloat16 = self.config.cpu_bfloat16

        def step(number: int) -> tuple[Tensor, Mapping[str, Tensor]]:
            torch.manual_seed(self.config.seed + 1_000_003 * number)
            rows = torch.randint(len(pool), (config.batch,), device=pool.device)
            pictures = random_crop(pool[rows], config.crop).to(self.device).float().div(255)
            pictures = pictures.contiguous(memory_format=torch.channels_last)
            with autocast(self.device, bfloat16):
                loss, values = reconstruction_loss(model, pictures, config.noise)
            loss.backward()
            return loss, values

        def show(name: str) -> None:
            pictures = pool[:: max(1, len(pool) // 24)][:24].to(self.device).float() / 255
            with torch.no_grad(), autocast(self.device, bfloat16):
                decoded = model.decode(model.encode(pictures)).float()
            both = torch.stack([pictures, decoded], 1)
            save_grid(
                self.folder / "samples" / f"{name}.png", both.flatten(0, 1).unflatten(0, (-1, 8))
            )

        named = {f"autoencoder.{n}": p for n, p in model.named_parameters() if p.requires_grad}
        loop = Loop("autoencoder", config, named, step, self.folder, self.accelerator, show)
        loop.resume()
        log.info("autoencoder: %s", loop.run())
        if self.accelerator.is_main_process:
            save_tensors(path, model.host_state_dict())
        self.accelerator.wait_for_everyone()

    def _pool(self, assets: int) -> Tensor:
        """Pictures of both domains of about so many assets, and some black ones, uint8."""
        source = source_of(self.config, "train")
        pool: list[Tensor] = []
        count = 0
        for i in range(source.chunks):
            chunk = source.make(i)
            pool += [chunk.views[:, :, :2].flatten(0, 2), chunk.targets[:, :4].flatten(0, 2)]
            count += len(chunk.views)
            if count >= assets:
                break
        black = torch.zeros_like(pool[0][:1]).expand(max(1, count // 50), -1, -1, -1)
        return torch.cat([*pool, black])

    def encoders(self) -> Encoders:
        """The autoencoder's own linear encoder, far faster than its copy in the host's layout, and
        the trained text encoder where there is one."""
        model = self.autoencoder()
        scale, shift = model.host_scaling()
        texts = self.folder / "text_encoder.safetensors"
        name = json.dumps([round(float(x), 5) for x in model.projection[:4, :8].flatten()])

        def pictures(values: Tensor) -> Tensor:
            latents = model.encode(values.to(self.device).float() / 255)
            return latents / scale + shift

        def captions(values: list[str]) -> list[tuple[Tensor, Tensor]]:
            if not texts.is_file():
                raise ValueError(f"'{self.folder}' has no text encoder: train the stage base first")
            encoder, tokenizer = load_text_encoder(texts)
            context, pooled = encoder(torch.tensor([tokenizer(c) for c in values]))
            return list(zip(context, pooled))

        made = load_tensors(texts)["token.weight"].flatten()[:8].tolist() if texts.is_file() else []
        return Encoders(pictures, captions, f"linear {name}", f"small {made}")

    # Stage 1b
    def train_base(self, cache: Path) -> None:
        """Text-to-image flow matching on single pictures of both domains, from nothing."""
        config = self.config.base
        path = self.folder / "base.safetensors"
        text_path = self.folder / "text_encoder.safetensors"
        if config is None or path.is_file() and text_path.is_file():
            return
        source = source_of(self.config, "train")
        data = EncodedTriplets(encode_pictures(source, self.encoders(), cache))
        torch.manual_seed(self.config.seed)
        tokenizer = Tokenizer(world_vocabulary(texts_of(self.config)))
        text = TextEncoder(len(tokenizer.vocabulary), config.text_width).to(self.device)
        model = new_flux(config).to(self.device)
        scale, shift = self.autoencoder().host_scaling()
        step = BaseStep(
            config, model, text, tokenizer, data, self.config.seed,
            lambda x: (x - shift) * scale, self.device, self.config.cpu_bfloat16,
        )  # fmt: skip
        named = {
            **{f"base.{n}": p for n, p in model.named_parameters() if p.requires_grad},
            **{f"text.{n}": p for n, p in text.named_parameters()},
        }
        loop = Loop("base", config, named, step, self.folder, self.accelerator)
        loop.resume()
        log.info("base: %s", loop.run())
        if self.accelerator.is_main_process:
            tensors = {k: v.half() for k, v in text.state_dict().items()}
            save_tensors(text_path, tensors, {"vocabulary": json.dumps(tokenizer.vocabulary)})
            save_tensors(path, quantise_rows(model.state_dict()))
        self.accelerator.wait_for_everyone()

    def models(self, start: str = "") -> Models:
        """What the adapters are trained on: the folder's models, the base of another variant if it
        trained one."""
        base = self.folder / start / "base.safetensors" if start else None
        if base is not None and not base.is_file():
            base = None
        return load_small(self.folder, base, self.encoders())


def load_text_encoder(path: Path) -> tuple[TextEncoder, Tokenizer]:
    """A small model's text encoder and its words."""
    vocabulary = json.loads(load_metadata(path)["vocabulary"])
    tensors = load_tensors(path)
    encoder = TextEncoder(len(vocabulary), tensors["position"].shape[1])
    encoder.load_state_dict({k: v.float() for k, v in tensors.items()})
    return encoder.requires_grad_(False).eval(), Tokenizer(vocabulary)


def new_flux(config: BaseConfig) -> Flux:
    """The host's Flux at the small sizes, initialised for training from nothing.

    Gates and output start at zero. A model trained from nothing is not guidance-distilled, so its
    guidance embedding, which the architecture has, is held at zero: any guidance value gives the
    same prediction.
    """
    import comfy.ops

    model = Flux(
        image_model="flux",
        in_channels=LATENT_CHANNELS,
        patch_size=PATCH,
        out_channels=LATENT_CHANNELS,
        vec_in_dim=config.text_width,
        context_in_dim=config.text_width,
        hidden_size=config.hidden,
        mlp_ratio=4.0,
        num_heads=config.hidden // HEAD_WIDTH,
        depth=config.double_blocks,
        depth_single_blocks=config.single_blocks,
        axes_dim=list(AXES),
        theta=THETA,
        txt_ids_dims=[],
        qkv_bias=True,
        guidance_embed=True,
        dtype=torch.float32,
        operations=comfy.ops.disable_weight_init,
    )
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
        elif name.endswith(("query_norm", "key_norm")):
            nn.init.ones_(next(module.parameters()))
    for name, parameter in model.named_parameters():
        if name.endswith((".lin.weight", "final_layer.linear.weight")) or name in (
            "final_layer.adaLN_modulation.1.weight",
            "guidance_in.out_layer.weight",
        ):
            nn.init.zeros_(parameter)
        elif name.startswith(("time_in", "vector_in", "guidance_in")) and parameter.ndim == 2:
            nn.init.normal_(parameter, std=0.02)
    model.guidance_in.requires_grad_(False)
    return model


class BaseStep:
    """A step of the base: the host's own forward on single pictures.

    Args:
        config: the stage.
        model: the host's Flux.
        text: the text encoder, trained along.
        tokenizer: its words.
        data: encoded triplets.
        seed: of what is drawn.
        to_model: latents as the VAE gives them to those that the transformer sees.
        device: where it trains.
        bfloat16: see `autocast`.
    """

    def __init__(
        self,
        config: BaseConfig,
        model: Flux,
        text: TextEncoder,
        tokenizer: Tokenizer,
        data: EncodedTriplets,
        seed: int,
        to_model: Callable[[Tensor], Tensor],
        device: torch.device,
        bfloat16: bool,
    ) -> None:
        self.config, self.model, self.text = config, model, text
        self.tokenizer, self.data, self.seed = tokenizer, data, seed
        self.to_model, self.device, self.bfloat16 = to_model, device, bfloat16

    def __call__(self, number: int) -> tuple[Tensor, Mapping[str, Tensor]]:
        draw = torch.Generator().manual_seed(self.seed * 1_000_000_007 + number)
        config, assets = self.config, self.data.assets
        pictures, captions = [], []
        for row in torch.randint(len(assets), (config.batch,), generator=draw).tolist():
            asset = assets[row]
            scene = int(torch.randint(len(asset.captions), (), generator=draw))
            domain = int(torch.rand((), generator=draw) < config.map_share)
            kept = bool(torch.rand((), generator=draw) >= config.text_drop)
            caption = MAP_TEMPLATE.format(kind=asset.kind) if domain else asset.captions[scene]
            pictures.append(self.data.target(asset, scene)[domain])
            captions.append(self.tokenizer(caption if kept else ""))
        clean = self.to_model(torch.stack(pictures).to(self.device))
        noise = torch.randn(clean.shape, generator=draw).to(self.device)
        t = torch.randn(len(clean), generator=draw).sigmoid().to(self.device)
        x, velocity = noisy(clean, noise, t)
        options = {"optimized_attention_override": training_attention}
        with differentiable(self.model), autocast(self.device, self.bfloat16):
            context, pooled = self.text(torch.tensor(captions, device=self.device))
            guidance = torch.full_like(t, TRAINING_GUIDANCE)
            out = self.model(x, t, context, pooled, guidance, transformer_options=options)
            loss = F.mse_loss(out.float(), velocity)
        loss.backward()
        return loss, {}
