"""Advanced inputs for how strongly the references count, of Apply RefAny3D and RefAny3D Sampler."""

from typing import Any

from comfy_api.latest import io

from ..refany3d_core.method.strength import ReferenceStrength
from ..refany3d_core.pointmap.camera_path import numbers

_COMMON = {"optional": True, "advanced": True}


def _level(name: str, default: float, tooltip: str) -> io.Input:
    return io.Float.Input(
        name, default=default, min=0.0, max=1.0, step=0.01, tooltip=tooltip, **_COMMON
    )


def strength_inputs() -> list[io.Input]:
    """The inputs; their defaults are the method."""
    return [
        io.Float.Input(
            "reference_strength",
            default=1.0,
            min=0.0,
            max=4.0,
            step=0.05,
            tooltip="Weight of the references in what the picture looks at. 1 is the method, 0 "
            "leaves them out, 2 counts them twice. Between costs twice the attention.",
            **_COMMON,
        ),
        _level(
            "reference_start", 1.0, "Highest noise level (sigma) at which there are references."
        ),
        _level(
            "reference_end",
            0.0,
            "Lowest noise level (sigma) at which there are references. 0.0: to the last step.",
        ),
        io.String.Input(
            "view_weights",
            default="",
            tooltip="A weight for each reference view, separated by commas, times "
            "reference_strength; 0 leaves a view out. Empty: 1 each.",
            **_COMMON,
        ),
    ]


def reference_strength(values: dict[str, Any]) -> tuple[ReferenceStrength, dict[str, Any]]:
    """The inputs' values, as the core takes them, and the values that are of other inputs.

    Args:
        values: of a node's inputs by name; missing ones have their defaults.

    Raises:
        ValueError: view_weights is no list of numbers of at least 0.
    """
    own = {i.id: values.get(i.id, i.default) for i in strength_inputs()}
    text = own["view_weights"]
    views = tuple(numbers("view_weights", text)) if text.strip() else ()
    if any(weight < 0 for weight in views):
        raise ValueError(f"view_weights is {text[:80]!r}; weights are 0 or more")
    strength = ReferenceStrength(
        own["reference_strength"], own["reference_start"], own["reference_end"], views
    )
    return strength, {name: value for name, value in values.items() if name not in own}
