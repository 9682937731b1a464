"""TOML files as dataclasses: every setting is known by name and checked by type."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints


def read_toml(path: str | Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        ValueError: it cannot be read or is not TOML, or Python is older than 3.11.
    """
    try:
        import tomllib  # type: ignore[import-not-found]
    except ImportError as error:
        raise ValueError("settings in TOML need Python 3.11 or newer (for tomllib)") from error
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"there is no configuration {path} ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not valid TOML: {error}") from error


def build(cls: Any, values: Mapping[str, Any], where: str) -> Any:
    """A dataclass from a table; fields that are dataclasses are built from tables of their own.

    Args:
        cls: the dataclass.
        values: its settings; lists become tuples where the field is one. Values that are built
            already, and mappings, are taken as they are.
        where: names the table in messages.

    Raises:
        ValueError: a setting is unknown, missing or has the wrong type; names it.
    """
    known, hints = {f.name: f for f in fields(cls)}, get_type_hints(cls)
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise ValueError(
            f"{where}: unknown setting '{unknown[0]}'; known are {', '.join(sorted(known))}"
        )
    out = {}
    for name, value in values.items():
        kind = _without_none(hints[name])
        if is_dataclass(kind) and not isinstance(value, kind):  # type: ignore[arg-type]
            if not isinstance(value, Mapping):
                raise ValueError(f"{where}: '{name}' is {value!r}, expected a table")
            value = build(kind, value, f"{where} [{name}]")
        if get_origin(kind) is tuple and isinstance(value, list):
            value = tuple(value)
        if not _fits(value, kind):
            choices = get_args(kind) if get_origin(kind) is Literal else ()
            expected = ", ".join(choices) or (str(kind) if get_args(kind) else kind.__name__)
            raise ValueError(f"{where}: '{name}' is {value!r}, expected {expected}")
        out[name] = value
    try:
        return cls(**out)
    except TypeError as error:
        raise ValueError(f"{where}: {str(error).split('__init__() ')[-1]}") from error


def _without_none(kind: Any) -> Any:
    """X of X | None."""
    if get_origin(kind) in (Union, types.UnionType):
        kinds = [k for k in get_args(kind) if k is not type(None)]
        return kinds[0] if len(kinds) == 1 else kind
    return kind


def _fits(value: object, kind: Any) -> bool:
    origin = get_origin(kind)
    if origin is Literal:
        return value in get_args(kind)
    if origin in (list, tuple):
        return isinstance(value, origin) and all(isinstance(v, get_args(kind)[0]) for v in value)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, origin or kind) and (kind is bool or not isinstance(value, bool))
