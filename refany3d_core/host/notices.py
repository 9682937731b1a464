"""Sentences for the user on the node that is running."""

from __future__ import annotations

import logging

from comfy_execution.utils import get_executing_context

logger = logging.getLogger(__name__)


def notify(sentence: str) -> None:
    """Show a sentence under the node that the host is running, whoever's it is, and log it."""
    logger.warning("RefAny3D: %s", sentence)
    context = get_executing_context()
    if context is None:
        return
    from server import PromptServer

    server = getattr(PromptServer, "instance", None)
    if server is not None:
        server.send_progress_text(sentence, context.node_id)
