"""Any number and order of views, batches and sizes."""

import pytest
import torch

ROUNDING = 1e-5


def latents(count: int, height: int, width: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 16, height, width, generator=generator)


def references(golden, views: int):
    return golden.reference(latents(views, 16, 16, 1), latents(views, 16, 16, 2))


def run(golden, applied, noise: torch.Tensor) -> torch.Tensor:
    return golden.sample(applied, noise, golden.inputs["sigmas"], cfg=2.0)


def test_order_of_the_views_does_not_matter(golden):
    noise = latents(1, 16, 32, 3)
    views, maps = latents(5, 16, 16, 1), latents(5, 16, 16, 2)
    order = [3, 0, 4, 1, 2]
    given = run(golden, golden.apply(golden.reference(views, maps)), noise)
    other = run(golden, golden.apply(golden.reference(views[order], maps[order])), noise)
    crossed = run(golden, golden.apply(golden.reference(views, maps[order])), noise)
    assert golden.error(other, given) < ROUNDING
    assert golden.error(crossed, given) > 100 * ROUNDING


@pytest.mark.parametrize("views", [1, 3])
def test_batch_of_two_equals_two_singles(golden, views):
    noise = latents(2, 16, 32, 4)
    reference = references(golden, views)
    both = run(golden, golden.apply(reference, batch_size=2), noise)
    for row in range(2):
        single = run(golden, golden.apply(reference), noise[row : row + 1])
        assert golden.error(both[row : row + 1], single) < ROUNDING


@pytest.mark.parametrize("size", [(512, 512), (768, 512), (96, 160), (64, 64), (240, 112)])
def test_sizes(golden, size):
    width, height = size
    noise = latents(1, height // 8, 2 * width // 8, 5)
    out = run(golden, golden.apply(size=size), noise)
    assert out.shape == noise.shape
    assert torch.isfinite(out).all()


@pytest.mark.parametrize("size", [(100, 128), (128, 100), (48, 128), (0, 128), (100000, 128)])
def test_size_without_whole_tokens_is_refused(golden, size):
    with pytest.raises(ValueError, match="multiple of 16 from 64 to 4096; use"):
        golden.apply(size=size)


def test_references_wider_than_the_published_offset_do_not_overlap_the_targets(golden):
    positions = golden.core("method.positions")
    assert positions.reference_offset(8) == positions.reference_offset(32) == 32
    assert positions.reference_offset(48) == 48
    ids = positions.grid_positions(3, 48, -positions.reference_offset(48))
    assert ids[:, 2].max() == -1
