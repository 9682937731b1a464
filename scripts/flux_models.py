"""The files that FLUX.1-dev's templates need, and where they are to be had."""

from __future__ import annotations

HF = "https://huggingface.co"
REFANY3D = {
    "RefAny3D_LoadAdapters": [
        (name, "refany3d", f"{HF}/JudgementH/RefAny3D/resolve/main/{name}")
        for name in ("default.safetensors", "coord.safetensors", "domain_embedder.pth")
    ],
}
FLUX = {
    "UNETLoader": [
        ("flux1-dev.safetensors", "diffusion_models",
         f"{HF}/Comfy-Org/flux1-dev/resolve/main/flux1-dev.safetensors"),
    ],
    "DualCLIPLoader": [
        ("t5xxl_fp16.safetensors", "text_encoders",
         f"{HF}/comfyanonymous/flux_text_encoders/resolve/main/t5xxl_fp16.safetensors"),
        ("clip_l.safetensors", "text_encoders",
         f"{HF}/comfyanonymous/flux_text_encoders/resolve/main/clip_l.safetensors"),
    ],
    "VAELoader": [
        ("ae.safetensors", "vae",
         f"{HF}/Comfy-Org/Lumina_Image_2.0_Repackaged/resolve/main/split_files/vae/ae.safetensors"),
    ],
    **REFANY3D,
}  # fmt: skip
# One file with everything of FLUX.1-dev in 8 bits.
FLUX_FP8 = {
    "CheckpointLoaderSimple": [
        ("flux1-dev-fp8.safetensors", "checkpoints",
         f"{HF}/Comfy-Org/flux1-dev/resolve/main/flux1-dev-fp8.safetensors"),
    ],
    **REFANY3D,
}  # fmt: skip
TURBO_LORA = "Hyper-FLUX.1-dev-8steps-lora.safetensors"
TURBO = {
    "LoraLoaderModelOnly": [
        (TURBO_LORA, "loras", f"{HF}/ByteDance/Hyper-SD/resolve/main/{TURBO_LORA}"),
    ],
}
HUNYUAN_FILE = "hunyuan3d-dit-v2-mv_fp16.safetensors"
HUNYUAN = {
    "ImageOnlyCheckpointLoader": [
        (HUNYUAN_FILE, "checkpoints",
         f"{HF}/Comfy-Org/hunyuan3D_2.0_repackaged/resolve/main/split_files/{HUNYUAN_FILE}"),
    ],
}  # fmt: skip


def file_list(models: dict[str, list[tuple[str, str, str]]]) -> str:
    """The note's list of files."""
    lines = [
        f"* [{name}]({address}) in `models/{folder}`"
        for entries in models.values()
        for name, folder, address in entries
    ]
    return "\n".join(lines)
