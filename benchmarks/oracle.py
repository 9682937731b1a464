"""The published method as plainly as its facts read: the oracle of tests and benchmarks.

A loop over branches, projections and adapters per branch, keys concatenated per branch from those
it sees, 2n references in both passes, all adapters computed for every adapted layer (a zero scale
takes out those that a branch does not use; METHOD facts 1-22). Works on the weights of the host's
Flux; shares no code with `refany3d_core`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from comfy.ldm.flux.layers import timestep_embedding
from comfy.ldm.flux.math import apply_rope1
from comfy.ldm.flux.model import Flux
from torch import Tensor

OFFSET = 32


class Branch:
    """One branch of the published sequence: its tokens, modulation, positions and adapters."""

    def __init__(
        self, x: Tensor, vec: Tensor, rotary: Tensor, default: float, coord: float
    ) -> None:
        self.x = x
        self.vec = vec
        self.rotary = rotary
        self.scales = {"default": default, "coord": coord}
        self.bias: Tensor | None = None


class Oracle:
    """Predicts both velocities for given tokens.

    Args:
        model: the host's Flux with plain weights of one dtype.
        loras: "default" and "coord", state dicts with the official keys.
        embedder: state dict of the domain embedder.
    """

    def __init__(
        self, model: Flux, loras: dict[str, dict[str, Tensor]], embedder: dict[str, Tensor]
    ) -> None:
        self.model = model
        dtype = model.img_in.weight.dtype
        self.loras = {
            name: {key: tensor.to(dtype) for key, tensor in lora.items()}
            for name, lora in loras.items()
        }
        self.embedder = {key: tensor.to(dtype) for key, tensor in embedder.items()}

    def predict(
        self, x: Tensor, timestep: Tensor, text: Tensor, pooled: Tensor, guidance: Tensor,
        references: Tensor, masked: bool, kept: Sequence[Sequence[int]] = (),
        weights: Sequence[Sequence[float]] = (),
    ) -> Tensor:  # fmt: skip
        """Velocity [1, 16, H, 2 W] of one pass.

        Args:
            x: joint latent [1, 16, H, 2 W].
            timestep: [1].
            text: [1, T, C].
            pooled: [1, V].
            guidance: [1].
            references: [2n, 16, h, w], RGB views first.
            masked: the conditional pass' group mask; else all see all.
            kept: numbers of each view's tokens that stay, or () for all.
            weights: how much the keys of these tokens count.
        """
        views = len(references) // 2
        branches = self._branches(x, timestep, text, pooled, guidance, references)
        for i, branch in enumerate(branches[3:] if kept else ()):
            tokens = list(kept[i % views])
            branch.x, branch.rotary = branch.x[:, tokens], branch.rotary[:, :, tokens]
            branch.bias = torch.tensor(weights[i % views]).log().to(branch.x)
        sees = [self._visible(i, views, masked) for i in range(len(branches))]
        for i in range(len(self.model.double_blocks)):
            self._double(i, branches, sees)
        for i in range(len(self.model.single_blocks)):
            self._single(i, branches, sees)
        out = []
        for branch in branches[1:3]:
            final = self.model.final_layer
            shift, scale = F.linear(
                F.silu(branch.vec), final.adaLN_modulation[1].weight, final.adaLN_modulation[1].bias
            ).chunk(2, dim=-1)
            out.append(final.linear(_norm(branch.x) * (1 + scale[:, None]) + shift[:, None]))
        height, width = x.shape[-2] // 2, x.shape[-1] // 4
        panels = [
            tokens.reshape(1, height, width, 16, 2, 2).permute(0, 3, 1, 4, 2, 5)
            .reshape(1, 16, 2 * height, 2 * width)
            for tokens in out
        ]  # fmt: skip
        return torch.cat(panels, dim=-1)

    @staticmethod
    def _visible(query: int, views: int, masked: bool) -> list[int]:
        everything = list(range(3 + 2 * views))
        if not masked or query < 2:
            return everything
        if query == 2:
            return everything[1:]
        view = (query - 3) % views
        return [0, 1, 2, 3 + view, 3 + views + view]

    def _lora(self, name: str, x: Tensor, scales: dict[str, float]) -> Tensor | float:
        total: Tensor | float = 0.0
        for adapter, lora in self.loras.items():
            down = lora[f"transformer.{name}.lora_A.weight"]
            up = lora[f"transformer.{name}.lora_B.weight"]
            total = total + scales[adapter] * F.linear(F.linear(x, down), up)
        return total

    def _linear(self, layer, name: str, x: Tensor, scales: dict, rows=slice(None)) -> Tensor:
        bias = layer.bias[rows] if layer.bias is not None else None
        return F.linear(x, layer.weight[rows], bias) + self._lora(name, x, scales)

    def _branches(self, x, timestep, text, pooled, guidance, references) -> list[Branch]:
        model, dtype = self.model, text.dtype
        rgb, point_map = x.chunk(2, dim=-1)
        views = len(references) // 2

        def modulation(t: Tensor, g: Tensor, tag: int | None) -> Tensor:
            vec = model.time_in(timestep_embedding(t, 256).to(dtype))
            vec = vec + model.guidance_in(timestep_embedding(g, 256).to(dtype))
            vec = vec + model.vector_in(pooled)
            if tag is None:
                return vec
            e = self.embedder
            hidden = F.silu(F.linear(e["0.weight"][tag], e["1.weight"], e["1.bias"]))
            return vec + F.linear(hidden, e["3.weight"], e["3.bias"])

        def rotary(ids: Tensor) -> Tensor:
            return model.pe_embedder(ids[None].to(x.device))

        def grid(latent: Tensor, shift: int = 0) -> Tensor:
            rows, columns = latent.shape[-2] // 2, latent.shape[-1] // 2
            ids = torch.zeros(rows, columns, 3)
            ids[..., 1] += torch.arange(rows)[:, None]
            ids[..., 2] += torch.arange(columns) + shift
            return ids.reshape(-1, 3)

        def embed(latent: Tensor, default: float, coord: float) -> Tensor:
            b, c, h, w = latent.shape
            tokens = latent.reshape(b, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5)
            tokens = tokens.reshape(b, h * w // 4, 4 * c)
            return self._linear(
                model.img_in, "x_embedder", tokens, {"default": default, "coord": coord}
            )

        clean, plain = torch.zeros_like(timestep), torch.ones_like(guidance)
        no_ids = torch.zeros(text.shape[1], 3)
        out = [
            Branch(model.txt_in(text), modulation(timestep, guidance, None), rotary(no_ids), 0, 0)
        ]
        for domain, latent in enumerate((rgb, point_map)):
            vec = modulation(timestep, guidance, domain)
            out.append(Branch(embed(latent, 0, domain), vec, rotary(grid(rgb)), 0, domain))
        for i in range(len(references)):
            latent = references[i : i + 1]
            domain = int(i >= views)
            ids = rotary(grid(latent, -OFFSET))
            vec = modulation(clean, plain, domain)
            out.append(Branch(embed(latent, 1, domain), vec, ids, 1, domain))
        return out

    def _attend(
        self, qkv: list[tuple[Tensor, Tensor, Tensor]], sees: list[list[int]], branches: list
    ) -> list:
        bias = [b.x.new_zeros(b.x.shape[1]) if b.bias is None else b.bias for b in branches]
        weighed = any(b.bias is not None for b in branches)
        out = []
        for i, (q, _, _) in enumerate(qkv):
            k = torch.cat([qkv[j][1] for j in sees[i]], dim=2)
            v = torch.cat([qkv[j][2] for j in sees[i]], dim=2)
            mask = torch.cat([bias[j] for j in sees[i]])[None] if weighed else None
            answer = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
            out.append(answer.transpose(1, 2).flatten(2))
        return out

    def _heads(self, x: Tensor, norm=None, rotary: Tensor | None = None) -> Tensor:
        x = x.unflatten(-1, (self.model.num_heads, -1)).transpose(1, 2)
        if norm is not None:
            x = apply_rope1(norm(x), rotary)
        return x

    def _double(self, index: int, branches: list[Branch], sees: list[list[int]]) -> None:
        block, name = self.model.double_blocks[index], f"transformer_blocks.{index}"
        width = self.model.hidden_size
        qkv, modulations = [], []
        for i, b in enumerate(branches):
            if i == 0:
                modulation = block.txt_mod.lin(F.silu(b.vec))
                stream = block.txt_attn
            else:
                modulation = self._linear(
                    block.img_mod.lin, f"{name}.norm1.linear", F.silu(b.vec), b.scales
                )
                stream = block.img_attn
            m = modulation[:, None].chunk(6, dim=-1)
            modulations.append(m)
            normed = _norm(b.x) * (1 + m[1]) + m[0]
            parts = []
            for j, letter in enumerate("qkv"):
                rows = slice(j * width, (j + 1) * width)
                if i == 0:
                    bias = stream.qkv.bias[rows]
                    parts.append(F.linear(normed, stream.qkv.weight[rows], bias))
                else:
                    parts.append(
                        self._linear(stream.qkv, f"{name}.attn.to_{letter}", normed, b.scales, rows)
                    )
            norm = stream.norm
            qkv.append(
                (
                    self._heads(parts[0], norm.query_norm, b.rotary),
                    self._heads(parts[1], norm.key_norm, b.rotary),
                    self._heads(parts[2]),
                )
            )
        attended = self._attend(qkv, sees, branches)
        del qkv
        for i, b in enumerate(branches):
            m = modulations[i]
            if i == 0:
                b.x = b.x + m[2] * block.txt_attn.proj(attended[i])
                b.x = b.x + m[5] * block.txt_mlp(_norm(b.x) * (1 + m[4]) + m[3])
            else:
                out = self._linear(
                    block.img_attn.proj, f"{name}.attn.to_out.0", attended[i], b.scales
                )
                b.x = b.x + m[2] * out
                hidden = block.img_mlp[1](block.img_mlp[0](_norm(b.x) * (1 + m[4]) + m[3]))
                out = self._linear(block.img_mlp[2], f"{name}.ff.net.2", hidden, b.scales)
                b.x = b.x + m[5] * out

    def _single(self, index: int, branches: list[Branch], sees: list[list[int]]) -> None:
        block, name = self.model.single_blocks[index], f"single_transformer_blocks.{index}"
        width = self.model.hidden_size
        qkv, mlps, gates = [], [], []
        for b in branches:
            modulation = self._linear(
                block.modulation.lin, f"{name}.norm.linear", F.silu(b.vec), b.scales
            )
            shift, scale, gate = modulation[:, None].chunk(3, dim=-1)
            gates.append(gate)
            normed = _norm(b.x) * (1 + scale) + shift
            parts = [
                self._linear(
                    block.linear1, f"{name}.attn.to_{letter}", normed, b.scales,
                    slice(j * width, (j + 1) * width),
                )
                for j, letter in enumerate("qkv")
            ]  # fmt: skip
            rows = slice(3 * width, None)
            mlp = self._linear(block.linear1, f"{name}.proj_mlp", normed, b.scales, rows)
            mlps.append(block.mlp_act(mlp))
            qkv.append(
                (
                    self._heads(parts[0], block.norm.query_norm, b.rotary),
                    self._heads(parts[1], block.norm.key_norm, b.rotary),
                    self._heads(parts[2]),
                )
            )
        attended = self._attend(qkv, sees, branches)
        del qkv
        for b, out, mlp, gate in zip(branches, attended, mlps, gates):
            joined = torch.cat([out, mlp], dim=-1)
            b.x = b.x + gate * self._linear(block.linear2, f"{name}.proj_out", joined, b.scales)


def _norm(x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], eps=1e-6)
