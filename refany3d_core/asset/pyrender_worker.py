"""The child process of `pyrender_backend`: a scene on standard input, pictures on standard output.

Run by path, alone: it imports nothing of the pack.
"""

import io
import os
import sys

import numpy as np


def main() -> None:
    output = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # libraries may print
    with np.load(io.BytesIO(sys.stdin.buffer.read()), allow_pickle=False) as arrays:
        color, drawn = draw(arrays)
    packed = io.BytesIO()
    np.savez(packed, color=color, drawn=drawn)
    output.write(packed.getvalue())
    output.flush()


def draw(arrays) -> tuple[np.ndarray, np.ndarray]:
    """uint8 [n, H, W, 3], and bool [n, H, W] where the asset is."""
    import pyrender

    scene = pyrender.Scene(bg_color=[*arrays["background"], 1.0], ambient_light=[0.35] * 3)
    for index in range(int(arrays["parts"])):
        scene.add(pyrender.Mesh([primitive(pyrender, arrays, f"{index}.")]))
    width, height = (int(x) for x in arrays["size"])
    renderer = pyrender.OffscreenRenderer(width, height)
    colors, drawn = [], []
    for pose, (focal, cx, cy) in zip(arrays["poses"], arrays["lenses"], strict=True):
        camera = pyrender.IntrinsicsCamera(focal, focal, cx, cy, znear=0.1, zfar=100.0)
        light = pyrender.DirectionalLight(color=[1.0] * 3, intensity=3.0)
        nodes = [scene.add(camera, pose=pose), scene.add(light, pose=pose)]
        color, depth = renderer.render(scene)
        colors.append(color[..., :3])
        drawn.append(depth > 0)
        for node in nodes:
            scene.remove_node(node)
    renderer.delete()
    return np.stack(colors), np.stack(drawn)


def primitive(pyrender, arrays, prefix: str):
    """One part of the asset."""

    def get(name: str):
        return arrays[prefix + name] if prefix + name in arrays else None

    metallic, roughness = (float(x) for x in arrays[prefix + "surface"])
    texture, uv = get("texture"), get("uv")
    if texture is not None:
        rgb = np.ascontiguousarray(texture[..., :3])
        texture = pyrender.Texture(source=rgb, source_channels="RGB")
        uv = np.stack([uv[:, 0], 1.0 - uv[:, 1]], axis=1)  # pyrender counts v from the last row
    factor = arrays[prefix + "factor"]
    colors = get("colors")
    if texture is not None or colors is not None:
        factor = np.ones(4, np.float32)
    material = pyrender.MetallicRoughnessMaterial(
        baseColorFactor=[*factor[:3], 1.0],
        baseColorTexture=texture,
        metallicFactor=metallic,
        roughnessFactor=roughness,
        doubleSided=True,
    )
    return pyrender.Primitive(
        positions=arrays[prefix + "vertices"],
        normals=arrays[prefix + "normals"],
        texcoord_0=uv,
        color_0=colors,
        indices=arrays[prefix + "faces"],
        material=material,
        mode=4,
    )


if __name__ == "__main__":
    main()
