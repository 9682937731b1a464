"""The bars for a mesh of 94 k faces: 8 views of colour and map at 512 pixels on two cores."""

import time
from pathlib import Path

import pytest

from refany3d_core.asset import load_asset, render_reference_views, to_asset
from refany3d_core.asset.from_trimesh import to_trimesh

SPOT = Path(__file__).resolve().parents[2] / "assets" / "spot.glb"


@pytest.fixture(scope="module")
def dense():
    return to_asset(to_trimesh(load_asset(SPOT)).subdivide().subdivide())


@pytest.mark.parametrize("backend, seconds", [("embree", 1.0), ("numpy", 2.5)])
def test_eight_views(dense, backend: str, seconds: float) -> None:
    assert len(dense.faces) == 93_696
    times = []
    for _ in range(5):
        start = time.perf_counter()
        render_reference_views(dense, backend=backend)
        times.append(time.perf_counter() - start)
        if times[-1] < seconds:
            return
    pytest.fail(f"the best of five took {min(times):.2f} s, the bar is {seconds} s")
