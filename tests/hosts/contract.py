"""Look up every symbol of ComfyUI's core that the pack touches: `python contract.py` in a host.

Prints what is missing, one line each, with the file that needs it, and last how many were looked
up. The symbols are read from the pack's own sources: imports, dotted names that start at an import,
and the keywords of their calls. What is called on objects that the host hands out has no such name,
so those methods are listed here.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
from pathlib import Path

PACK = Path(__file__).resolve().parents[2]
HOST_MODULES = {
    "comfy", "comfy_api", "comfy_execution", "comfy_extras", "comfyui_version", "folder_paths",
    "latent_preview", "node_helpers", "nodes", "server",
}  # fmt: skip
METHODS = {
    "comfy.model_patcher.ModelPatcher": (
        "clone", "get_model_object", "get_additional_models_with_key", "set_additional_models",
        "add_wrapper_with_key", "remove_wrappers_with_key", "add_callback_with_key",
        "remove_callbacks_with_key", "set_model_denoise_mask_function",
    ),
    "comfy.model_base.BaseModel": ("get_dtype_inference", "memory_required"),
    "comfy.ldm.flux.model.Flux": ("process_img",),
    "comfy.sd.VAE": ("encode", "decode"),
}  # fmt: skip
PARAMETERS = {
    "comfy.ldm.flux.layers.DoubleStreamBlock.forward": (
        "img", "txt", "vec", "pe", "modulation_dims_img", "modulation_dims_txt",
        "transformer_options",
    ),
    "comfy.ldm.flux.layers.SingleStreamBlock.forward": (
        "x", "vec", "pe", "modulation_dims", "transformer_options",
    ),
    "comfy.ldm.flux.layers.LastLayer.forward": ("x", "vec", "modulation_dims"),
    "comfy.ldm.flux.layers.apply_mod": ("tensor", "m_mult", "m_add", "modulation_dims"),
    "comfy.ops.cast_bias_weight": ("s", "input", "offloadable"),
}  # fmt: skip


def pack_files() -> list[Path]:
    """What ComfyUI loads: the nodes and the core, without the trainer and the collector."""
    files = [*(PACK / "nodes").rglob("*.py"), *(PACK / "refany3d_core").rglob("*.py")]
    return [file for file in files if not {"training", "collect"} & set(file.parts)]


class Symbols(ast.NodeVisitor):
    """`found`: dotted name -> keywords with which it is called somewhere in one file."""

    def __init__(self, tree: ast.AST) -> None:
        self.names: dict[str, str] = {}
        self.found: dict[str, set[str]] = {}
        self.visit(tree)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            root = alias.name.split(".")[0]
            if root in HOST_MODULES:
                self.names[alias.asname or root] = alias.name if alias.asname else root
                self.found.setdefault(alias.name, set())

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if node.level == 0 and node.module.split(".")[0] in HOST_MODULES:
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                self.names[alias.asname or alias.name] = name
                self.found.setdefault(name, set())

    def visit_Attribute(self, node: ast.Attribute) -> None:
        name = self.dotted(node)
        if name:
            self.found.setdefault(name, set())
        else:
            self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        name = self.dotted(node.func)
        if name:
            keywords = {keyword.arg for keyword in node.keywords if keyword.arg}
            self.found.setdefault(name, set()).update(keywords)
        self.generic_visit(node)

    def dotted(self, node: ast.AST) -> str | None:
        parts = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name) or node.id not in self.names:
            return None
        name = ".".join([self.names[node.id], *reversed(parts)])
        return name.split(".instance", 1)[0]  # the running server's own object


def resolve(name: str) -> object:
    """The object of a dotted name. Raises AttributeError or ImportError when the host lacks it."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError as error:
            if length == 1 or error.name not in ".".join(parts[:length]):
                raise
            continue
        for part in parts[length:]:
            found = getattr(found, part)
        return found
    raise ImportError(name)


def takes(function: object, keywords: set[str]) -> set[str]:
    """Which of the keywords the function does not take."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return set()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return set()
    return keywords - {parameter.name for parameter in parameters}


def needed() -> dict[str, tuple[str, set[str]]]:
    """All symbols: dotted name -> (file that needs it, keywords)."""
    symbols: dict[str, tuple[str, set[str]]] = {}
    for file in pack_files():
        where = file.relative_to(PACK).as_posix()
        for name, keywords in Symbols(ast.parse(file.read_text(encoding="utf-8"))).found.items():
            first, known = symbols.get(name, (where, set()))
            symbols[name] = (first, known | keywords)
    for owner, methods in METHODS.items():
        symbols |= {f"{owner}.{method}": ("the host's objects", set()) for method in methods}
    for name, parameters in PARAMETERS.items():
        symbols[name] = ("the host's objects", set(parameters))
    return symbols


def missing(symbols: dict[str, tuple[str, set[str]]]) -> list[str]:
    lines = []
    for name, (where, keywords) in sorted(symbols.items()):
        try:
            lacking = takes(resolve(name), keywords)
        except (ImportError, AttributeError) as error:
            lines.append(f"{name} is missing, needed by {where} ({error})")
            continue
        lines += [f"{name} takes no {word!r}, needed by {where}" for word in sorted(lacking)]
    return lines


def main() -> int:
    sys.path.insert(0, str(Path.cwd()))
    from comfy.cli_args import args

    args.cpu = True
    # As main.py does: the host's `nodes` puts comfy/ first, where `utils` is another module.
    importlib.import_module("utils.extra_config")
    symbols = needed()
    lines = missing(symbols)
    sys.stdout.write("\n".join([*lines, f"looked up {len(symbols)}", ""]))
    return bool(lines)


if __name__ == "__main__":
    sys.exit(main())
