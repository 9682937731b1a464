"""What the pack needs of ComfyUI's core, and what it says of itself about that."""

import re
from pathlib import Path

import comfyui_version
import pytest

from . import contract

ROOT = Path(__file__).resolve().parents[2]


def test_every_core_symbol_exists_here():
    symbols = contract.needed()
    assert {"comfy_api.latest.io.Custom", "comfy.sample.sample_custom"} <= set(symbols)
    assert len(symbols) > 100
    assert contract.missing(symbols) == []


def test_a_missing_symbol_is_named_with_who_needs_it():
    symbols = {
        "comfy_api.latest.io.File3DNew": ("nodes/a.py", set()),
        "comfy.no_such_module.thing": ("nodes/b.py", set()),
        "comfy.ops.cast_bias_weight": ("nodes/c.py", {"offloadable", "sideways"}),
    }
    lines = contract.missing(symbols)
    assert [line.split(" (")[0] for line in lines] == [
        "comfy.no_such_module.thing is missing, needed by nodes/b.py",
        "comfy.ops.cast_bias_weight takes no 'sideways', needed by nodes/c.py",
        "comfy_api.latest.io.File3DNew is missing, needed by nodes/a.py",
    ]


def test_listed_methods_are_all_used():
    text = "".join(file.read_text(encoding="utf-8") for file in contract.pack_files())
    unused = [
        name for methods in contract.METHODS.values() for name in methods if f".{name}(" not in text
    ]
    assert unused == []


def test_the_oldest_host_is_said_once(pack):
    oldest = pack.core("host.versions").OLDEST
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f'requires-comfyui = ">={oldest}"' in project


def test_versions_compare_by_number(pack, monkeypatch):
    check = pack.core("host.versions").check_host
    for version in ("0.18.2", "v0.18.10", "0.30.0-dev", "1.0", "unknown"):
        monkeypatch.setattr(comfyui_version, "__version__", version)
        check()
    for version in ("0.18.1", "0.3.75", "v0.9.2"):
        monkeypatch.setattr(comfyui_version, "__version__", version)
        with pytest.raises(ImportError, match=f"or newer, and this is {re.escape(version)}"):
            check()
