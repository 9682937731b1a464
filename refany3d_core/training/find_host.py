"""Make ComfyUI's modules importable for a command that runs outside of it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

PACK = Path(__file__).resolve().parents[2]


def find_comfyui() -> Path:
    """ComfyUI's folder: from PYTHONPATH, COMFYUI_PATH, or as the pack's place in custom_nodes.

    Raises:
        ValueError: it is in none of them.
    """
    named = os.environ.get("COMFYUI_PATH")
    here = Path(os.path.abspath(__file__)).parents[4]  # not resolved: the pack may be a link
    candidates = [*map(Path, sys.path), *([Path(named)] if named else []), PACK.parents[1], here]
    started = Path.cwd()
    candidates += [started, *started.parents]
    for folder in candidates:
        if (folder / "comfy" / "sd.py").is_file() and (folder / "folder_paths.py").is_file():
            return folder.resolve()
    raise ValueError(
        "ComfyUI is not found. Run this command with ComfyUI's Python and set COMFYUI_PATH to the "
        "folder that holds its main.py"
    )


def prepare_host(base_directory: str = "", extra_model_paths: str = "") -> Path:
    """Put ComfyUI first on sys.path, without CUDA set it to the CPU, and read its model paths, as
    its main.py does.

    The pack's own folder goes to the end: its package `nodes` has the name of a module of
    ComfyUI's.

    Args:
        base_directory: ComfyUI's --base-directory.
        extra_model_paths: a file like ComfyUI's extra_model_paths.yaml, which is read in any case.

    Raises:
        ValueError: ComfyUI is not found.
    """
    comfyui = find_comfyui()
    own = {str(PACK), "", os.getcwd() if Path.cwd() == PACK else ""}
    sys.path[:] = [str(comfyui), *(entry for entry in sys.path if entry not in own), str(PACK)]
    import torch
    from comfy.cli_args import args

    if not torch.cuda.is_available():
        args.cpu = True
        args.use_pytorch_cross_attention = True
    if base_directory:
        args.base_directory = base_directory
    import folder_paths  # noqa: F401  reads base_directory when it is imported
    from utils.extra_config import load_extra_path_config  # type: ignore[import-not-found]

    for file in (comfyui / "extra_model_paths.yaml", Path(extra_model_paths or " ")):
        if file.is_file():
            load_extra_path_config(str(file))
    from ..host.model_files import register_folder

    register_folder()
    return comfyui
