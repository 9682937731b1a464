"""From a mesh to an image and its point map, on a bare machine: `python scripts/demo.py [MESH]`.

Sets up what is missing, starts the real ComfyUI server, runs a bundled template on a mesh, and
leaves the pictures in `output/`.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from comfy_server import ComfyServer, ServerError
from graph import set_widgets, template, to_api
from host_setup import ROOT, Host, main_with_setup

TEMPLATE = "Try it without a download"
OUTPUT = ROOT / "output"

WHAT_THE_PICTURES_ARE = """\
[demo] contact_sheet.png shows, above, the reference views of the mesh and their point maps, and
       below what was made of them: a picture of it in the scene of the prompt, and the picture's
       own point map. They come from refany3d-small, the tiny trained model in demo_model/, which
       knows simple shapes at 96 x 96 pixels. For real pictures install the pack in your ComfyUI
       with FLUX.1-dev and the RefAny3D files; README.md says how."""


WHAT_TO_EXPECT = """\
[demo] The views of your mesh and their point maps are the result to look at: they are what
       FLUX.1-dev would get. The picture is a toy's: the small model knows mushrooms, snowmen, huts
       and the like, and makes of other meshes something of their colours and outline at most."""
COMPANIONS = """
import json, sys
from refany3d_core.asset.fingerprint import with_companions
print(json.dumps([str(file) for file in with_companions(sys.argv[1])]))
"""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "mesh", nargs="?", type=Path, help="GLB, OBJ, PLY, STL, ...; the bundled mushroom"
    )
    parser.add_argument("--prompt", help="what to make of it; with a mesh of yours its name")
    parser.add_argument("--keep-server", action="store_true", help="leave the server running")
    return parser.parse_args()


def copy_mesh(host: Host, mesh: Path, folder: Path) -> str:
    """Copy a mesh with its materials, textures and buffers; its name for Load Mesh."""
    listed = subprocess.run(
        [host.python, "-c", COMPANIONS, str(mesh.resolve())],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for file in map(Path, json.loads(listed.stdout)):
        target = folder / mesh.stem / file.relative_to(mesh.resolve().parent)
        if file.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
    return f"3d/{mesh.stem}/{mesh.name}"


def said_by_nodes(outputs: dict) -> list[str]:
    """What Load Mesh and Render Reference Views show under themselves."""
    return list(dict.fromkeys(line for node in outputs.values() for line in node.get("notes", [])))


def demo_graph(server: ComfyServer, mesh: str | None, prompt: str | None) -> dict:
    """The bundled template, on another mesh or prompt when given, with its views saved as well."""
    changes: dict[str, dict[str, object]] = {}
    if mesh:
        changes["RefAny3D_LoadMesh"] = {"mesh_file": mesh}
    if prompt:
        changes["CLIPTextEncode"] = {"text": prompt}
    graph = set_widgets(to_api(template(TEMPLATE), server.get("/object_info")), changes)
    for node in graph.values():
        if node["class_type"] == "SaveImage":
            name = node["inputs"]["filename_prefix"].removeprefix("RefAny3D/")
            name = {"image": "demo", "point_map": "demo_point_map"}[name]
            node["inputs"]["filename_prefix"] = f"RefAny3D/{name}"
    views = next(key for key, node in graph.items()
                 if node["class_type"] == "RefAny3D_RenderViews")  # fmt: skip
    for number, name in enumerate(("demo_views", "demo_view_point_maps")):
        graph[f"save_{name}"] = {
            "class_type": "SaveImage",
            "inputs": {"images": [views, number], "filename_prefix": f"RefAny3D/{name}"},
        }
    return graph


def run_demo(host: Host, options: argparse.Namespace) -> int:
    mesh = options.mesh.expanduser() if options.mesh else None
    if mesh and not mesh.is_file():
        print(f"There is no file {mesh}. Give a mesh: python scripts/demo.py my_model.glb",
              file=sys.stderr)  # fmt: skip
        return 1
    server = ComfyServer(
        host,
        host.folder / "demo",
        ("--cpu", "--use-pytorch-cross-attention", "--output-directory", str(OUTPUT)),
    )
    name, prompt = None, options.prompt
    if mesh:
        name = copy_mesh(host, mesh, host.folder / "demo" / "input" / "3d")
        words = " ".join(re.findall("[a-z]+", mesh.stem.lower()))
        prompt = prompt or f"a {words} on grass in front of snowy mountains"
        print(WHAT_TO_EXPECT)
    OUTPUT.mkdir(exist_ok=True)
    print(f"[demo] Starting ComfyUI (log: {server.log_file}) ...", flush=True)
    try:
        with server:
            what = mesh or "the bundled mushroom"
            print(f"[demo] Running the template ({TEMPLATE}) on {what} ...", flush=True)
            start = time.monotonic()
            outputs = server.run(demo_graph(server, name, prompt))
            for line in said_by_nodes(outputs):
                print(f"[demo] Note: {line}")
            files = sorted(server.files(outputs))
            sheet = OUTPUT / "RefAny3D" / "contact_sheet.png"
            subprocess.run(
                [host.python, ROOT / "scripts" / "contact_sheet.py", sheet, *files], check=True
            )
            print(f"[demo] Done in {time.monotonic() - start:.0f} s. Pictures:")
            for file in (*files, sheet):
                print(f"  {file}")
            print(WHAT_THE_PICTURES_ARE)
            if options.keep_server:
                print(f"[demo] The server stays at {server.url}; end it with Ctrl-C.")
                server.wait_for_end()
    except ServerError as error:
        print(f"\nThe demo failed. {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    chosen = arguments()
    sys.exit(main_with_setup(lambda host: run_demo(host, chosen)))
