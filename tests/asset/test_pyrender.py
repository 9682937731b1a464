"""The pyrender backend: in a process of its own, aligned with our maps, or a sentence."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from refany3d_core.asset import load_asset, render_reference_views
from refany3d_core.asset.pyrender_backend import lit_colors

SPOT = Path(__file__).resolve().parents[2] / "assets" / "spot.glb"
needed = pytest.mark.skipif(find_spec("pyrender") is None, reason="pyrender is not installed")


@pytest.fixture
def lit():
    try:
        return render_reference_views(SPOT, 2, 96, backend="pyrender", background=(0, 0, 1))
    except ValueError as error:
        assert "libosmesa6" in str(error)
        pytest.skip("pyrender finds no OpenGL on this machine")


def test_without_pyrender_a_sentence_says_what_to_do() -> None:
    if find_spec("pyrender") is not None:
        pytest.skip("pyrender is installed here")
    with pytest.raises(ValueError, match="pip install pyrender-maintained"):
        render_reference_views(SPOT, 1, 32, backend="pyrender")


@needed
def test_lit_colours_and_our_own_maps(lit) -> None:
    plain = render_reference_views(SPOT, 2, 96)
    assert np.array_equal(lit.point_maps, plain.point_maps)
    assert np.array_equal(lit.masks, plain.masks)
    on = plain.masks > 0
    assert np.allclose(lit.colors[~on], (0, 0, 1))
    shading = lit.colors[on].mean(-1) / plain.colors[on].mean(-1).clip(0.05)
    assert np.ptp(np.percentile(shading, (10, 90))) > 0.1  # lit, not flat
    match = np.corrcoef(lit.colors[on].ravel(), plain.colors[on].ravel())[0, 1]
    assert match > 0.8  # the same texture in the same place, not mirrored
    assert not {"pyrender", "OpenGL", "pyglet"} & set(sys.modules)


@needed
def test_pyrender_sees_what_we_see(lit) -> None:
    _, drawn = lit_colors(load_asset(SPOT), lit.cameras, (1, 1, 1))
    on = lit.masks > 0
    edge = np.zeros_like(on)
    for shift in ((1, 1), (-1, 1), (1, 2), (-1, 2)):
        edge |= np.roll(on, *shift) != on
    assert (drawn == on)[~edge].all()


@needed
def test_an_interrupt_ends_the_child() -> None:
    def stop() -> None:
        raise InterruptedError

    def children() -> set[str]:
        return set(Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split())

    before = children() if sys.platform == "linux" else set()
    with pytest.raises(InterruptedError):
        lit_colors(load_asset(SPOT), render_reference_views(SPOT, 1, 32).cameras, (1, 1, 1), stop)
    if sys.platform == "linux":
        assert children() <= before
