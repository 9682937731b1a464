"""What a glTF file uses beyond the plain format: refused, decoded, or told to the user."""

from importlib.util import find_spec

from .gltf_file import MESHOPT, GltfFile

HONOURED = {
    "KHR_draco_mesh_compression",
    "KHR_mesh_quantization",
    "KHR_texture_transform",
    "EXT_texture_webp",
    "KHR_materials_unlit",
    "KHR_materials_pbrSpecularGlossiness",
    "EXT_mesh_gpu_instancing",
    "KHR_texture_basisu",
    "EXT_texture_avif",
    *MESHOPT,
}
"""Extensions that are read."""

WITHOUT_EFFECT = {
    "KHR_lights_punctual": "lights",
    "KHR_materials_clearcoat": "clear coat",
    "KHR_materials_sheen": "sheen",
    "KHR_materials_specular": "specular strength",
    "KHR_materials_ior": "index of refraction",
    "KHR_materials_iridescence": "iridescence",
    "KHR_materials_anisotropy": "anisotropy",
    "KHR_materials_dispersion": "dispersion",
    "KHR_materials_emissive_strength": "emissive strength",
    "KHR_materials_transmission": "transmission (glass is drawn opaque)",
    "KHR_materials_volume": "volume (glass is drawn opaque)",
    "KHR_materials_variants": "material variants (the default is drawn)",
    "KHR_xmp_json_ld": "",
}
"""Extensions that leave geometry and base colour alone. Empty: nothing to tell."""


def preflight(file: GltfFile, played: bool = False) -> list[str]:
    """Check a file before anything is decoded.

    Args:
        file: the file.
        played: whether a moment of an animation is asked for.

    Returns:
        Sentences about what the file uses and what will not be honoured.

    Raises:
        ValueError: the picture would be wrong: a codec that cannot be decoded here, or an unknown
            required extension.
    """
    used = set(_names(file, "extensionsUsed")) | set(_names(file, "extensionsRequired"))
    required = set(_names(file, "extensionsRequired"))
    warnings = []
    if find_spec("meshopt") is None and any(
        name in (view.get("extensions") or {})
        for view in file.items("bufferViews")
        for name in MESHOPT
    ):
        raise ValueError(
            "its geometry is packed by meshoptimizer, which needs the package meshopt: run `pip "
            "install meshopt` in ComfyUI's Python (3.11 or newer), or export the mesh without "
            "compression (gltf-transform copy in.glb out.glb, or Blender's exporter)"
        )
    if "KHR_draco_mesh_compression" in used and find_spec("DracoPy") is None:
        packed = any(
            "KHR_draco_mesh_compression" in (primitive.get("extensions") or {})
            for mesh in file.items("meshes")
            for primitive in mesh.get("primitives", [])
        )
        if packed:
            raise ValueError(
                "its geometry is packed with Draco, which needs the package DracoPy: run "
                "`pip install DracoPy` in ComfyUI's Python, or export the mesh without compression"
            )
    unknown = sorted(required - HONOURED - set(WITHOUT_EFFECT))
    if unknown:
        raise ValueError(
            f"it requires the glTF extension {', '.join(unknown)}, which is not supported; export "
            "it as plain glTF 2.0"
        )
    for name in sorted(used - HONOURED):
        effect = WITHOUT_EFFECT.get(name, None)
        if effect:
            warnings.append(f"{effect} ({name}) is not drawn")
        elif effect is None:
            warnings.append(f"the extension {name} is ignored")
    if file.items("animations") and not played:
        warnings.append("animations are not played: the mesh is drawn in its rest pose")
    return warnings


def _names(file: GltfFile, key: str) -> list[str]:
    value = file.tree.get(key, [])
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise ValueError(f"its {key} is malformed")
    return value
