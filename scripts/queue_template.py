"""Queue a template on a running ComfyUI with another mesh and prompt; standard library only.

python scripts/queue_template.py http://127.0.0.1:8188 my_model.glb "a red chair in a garden"

A fourth argument is a part of another template's name.
"""

import json
import sys
import urllib.request
from pathlib import Path

from graph import set_widgets, template, to_api

TEMPLATE = "with its point map"


def ask(url: str, body: dict | None = None) -> dict:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def main(server: str, mesh: str, prompt: str, name: str = TEMPLATE) -> None:
    """`mesh` is the name of a file in the server's input/3d."""
    graph = to_api(template(name), ask(f"{server}/object_info"))
    changes: dict[str, dict[str, object]] = {
        "RefAny3D_LoadMesh": {"mesh_file": f"3d/{Path(mesh).name}"},
        "CLIPTextEncode": {"text": prompt},
        "RefAny3D_Sampler": {"seed": 1},
    }
    answer = ask(f"{server}/prompt", {"prompt": set_widgets(graph, changes)})
    if answer.get("node_errors"):  # such as a model file that is not there
        sys.exit(json.dumps(answer["node_errors"], indent=1))
    print(f"queued: {server}/history/{answer['prompt_id']}")


if __name__ == "__main__":
    main(*sys.argv[1:])
