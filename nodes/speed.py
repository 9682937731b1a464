"""Advanced inputs that trade exactness for speed, shared by Apply RefAny3D and RefAny3D Sampler."""

from dataclasses import asdict

from comfy_api.latest import io

from ..refany3d_core.method.approximation import Approximation

_PRESETS: dict[str, dict] = {
    "exact": {},
    "balanced": {"trim_references": True, "reference_reuse": 4},
    "fast": {"trim_references": True, "reference_reuse": 1000, "guidance_end": 0.75},
}
"""Settings by name, by their work and their error on the small model (benchmarks/README.md)."""

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


def preset_inputs() -> list[io.Input]:
    """The one choice for most users, and what came after the inputs above; last on their nodes, so
    that saved workflows keep their values."""
    return [
        io.Combo.Input(
            "speed",
            options=list(_PRESETS),
            default="exact",
            optional=True,
            tooltip="exact: the published arithmetic. balanced: references without their white "
            "paper, recomputed every fourth step. fast: computed once, and image guidance in the "
            "first half only. Advanced inputs that are not at their default go before.",
        ),
        io.Boolean.Input(
            "trim_references",
            default=False,
            optional=True,
            advanced=True,
            tooltip="Leave out reference tokens that show white paper only; half the work at 8 "
            "views.",
        ),
    ]


def approximation(speed: str = "exact", reuse_storage: str = "device", **single) -> Approximation:
    """The inputs' values, as the core takes them; single settings off their default go before."""
    usual = asdict(Approximation())
    chosen = {name: value for name, value in single.items() if value != usual[name]}
    return Approximation(**{**_PRESETS[speed], **chosen, **_STORAGE[reuse_storage]})
