"""The columns by pretrained networks, on small configurations of the real architectures."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from refany3d_core.asset import Camera, load_asset, look_at, render
from refany3d_core.asset.views import render_reference_views
from refany3d_core.training.evaluation.learned_measures import (
    Compared,
    clip_image_similarity,
    dino_similarity,
    lite_features,
    lpips_distance,
    ranks,
)
from refany3d_core.training.evaluation.matching import (
    match_count,
    matcher_of,
    matching_error,
)

ROOT = Path(__file__).resolve().parents[2]
SMALL = {
    "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
    "image_size": 32, "patch_size": 8,
}  # fmt: skip


@pytest.fixture
def pictures() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.random((40, 40, 3), np.float32), np.linspace(0, 1, 4800).reshape(40, 40, 3)


def processor(transformers):
    side = {"height": 32, "width": 32}
    return transformers.CLIPImageProcessor(size=side, crop_size=side, do_center_crop=False)


def cosine(transformers, features, pictures) -> float:
    """Of the features that `features` makes of the processor's pixels."""
    pixels = [(x * 255).round().astype(np.uint8) for x in pictures]
    with torch.no_grad():
        inputs = processor(transformers)(images=pixels, return_tensors="pt")
        one, two = torch.nn.functional.normalize(features(inputs), dim=-1)
    return float(one @ two)


@pytest.mark.parametrize("part", ["whole", "vision"])
def test_clip_image_similarity_is_the_cosine_of_its_embeddings(tmp_path, pictures, part):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    if part == "whole":
        text = {k: v for k, v in SMALL.items() if k not in ("image_size", "patch_size")}
        config = transformers.CLIPConfig(
            vision_config={**SMALL, "projection_dim": 8},
            text_config={**text, "vocab_size": 99, "projection_dim": 8},
            projection_dim=8,
        )
        model = transformers.CLIPModel(config).eval()
        features = lambda x: model.visual_projection(model.vision_model(**x).pooler_output)
    else:
        config = transformers.CLIPVisionConfig(**SMALL, projection_dim=8)
        model = transformers.CLIPVisionModelWithProjection(config).eval()
        features = lambda x: model(**x).image_embeds
    model.save_pretrained(tmp_path)
    processor(transformers).save_pretrained(tmp_path)
    measure = clip_image_similarity(tmp_path, "cpu")
    a, b = pictures
    assert measure(Compared(a, np.stack([a]), ""))["clip_i"] == pytest.approx(1, abs=1e-5)
    wanted = cosine(transformers, features, pictures)
    assert measure(Compared(a, np.stack([b]), ""))["clip_i"] == pytest.approx(wanted, abs=1e-4)
    # the best of the views counts
    assert measure(Compared(a, np.stack([b, a]), ""))["clip_i"] == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("kind", ["ViT", "Dinov2", "DINOv3ViT"])
def test_dino_similarity_is_the_cosine_of_class_tokens(tmp_path, pictures, kind):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**SMALL)
    model = getattr(transformers, f"{kind}Model")(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # tokens that start at zero would all be alike
            parameter.add_(0.05 * torch.randn_like(parameter))
    model.save_pretrained(tmp_path)
    processor(transformers).save_pretrained(tmp_path)
    measure = dino_similarity(tmp_path, "cpu")
    a, b = pictures
    assert measure(Compared(b, np.stack([b]), ""))["dino"] == pytest.approx(1, abs=1e-5)
    wanted = cosine(transformers, lambda x: model(**x).last_hidden_state[:, 0], pictures)
    assert measure(Compared(a, np.stack([b]), ""))["dino"] == pytest.approx(wanted, abs=1e-4)


def test_a_folder_without_a_checkpoint_is_named(tmp_path):
    with pytest.raises(ValueError, match="clip_i: there is no folder 'nothing'"):
        clip_image_similarity(tmp_path / "nothing")
    with pytest.raises(ValueError, match="dino: .* is no checkpoint"):
        dino_similarity(tmp_path)


@pytest.mark.parametrize("net", ["alexnet", "vgg16"])
def test_lpips_reads_torchvisions_file_and_compares_inside_the_render(tmp_path, net):
    pytest.importorskip("lpips")
    models = pytest.importorskip("torchvision.models")
    torch.manual_seed(0)
    network = getattr(models, net)(weights=None)
    with torch.no_grad():  # vgg16's own initialisation would take seconds to be told apart
        network.classifier = torch.nn.Linear(1, 1)
    torch.save(network.state_dict(), tmp_path / "net.pth")
    measure = lpips_distance(tmp_path / "net.pth", "cpu")
    rng = np.random.default_rng(0)
    a, b = rng.random((2, 64, 64, 3), np.float32)
    mask = np.zeros((64, 64), bool)
    mask[16:48, 16:48] = True
    same = Compared(np.where(mask[..., None], a, b), np.stack([a]), "", a, mask)
    assert measure(same)["lpips"] == pytest.approx(0, abs=1e-6)  # only the background differs
    assert measure(Compared(b, np.stack([a]), "", a, mask))["lpips"] > 1e-4
    assert np.isnan(measure(Compared(b, np.stack([a]), ""))["lpips"])
    torch.save({"x": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="'other.pth' is not torchvision's alexnet"):
        lpips_distance(tmp_path / "other.pth", "cpu")
    with pytest.raises(ValueError, match="there is no file 'none.pth'; get torchvision's"):
        lpips_distance(tmp_path / "none.pth", "cpu")


def checkers(seed: int) -> np.ndarray:
    coarse = np.random.default_rng(seed).random((24, 24, 3), np.float32)
    return np.kron(coarse, np.ones((8, 8, 1), np.float32))


def test_matches_count_shared_keypoints():
    pytest.importorskip("cv2")
    count = match_count(matcher_of("sift"))
    picture, other = checkers(1), checkers(2)
    matches = lambda a, b: count(Compared(a, np.stack([b]), ""))["matches"]
    assert matches(picture, picture) > 10 * max(1, matches(picture, other))
    assert matches(np.zeros((64, 64, 3), np.float32), picture) == 0


def test_matching_error_is_the_shift_of_a_shifted_picture():
    pytest.importorskip("cv2")
    error = matching_error(matcher_of("sift"))
    render = checkers(3)
    mask = np.ones(render.shape[:2], bool)
    shifted = np.roll(render, (3, 4), (0, 1))
    found = error(Compared(shifted, render[None], "", render, mask, asked=True))
    assert found["matching_error"] == pytest.approx(5, abs=0.8) and found["matched_share"] == 1
    # points off the asset do not count, and nothing was asked for without a camera
    off = error(Compared(shifted, render[None], "", render, ~mask, asked=True))
    assert np.isnan(off["matching_error"]) and off["matched_share"] == 0
    assert np.isnan(error(Compared(shifted, render[None], "", render, mask))["matching_error"])


def test_a_matcher_of_vismatch_is_offline_and_its_unsure_matches_do_not_count(monkeypatch):
    """vismatch brings 30 packages, so this stands in for its interface (1.4)."""
    hub = pytest.importorskip("huggingface_hub")
    seen = []

    def network(a: np.ndarray, b: np.ndarray) -> dict:
        assert a.shape == (3, 40, 50) and a.dtype == np.float32
        return {
            "matched_kpts0": np.zeros((3, 2)), "matched_kpts1": np.ones((3, 2)),
            "matched_confidences": np.array([0.9, 0.2, 0.6]),
        }  # fmt: skip

    def get_matcher(name: str, device: str):
        seen.append((name, device, hub.constants.HF_HUB_OFFLINE))
        if name == "romav2":
            raise OSError("no such file")
        return network

    fake = SimpleNamespace(get_matcher=get_matcher, available_models=["gim-dkm", "romav2"])
    monkeypatch.setitem(sys.modules, "vismatch", fake)
    before = hub.constants.HF_HUB_OFFLINE
    matcher = matcher_of("gim-dkm", "cpu")
    pictures = np.zeros((2, 40, 50, 3))
    assert len(matcher(*pictures)[0]) == 2
    assert seen == [("gim-dkm", "cpu", True)] and hub.constants.HF_HUB_OFFLINE == before
    with pytest.raises(ValueError, match="hf download vismatch/romav2"):
        matcher_of("romav2", "cpu")
    with pytest.raises(ValueError, match="vismatch has no matcher 'gin'"):
        matcher_of("gin", "cpu")


def test_a_missing_package_says_what_to_install(monkeypatch):
    for package in ("vismatch", "lpips"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ValueError, match="needs the package vismatch"):
        matcher_of("gim-lightglue")
    with pytest.raises(ValueError, match="pip install lpips"):
        lpips_distance("alexnet-owt-7be5be79.pth")


def test_ranks_are_places_of_the_own_asset():
    unit = np.eye(3)
    features = lambda pictures: np.stack([unit[int(p[0, 0, 0])] for p in pictures])
    picture = lambda i: np.full((2, 2, 3), i, float)
    views = [np.stack([picture(i)]) for i in range(3)]
    assert ranks(features, [picture(0), picture(2), picture(2)], views) == [1, 2, 1]


def test_the_packages_network_tells_meshes_apart():
    pytest.importorskip("efficientnet_lite_pytorch")
    assets = [load_asset(ROOT / "assets" / f"{n}.glb") for n in ("spot", "mushroom", "snowman")]
    views = [render_reference_views(asset, 4, 96).colors for asset in assets]
    poses = [
        Camera(look_at((1.5, 1.2, 3.0)), 45.0, 96, 96),
        Camera(look_at((-2, 2, 2)), 45, 96, 96),
    ]
    features = lite_features()
    for camera in poses:  # none of the views'
        images = [render(asset, camera).color for asset in assets]
        assert ranks(features, images, views) == [1, 1, 1]
        assert 1 not in ranks(features, images[1:] + images[:1], views)
