"""Write `locales/<language>/nodeDefs.json` from `locale_terms.txt`.

    python scripts/locale_keys.py

The terms are node names and the names of inputs and outputs; one word has one translation
everywhere. What the nodes have and the terms lack is listed, and is an error.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from comfy_server import ComfyServer
from host_setup import ROOT, Host, main_with_setup

TERMS = Path(__file__).with_name("locale_terms.txt")
PREFIX = "RefAny3D_"


def languages() -> dict[str, dict[str, str]]:
    """{language: {English term: its translation}}."""
    lines = [line.split("|") for line in TERMS.read_text(encoding="utf-8").splitlines() if line]
    columns = list(zip(*lines))
    return {column[0]: dict(zip(columns[0], column)) for column in columns[1:]}


def node_names(info: dict) -> dict[str, list[str]]:
    """The English names that a node shows: its own, then those of inputs and outputs."""
    groups = [info["input"].get(group, {}) for group in ("required", "optional")]
    inputs = [name for group in groups for name in group]
    return {"node": [info["display_name"]], "inputs": inputs, "outputs": info["output_name"]}


def node_definitions(object_info: dict, terms: dict[str, str]) -> dict:
    """`nodeDefs.json` of one language.

    Raises:
        KeyError: a term is missing.
    """
    found = {}
    for key, info in sorted(object_info.items()):
        if key.startswith(PREFIX):
            names = node_names(info)
            found[key] = {
                "display_name": terms[names["node"][0]],
                "inputs": {name: {"name": terms[name]} for name in names["inputs"]},
                "outputs": {str(i): {"name": terms[n]} for i, n in enumerate(names["outputs"])},
            }
    return found


def missing_terms(object_info: dict) -> list[str]:
    known = next(iter(languages().values()))
    shown = {
        name
        for key, info in object_info.items()
        if key.startswith(PREFIX)
        for names in node_names(info).values()
        for name in names
    }
    return sorted(shown - set(known))


def main(host: Host) -> int:
    with (
        tempfile.TemporaryDirectory(prefix="refany3d-") as base,
        ComfyServer(host, Path(base), ("--cpu",)) as server,
    ):
        object_info = server.get("/object_info")
    if missing := missing_terms(object_info):
        print(f"{TERMS.name} lacks: {', '.join(missing)}", file=sys.stderr)
        return 1
    for language, terms in languages().items():
        file = ROOT / "locales" / language / "nodeDefs.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(node_definitions(object_info, terms), indent=1, ensure_ascii=False)
        file.write_text(text + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main_with_setup(main))
