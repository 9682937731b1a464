"""Advanced inputs that trade exactness for speed, shared by Apply RefAny3D and RefAny3D Sampler."""

from comfy_api.latest import io

from ..refany3d_core.method.approximation import Approximation

_STORAGE = {
    "device": {},
    "device, fp8": {"fp8_storage": True},
    "RAM": {"ram_storage": True},
    "RAM, fp8": {"ram_storage": True, "fp8_storage": True},
}


def speed_inputs() -> list[io.Input]:
    """The inputs; their defaults are exact."""
    common = {"optional": True, "advanced": True}
    return [
        io.Int.Input(
            "reference_reuse",
            default=1,
            min=1,
            max=1000,
            tooltip="Recompute the references every so many steps and reuse their keys and values "
            "between. 1 is exact; a number above the steps is fastest.",
            **common,
        ),
        io.Combo.Input(
            "reuse_storage",
            options=list(_STORAGE),
            default="device",
            tooltip="Where and how reused keys and values are kept: fp8 takes half the room of "
            "bf16, "
            "RAM none of the graphics card's.",
            **common,
        ),
        io.Boolean.Input(
            "isolated_references",
            default=False,
            tooltip="References see only their own view pair, as the published cache intends, "
            "instead of the prompt and the picture too.",
            **common,
        ),
        io.Float.Input(
            "guidance_start",
            default=1.0,
            min=0.0,
            max=1.0,
            step=0.01,
            tooltip="Highest noise level (sigma) at which image guidance is applied. 1.0: from the "
            "first step.",
            **common,
        ),
        io.Float.Input(
            "guidance_end",
            default=0.0,
            min=0.0,
            max=1.0,
            step=0.01,
            tooltip="Lowest noise level (sigma) at which image guidance is applied; below it a "
            "step "
            "costs one pass. 0.0: to the last step.",
            **common,
        ),
    ]


def approximation(
    reference_reuse: int = 1,
    reuse_storage: str = "device",
    isolated_references: bool = False,
    guidance_start: float = 1.0,
    guidance_end: float = 0.0,
) -> Approximation:
    """The inputs' values, as the core takes them."""
    return Approximation(
        reference_reuse=reference_reuse,
        isolated_references=isolated_references,
        guidance_start=guidance_start,
        guidance_end=guidance_end,
        **_STORAGE[reuse_storage],
    )
