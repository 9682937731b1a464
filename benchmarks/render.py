"""Time and memory of loading and rendering: `python benchmarks/render.py` prints a table.

Meshes of about 1 k, 100 k and 1 M faces are made from assets/spot.glb by midpoint subdivision.
Each row runs in a process of its own, so that peak memory is its own; times are the best of three.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

SIZES = {"1 k": 1_000, "100 k": 100_000, "1 M": 1_000_000}


def make_mesh(faces: int, path: Path) -> None:
    """A textured GLB with about this many faces."""
    import trimesh

    from refany3d_core.asset import load_asset
    from refany3d_core.asset.from_trimesh import to_trimesh

    mesh = to_trimesh(load_asset(ROOT / "assets" / "spot.glb"))
    while len(mesh.faces) < faces / 2:
        mesh = mesh.subdivide()
    mesh.update_faces(range(min(faces, len(mesh.faces))))
    trimesh.Scene([mesh]).export(path)


def measure(path: Path, backend: str) -> dict:
    """Load, build and render in this process."""
    from refany3d_core.asset import load_asset, render_reference_views
    from refany3d_core.asset.render import caster

    hits = "auto" if backend == "pyrender" else backend
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    asset = load_asset(path)
    loaded = time.perf_counter()
    caster(asset, hits)
    row = {
        "faces": len(asset.faces),
        "load": loaded - start,
        "build": time.perf_counter() - loaded,
    }
    for resolution in (512, 1024):
        times = []
        for _ in range(3):
            start = time.perf_counter()
            render_reference_views(asset, 8, resolution, backend=backend)
            times.append(time.perf_counter() - start)
        row[str(resolution)] = min(times)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        row[f"peak {resolution}"] = peak / 1024
    return row | {"base": base / 1024}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backends", nargs="+", default=["embree", "numpy", "pyrender"])
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(Path(options.one[0]), options.one[1])))
        return
    print("| backend | faces | load, s | build, s | 8 views 512, s | 1024, s | peak RSS, MB |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for size in options.sizes:
            path = Path(folder, f"{SIZES[size]}.glb")
            make_mesh(SIZES[size], path)
            for backend in options.backends:
                command = [sys.executable, __file__, "--one", str(path), backend]
                done = subprocess.run(command, capture_output=True, text=True, env=os.environ)
                if done.returncode:
                    print(f"| {backend} | {size} | {done.stderr.strip().splitlines()[-1]} |||||")
                    continue
                row = json.loads(done.stdout.splitlines()[-1])
                print(
                    f"| {backend} | {row['faces']:,} | {row['load']:.2f} | {row['build']:.2f} "
                    f"| {row['512']:.2f} | {row['1024']:.2f} "
                    f"| {row['peak 512']:.0f} / {row['peak 1024']:.0f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
