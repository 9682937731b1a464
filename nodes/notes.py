"""Sentences for the user, shown under a node by web/js/notes.js."""

import logging
from collections.abc import Sequence

from comfy_api.latest import io

logger = logging.getLogger(__name__)


def notes(node: type[io.ComfyNode], lines: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The `ui` entry that shows sentences under a node, also when its outputs come from the cache;
    they go to the log as well. The node has to be an output node. An empty list clears what an
    earlier run showed."""
    for line in lines:
        logger.warning("%s: %s", node.define_schema().display_name, line)
    return {"notes": tuple(lines)}
