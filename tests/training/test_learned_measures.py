"""The columns by pretrained networks, on small configurations; and keypoint matches."""

import numpy as np
import pytest
import torch

from refany3d_core.training.evaluation.learned_measures import (
    clip_image_similarity,
    dino_similarity,
    feature_matches,
)


@pytest.fixture
def pictures() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.random((40, 40, 3), np.float32), np.linspace(0, 1, 4800).reshape(40, 40, 3)


def processor(transformers):
    side = {"height": 32, "width": 32}
    return transformers.CLIPImageProcessor(size=side, crop_size=side, do_center_crop=False)


def test_clip_image_similarity_is_the_cosine_of_its_embeddings(tmp_path, pictures):
    transformers = pytest.importorskip("transformers")
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
             "num_attention_heads": 2, "projection_dim": 8}  # fmt: skip
    config = transformers.CLIPConfig(
        vision_config={**small, "image_size": 32, "patch_size": 8},
        text_config={**small, "vocab_size": 99},
        projection_dim=8,
    )
    torch.manual_seed(0)
    model = transformers.CLIPModel(config).eval()
    model.save_pretrained(tmp_path)
    processor(transformers).save_pretrained(tmp_path)
    similarity = clip_image_similarity(tmp_path)
    a, b = pictures
    assert similarity.name == "clip_i" and similarity(a, a) == pytest.approx(1, abs=1e-5)

    pixels = [(x * 255).round().astype(np.uint8) for x in pictures]
    with torch.no_grad():
        inputs = processor(transformers)(images=pixels, return_tensors="pt")
        vision = model.vision_model(**inputs).pooler_output
        one, two = torch.nn.functional.normalize(model.visual_projection(vision), dim=-1)
    assert similarity(a, b) == pytest.approx(float(one @ two), abs=1e-4)


def test_dino_similarity_is_the_cosine_of_class_tokens(tmp_path, pictures):
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        image_size=32, patch_size=8,
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.ViTModel(config, add_pooling_layer=False).eval()
    model.save_pretrained(tmp_path)
    processor(transformers).save_pretrained(tmp_path)
    similarity = dino_similarity(tmp_path)
    a, b = pictures
    assert similarity(b, b) == pytest.approx(1, abs=1e-5)
    pixels = [(x * 255).round().astype(np.uint8) for x in pictures]
    with torch.no_grad():
        inputs = processor(transformers)(images=pixels, return_tensors="pt")
        tokens = model(**inputs).last_hidden_state[:, 0]
        one, two = torch.nn.functional.normalize(tokens, dim=-1)
    assert similarity(a, b) == pytest.approx(float(one @ two), abs=1e-4)


def test_a_folder_without_a_checkpoint_is_named(tmp_path):
    with pytest.raises(ValueError, match="clip_i: there is no folder 'nothing'"):
        clip_image_similarity(tmp_path / "nothing")
    with pytest.raises(ValueError, match="is not a checkpoint"):
        dino_similarity(tmp_path)


def test_matches_count_shared_keypoints():
    pytest.importorskip("cv2")
    rng = np.random.default_rng(1)
    coarse = rng.random((24, 24, 3), np.float32)
    picture = np.kron(coarse, np.ones((8, 8, 1), np.float32))
    other = np.kron(rng.random((24, 24, 3), np.float32), np.ones((8, 8, 1), np.float32))
    matches = feature_matches()
    assert matches(picture, picture) > 10 * max(1, matches(picture, other))
    assert matches(np.zeros((64, 64, 3), np.float32), picture) == 0
