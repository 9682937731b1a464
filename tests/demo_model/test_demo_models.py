"""The bundled small model through the pack's nodes: it loads, and its pictures mean something."""

import io
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import trimesh

from refany3d_core.asset.load import load_bytes
from refany3d_core.host.small_text import TextEncoder, Tokenizer
from refany3d_core.pointmap.consistency import SurfaceColors
from refany3d_core.training.checkpoint import load_metadata, load_tensors
from refany3d_core.training.evaluation.fidelity import measure
from refany3d_core.training.small.world.assets import make_assets
from refany3d_core.training.small.world.mesh import asset_glb

FOLDER = Path(__file__).resolve().parents[2] / "demo_model"
SIZE, VIEWS, STEPS, COUNT = 96, 4, 12, 6


class Demo:
    """The loader's outputs, and the graph behind it in one call."""

    def __init__(self, nodes: dict) -> None:
        self.nodes = nodes
        loaded = nodes["RefAny3D_LoadDemoModels"].execute().result
        self.model, self.clip, self.vae, self.adapters = loaded

    def encode(self, prompt: str):
        from nodes import CLIPTextEncode

        return CLIPTextEncode().encode(self.clip, prompt)[0]

    def reference(self, glb: bytes):
        mesh = trimesh.load(io.BytesIO(glb), file_type="glb", force="mesh")
        views = self.nodes["RefAny3D_RenderViews"].execute(mesh, VIEWS, SIZE).result
        encoder = self.nodes["RefAny3D_EncodeReferences"]
        return encoder.execute(self.vae, views[0], views[1]).result[0]

    def make(self, reference, prompt: str, seed: int, latent=None) -> tuple[np.ndarray, np.ndarray]:
        with torch.inference_mode():  # as the host runs nodes
            halves = self.nodes["RefAny3D_Sampler"].execute(
                self.model, self.adapters, reference, self.encode(prompt), seed, SIZE, SIZE,
                STEPS, latent=latent,
            ).result  # fmt: skip
            decoded = [self.vae.decode(x["samples"])[0].float().numpy() for x in halves]
        return tuple(np.clip(x, 0, 1) for x in decoded)


@pytest.fixture(scope="module")
def demo(pack) -> Demo:
    return Demo(pack.nodes)


@pytest.fixture(scope="module")
def subjects(demo) -> list[SimpleNamespace]:
    table = make_assets(0, "held_out", COUNT)
    found = []
    for i in range(COUNT):
        glb = asset_glb(table, i)
        asset = load_bytes(glb, "glb")
        surface = SurfaceColors(asset)
        found.append(SimpleNamespace(name=table.name(i), glb=glb, asset=asset, surface=surface))
    return found


def test_it_is_small():
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) < 25e6


def test_stock_text_encoding_is_the_trainers(demo):
    path = FOLDER / "text_encoder.safetensors"
    vocabulary = json.loads(load_metadata(path)["vocabulary"])
    tensors = load_tensors(path)
    encoder = TextEncoder(len(vocabulary), tensors["position"].shape[1]).eval()
    encoder.load_state_dict({k: v.float() for k, v in tensors.items()})
    prompt = "a mushroom on grass in front of snowy mountains"
    with torch.no_grad():
        wanted, _ = encoder(torch.tensor([Tokenizer(vocabulary)(prompt)]))
    ((found, options),) = demo.encode(prompt)
    assert torch.allclose(found, wanted, atol=1e-5)
    assert not options["pooled_output"].any()


def test_weights_of_words_are_heard(demo):
    words = ("grass", "(grass:1.0)", "(grass:1.5)")
    plain, same, strong = (demo.encode(f"a mushroom on {word}")[0][0] for word in words)
    assert torch.allclose(plain, same, atol=1e-6)
    assert (strong - plain).abs().max() > 1e-2


def test_the_picture_shows_the_asset_that_was_given(demo, subjects):
    """Held-out assets: their own references make their own colours, another asset's do not."""
    rows = {"right": [], "wrong": []}
    for i, subject in enumerate(subjects):
        prompt = f"a {subject.name} on grass in front of a blue sky"
        for kind, other in (("right", subject), ("wrong", subjects[(i + 1) % COUNT])):
            image, point_map = demo.make(demo.reference(other.glb), prompt, seed=i)
            found = measure(image, point_map, subject.asset, subject.surface, 45.0)
            rows[kind].append(found.values)
    mean = {k: {m: np.nanmean([row[m] for row in v]) for m in v[0]} for k, v in rows.items()}
    assert mean["right"]["colour_error"] < 0.75 * mean["wrong"]["colour_error"]
    assert mean["right"]["subject_iou"] > 0.6
