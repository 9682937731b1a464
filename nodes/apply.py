"""Apply RefAny3D: everything a stock sampler needs."""

from comfy_api.latest import io

from ..refany3d_core.host.conditioning import with_references
from ..refany3d_core.host.latents import check_size, empty_joint_latent
from ..refany3d_core.host.patch import patch_model
from ..refany3d_core.method.components import Components
from .sockets import CATEGORY, method_inputs, size_inputs, titled, validate_size
from .speed import approximation, preset_inputs, speed_inputs
from .strength import reference_strength, strength_inputs

_ABLATIONS = {
    "no_domain_token": "Ablation: do not add the domain token that tells RGB from point map.",
    "shift_point_map": "Ablation: move the point map's positions right of the image instead of "
    "sharing them.",
    "no_adapters": "Ablation: run everything on the base model's weights, without the LoRAs.",
    "point_map_sees_text": "Ablation: let the point map attend to the prompt (no text-agnostic "
    "attention).",
    "no_point_map": "Ablation: leave the point-map branch out; its panel stays noise.",
}


class Apply(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RefAny3D_Apply",
            display_name="Apply RefAny3D",
            category=CATEGORY,
            description="Patch FLUX.1-dev to denoise an image and its point map side by side. "
            "Connect all four outputs to a stock sampler; its cfg is the image guidance "
            "(published: 2.0).",
            search_aliases=["refany3d", "3d reference", "apply refany3d", "image guidance"],
            inputs=[
                *method_inputs(),
                *size_inputs(),
                io.Int.Input(
                    "batch_size",
                    default=1,
                    min=1,
                    max=64,
                    tooltip="How many images to make in one run.",
                ),
                *speed_inputs(),
                *(
                    io.Boolean.Input(
                        name, default=False, advanced=True, optional=True, tooltip=tooltip
                    )
                    for name, tooltip in _ABLATIONS.items()
                ),
                *strength_inputs(),
                *preset_inputs(),
            ],
            outputs=[
                io.Model.Output(
                    "model",
                    display_name="model",
                    tooltip="A patched clone; the input is untouched.",
                ),
                io.Conditioning.Output(
                    "positive",
                    display_name="positive",
                    tooltip="The prompt with the asset's references.",
                ),
                io.Conditioning.Output(
                    "negative",
                    display_name="negative",
                    tooltip="The same prompt with a black reference.",
                ),
                io.Latent.Output(
                    "latent",
                    display_name="latent",
                    tooltip="Empty joint latent: image left, point map right.",
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, width=None, height=None) -> bool | str:
        return validate_size("Apply RefAny3D", width, height)

    @classmethod
    def execute(
        cls,
        model,
        adapters,
        reference,
        positive,
        width: int = 512,
        height: int = 512,
        batch_size: int = 1,
        no_domain_token: bool = False,
        shift_point_map: bool = False,
        no_adapters: bool = False,
        point_map_sees_text: bool = False,
        no_point_map: bool = False,
        **advanced,
    ) -> io.NodeOutput:
        check_size("Apply RefAny3D", width, height)
        components = Components(
            domain_token=not no_domain_token,
            reference_lora=not no_adapters,
            domain_lora=not no_adapters,
            shared_positions=not shift_point_map,
            text_agnostic=not point_map_sees_text,
            point_maps=not no_point_map,
        )
        with titled("Apply RefAny3D"):
            strength, speed = reference_strength(advanced)
            approximated = approximation(**speed)
            patched = patch_model(model, adapters, components, approximated, (width, height))
            positive, negative = with_references(
                positive, reference, strength, approximated.trim_references
            )
        return io.NodeOutput(
            patched, positive, negative, empty_joint_latent(width, height, batch_size)
        )
