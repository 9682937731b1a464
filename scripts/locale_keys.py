"""Write `locales/<language>/nodeDefs.json` from `locale_terms.txt` and `locale_tooltips.txt`.

    python scripts/locale_keys.py

The terms are node names and the names of inputs and outputs; one word has one translation
everywhere. The tooltips are sentences, descriptions of nodes among them: a block each, the English
one first, then one line a language in the order of the terms. What the nodes have and the files
lack is listed, and is an error.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from comfy_server import ComfyServer
from host_setup import ROOT, Host, main_with_setup

TERMS = Path(__file__).with_name("locale_terms.txt")
TOOLTIPS = Path(__file__).with_name("locale_tooltips.txt")
PREFIX = "RefAny3D_"


def languages() -> dict[str, dict[str, str]]:
    """{language: {English term or tooltip: its translation}}."""
    lines = [line.split("|") for line in TERMS.read_text(encoding="utf-8").splitlines() if line]
    blocks = TOOLTIPS.read_text(encoding="utf-8").strip().split("\n\n")
    columns = list(zip(*lines, *(block.split("\n") for block in blocks), strict=True))
    return {column[0]: dict(zip(columns[0], column)) for column in columns[1:]}


def named(name: str, tooltip: str | None) -> dict[str, str]:
    return {"name": name} | ({"tooltip": tooltip} if tooltip else {})


def english(info: dict) -> dict:
    """What a node shows in English, in the form of `nodeDefs.json`."""
    groups = [info["input"].get(group, {}) for group in ("required", "optional")]
    inputs = {
        name: named(name, spec[1].get("tooltip") if len(spec) > 1 else None)
        for group in groups
        for name, spec in group.items()
    }
    tips = info.get("output_tooltips") or [None] * len(info["output_name"])
    outputs = [named(name, tip) for name, tip in zip(info["output_name"], tips)]
    return {
        "display_name": info["display_name"],
        "description": info["description"],
        "inputs": inputs,
        "outputs": {str(i): output for i, output in enumerate(outputs)},
    }


def translated(shown: dict, terms: dict[str, str]) -> dict:
    """The same with every text in another language.

    Raises:
        KeyError: a text is missing.
    """
    return {
        key: translated(value, terms) if isinstance(value, dict) else terms[value]
        for key, value in shown.items()
    }


def node_definitions(object_info: dict, terms: dict[str, str]) -> dict:
    """`nodeDefs.json` of one language.

    Raises:
        KeyError: a text is missing.
    """
    return {
        key: translated(english(info), terms)
        for key, info in sorted(object_info.items())
        if key.startswith(PREFIX)
    }


def texts(shown: dict) -> Iterator[str]:
    for value in shown.values():
        if isinstance(value, dict):
            yield from texts(value)
        else:
            yield value


def missing_terms(object_info: dict) -> list[str]:
    """The texts of our nodes that have no translation."""
    known = next(iter(languages().values()))
    ours = [english(info) for key, info in object_info.items() if key.startswith(PREFIX)]
    return sorted({text for shown in ours for text in texts(shown)} - set(known))


def main(host: Host) -> int:
    with (
        tempfile.TemporaryDirectory(prefix="refany3d-") as base,
        ComfyServer(host, Path(base), ("--cpu",)) as server,
    ):
        object_info = server.get("/object_info")
    if missing := missing_terms(object_info):
        print("No translation of:", *missing, sep="\n", file=sys.stderr)
        return 1
    for language, terms in languages().items():
        file = ROOT / "locales" / language / "nodeDefs.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(node_definitions(object_info, terms), indent=1, ensure_ascii=False)
        file.write_text(text + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main_with_setup(main))
