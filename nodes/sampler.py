"""RefAny3D Sampler: the published recipe in one node."""

import comfy.samplers
from comfy_api.latest import io

from ..refany3d_core.host.conditioning import with_references
from ..refany3d_core.host.latents import (
    as_joint_latent,
    check_size,
    empty_joint_latent,
    joint_size,
    split_joint_latent,
)
from ..refany3d_core.host.patch import patch_model
from ..refany3d_core.host.sampling import PUBLISHED_SCHEDULE, sample_joint, schedulers, sigmas
from ..refany3d_core.method.guidance import IMAGE_GUIDANCE
from .sockets import (
    CATEGORY,
    method_inputs,
    panel_outputs,
    size_inputs,
    titled,
    validate_size,
)
from .speed import approximation, preset_inputs, speed_inputs
from .strength import reference_strength, strength_inputs


class Sampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RefAny3D_Sampler",
            display_name="RefAny3D Sampler",
            category=CATEGORY,
            description="Make an image of the asset and its point map, with the published "
            "settings as defaults.",
            search_aliases=["refany3d", "3d reference sampler", "point map", "ksampler"],
            inputs=[
                *method_inputs(),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFE,  # the host's stochastic samplers add 1
                    control_after_generate=True,
                    tooltip="Seed of the noise.",
                ),
                *size_inputs(),
                io.Int.Input(
                    "steps", default=28, min=1, max=1000, tooltip="Denoising steps. Published: 28."
                ),
                io.Float.Input(
                    "image_guidance",
                    default=IMAGE_GUIDANCE,
                    min=0.0,
                    max=20.0,
                    step=0.1,
                    tooltip="How strongly the asset's references are followed. Published: 2.0; "
                    "1.0 leaves the second pass out and follows them less.",
                ),
                io.Combo.Input(
                    "sampler_name",
                    options=comfy.samplers.SAMPLER_NAMES,
                    default="euler",
                    tooltip="The algorithm. Published: euler.",
                ),
                io.Combo.Input(
                    "scheduler",
                    options=schedulers(),
                    tooltip="How noise falls over the steps; refany3d is the published schedule.",
                ),
                *speed_inputs(),
                io.Latent.Input(
                    "latent",
                    optional=True,
                    tooltip="Joint latent of Lock Pose, Place in Photo or Join Joint Latent: its "
                    "size replaces width and height, and what its masks hold stays. A noise mask "
                    "of the image's size holds for the image alone.",
                ),
                io.Float.Input(
                    "denoise",
                    default=1.0,
                    min=0.01,
                    max=1.0,
                    step=0.01,
                    optional=True,
                    advanced=True,
                    tooltip="Below 1 sampling starts from latent's picture and changes it only in "
                    "part; the steps are spent on that part of the noise.",
                ),
                *strength_inputs(),
                *preset_inputs(),
            ],
            outputs=panel_outputs(),
        )

    @classmethod
    def validate_inputs(cls, width=None, height=None) -> bool | str:
        return validate_size("RefAny3D Sampler", width, height)

    @classmethod
    def execute(
        cls,
        model,
        adapters,
        reference,
        positive,
        seed: int = 0,
        width: int = 512,
        height: int = 512,
        steps: int = 28,
        image_guidance: float = IMAGE_GUIDANCE,
        sampler_name: str = "euler",
        scheduler: str = PUBLISHED_SCHEDULE,
        latent=None,
        denoise: float = 1.0,
        **advanced,
    ) -> io.NodeOutput:
        if denoise < 1 and latent is None:
            raise ValueError(
                f"RefAny3D Sampler: denoise is {denoise:g}, which starts from a picture, and "
                "'latent' is not connected; connect Place in Photo or Join Joint Latent, or set "
                "denoise to 1"
            )
        with titled("RefAny3D Sampler"):
            strength, speed = reference_strength(advanced)
            if latent is not None:
                latent = as_joint_latent(latent, width, height)
                width, height = joint_size(latent)
            check_size("RefAny3D Sampler", width, height)
            approximated = approximation(**speed)
            patched = patch_model(model, adapters, approximation=approximated, size=(width, height))
            positive, negative = with_references(
                positive, reference, strength, approximated.trim_references
            )
            latent = latent or empty_joint_latent(width, height, 1)
            levels = sigmas(patched, scheduler, steps, width, height, denoise)
            joint = sample_joint(
                patched, positive, negative, latent, levels, image_guidance, sampler_name, seed
            )
            return io.NodeOutput(*split_joint_latent(joint))
