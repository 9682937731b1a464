"""Mesh files in ComfyUI's input folder, and the examples that come with the pack."""

from pathlib import Path

import folder_paths

from ..refany3d_core.asset import readable_formats

MESH_FOLDER = "3d"
EXAMPLES = Path(__file__).resolve().parent.parent / "assets"
EXAMPLE_PREFIX = "examples/"


def mesh_files() -> list[str]:
    """Meshes below input/3d, relative to input, as core's Load 3D names them; then our examples."""
    root = Path(folder_paths.get_input_directory())
    own = sorted(
        file.relative_to(root).as_posix()
        for file in (root / MESH_FOLDER).rglob("*")
        if file.suffix.lower().lstrip(".") in readable_formats() and file.is_file()
    )
    return own + sorted(EXAMPLE_PREFIX + file.name for file in EXAMPLES.glob("*.glb"))


def mesh_path(name: str) -> Path:
    """The file of a combo value: relative to input, or to input/3d, or an example of the pack.

    Raises:
        ValueError: no such file, or outside of ComfyUI's folders.
    """
    if not name or not isinstance(name, str):
        raise ValueError(
            "Load Mesh: mesh_file is empty; upload a mesh or put one into ComfyUI's input/3d"
        )
    for candidate in (name, f"{MESH_FOLDER}/{name}"):
        plain, folder = folder_paths.annotated_filepath(candidate)
        folder = folder or folder_paths.get_input_directory()
        try:
            path = Path(folder, plain).resolve()
            if path.is_file() and path.is_relative_to(Path(folder).resolve()):
                return path
        except (OSError, RuntimeError, ValueError):
            continue  # a circle of links, a name that is too long, a null byte
    example = EXAMPLES / name.removeprefix(EXAMPLE_PREFIX)
    if name.startswith(EXAMPLE_PREFIX) and example.is_file() and example.parent == EXAMPLES:
        return example
    raise ValueError(
        f"Load Mesh: mesh_file {name!r} is not in ComfyUI's input folder; upload it, or put it "
        "into input/3d and refresh the page"
    )
