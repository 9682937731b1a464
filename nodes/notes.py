"""What a node shows besides its outputs: sentences (web/js/notes.js) and a preview picture."""

import logging
from collections.abc import Sequence
from pathlib import Path

import folder_paths
from comfy_api.latest import io, ui
from torch import Tensor

from ..refany3d_core.files import write_trouble

logger = logging.getLogger(__name__)


def notes(node: type[io.ComfyNode], lines: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The `ui` entry that shows sentences under a node, also when its outputs come from the cache;
    they go to the log as well. The node has to be an output node. An empty list clears what an
    earlier run showed."""
    for line in lines:
        logger.warning("%s: %s", node.define_schema().display_name, line)
    return {"notes": tuple(lines)}


def preview(node: type[io.ComfyNode], picture: Tensor) -> tuple[dict, list[str]]:
    """The `ui` entry of a preview picture [1, H, W, 3], and sentences for `notes`.

    A picture that cannot be written is told, not raised: what the node has computed is whole.
    """
    try:
        return ui.PreviewImage(picture, cls=node).as_dict(), []
    except OSError as error:
        file = Path(folder_paths.get_temp_directory(), "preview.png")
        return {}, [f"No preview, the outputs are whole; {write_trouble(error, file)}."]
