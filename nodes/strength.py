"""Advanced inputs for how strongly the references count, of Apply RefAny3D and RefAny3D Sampler."""

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
        _level("reference_start", 1.0, "Highest noise level (sigma) at which there are references."),
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


def reference_strength(
    reference_strength: float = 1.0,
    reference_start: float = 1.0,
    reference_end: float = 0.0,
    view_weights: str = "",
) -> ReferenceStrength:
    """The inputs' values, as the core takes them.

    Raises:
        ValueError: view_weights is no list of numbers of at least 0.
    """
    views = tuple(numbers("view_weights", view_weights)) if view_weights.strip() else ()
    if any(weight < 0 for weight in views):
        raise ValueError(f"view_weights is {view_weights[:80]!r}; weights are 0 or more")
    return ReferenceStrength(reference_strength, reference_start, reference_end, views)
