"""Which ComfyUI the pack runs on. Imports nothing of the host, so that it can speak on any."""

from __future__ import annotations

import importlib
import importlib.util
import re

OLDEST = "0.18.2"
"""The oldest ComfyUI on which the tests pass (`requires-comfyui` in pyproject.toml)."""


def check_host() -> None:
    """Refuse a ComfyUI that is too old, before its missing parts give errors that say nothing.

    A host that does not tell its version is tried.

    Raises:
        ImportError: the host is older than `OLDEST`; the message says what to do.
    """
    if importlib.util.find_spec("comfy_api") is None:
        found = "this one has no comfy_api"
    elif importlib.util.find_spec("comfyui_version") is None:
        return
    else:
        version = importlib.import_module("comfyui_version").__version__
        if not _numbers(version) or _numbers(version) >= _numbers(OLDEST):
            return
        found = f"this is {version}"
    raise ImportError(
        f"RefAny3D needs ComfyUI {OLDEST} or newer, and {found}. Update ComfyUI and start it again."
    )


def _numbers(version: str) -> tuple[int, ...]:
    """(0, 18, 2) of "0.18.2", with or without a suffix; () for what is no such version."""
    found = re.match(r"v?(\d+)\.(\d+)(?:\.(\d+))?", str(version))
    return tuple(int(part or 0) for part in found.groups()) if found else ()
