"""From a mesh to an image and its point map, on a bare machine: `python scripts/demo.py [MESH]`.

Sets up what is missing, starts the real ComfyUI server, runs a bundled template on a mesh, and
leaves the pictures in `output/`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

from comfy_server import ComfyServer, ServerError
from graph import set_widgets, to_api
from host_setup import ROOT, Host, main_with_setup
from standins import SWAPS

WORKFLOW = ROOT / "workflows" / "refany3d_flux_dev.json"
MESH = ROOT / "assets" / "spot.glb"
OUTPUT = ROOT / "output"
# Sizes that a CPU does in seconds.
SMALL = {
    "RefAny3D_RenderViews": {"views": 8, "resolution": 256},
    "RefAny3D_Sampler": {"width": 256, "height": 256, "steps": 4},
}

WHAT_THE_PICTURES_ARE = """\
[demo] The reference views and their point maps are real. `image` and `point_map` come from
       untrained stand-in weights and look like noise: they show that every step runs. For real
       pictures install the pack in your ComfyUI with FLUX.1-dev and the RefAny3D files; README.md
       says how."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("mesh", nargs="?", type=Path, default=MESH, help="GLB, OBJ, PLY, STL, ...")
    parser.add_argument("--prompt", help="what to make of it")
    parser.add_argument("--keep-server", action="store_true", help="leave the server running")
    return parser.parse_args()


def demo_graph(server: ComfyServer, mesh: str, prompt: str | None) -> dict:
    """The bundled template with the demo's files and sizes, and its views saved as well."""
    workflow = json.loads(WORKFLOW.read_text(encoding="utf-8"))
    changes = {**SWAPS, **SMALL, "RefAny3D_LoadMesh": {"mesh_file": mesh}}
    if prompt:
        changes["CLIPTextEncode"] = {"text": prompt}
    graph = set_widgets(to_api(workflow, server.get("/object_info")), changes)
    views = next(key for key, node in graph.items()
                 if node["class_type"] == "RefAny3D_RenderViews")  # fmt: skip
    for number, name in enumerate(("views", "view_point_maps")):
        graph[f"save_{name}"] = {
            "class_type": "SaveImage",
            "inputs": {"images": [views, number], "filename_prefix": f"RefAny3D/{name}"},
        }
    return graph


def run_demo(host: Host, options: argparse.Namespace) -> int:
    mesh = options.mesh.expanduser()
    if not mesh.is_file():
        print(f"There is no file {mesh}. Give a mesh: python scripts/demo.py my_model.glb",
              file=sys.stderr)  # fmt: skip
        return 1
    base = host.folder / "demo"
    print("[demo] Making stand-in models (small, random, untrained) ...", flush=True)
    subprocess.run(
        [host.python, ROOT / "scripts" / "standins.py", host.comfyui, base / "models"], check=True
    )
    server = ComfyServer(
        host,
        base,
        ("--cpu", "--use-pytorch-cross-attention", "--output-directory", str(OUTPUT)),
    )
    shutil.copyfile(mesh, base / "input" / "3d" / mesh.name)
    OUTPUT.mkdir(exist_ok=True)
    print(f"[demo] Starting ComfyUI (log: {server.log_file}) ...", flush=True)
    try:
        with server:
            print(f"[demo] Running {WORKFLOW.name} on {mesh} ...", flush=True)
            start = time.monotonic()
            graph = demo_graph(server, f"3d/{mesh.name}", options.prompt)
            outputs = server.run(graph, seconds=900)
            print(f"[demo] Done in {time.monotonic() - start:.0f} s. Pictures:")
            for file in sorted(server.files(outputs)):
                print(f"  {file}")
            print(WHAT_THE_PICTURES_ARE)
            if options.keep_server:
                print(f"[demo] The server stays at {server.url}; end it with Ctrl-C.")
                server.process.wait()
    except ServerError as error:
        print(f"\nThe demo failed. {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    chosen = arguments()
    sys.exit(main_with_setup(lambda host: run_demo(host, chosen)))
