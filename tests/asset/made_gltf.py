"""glTF files with what few files at hand have: skins, morph targets, instances, packed colours."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from make_gltf import Gltf, box
from PIL import Image

_TURN = [0, 0, float(np.sin(0.5)), float(np.cos(0.5))]  # one radian about Z


def arm() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A square bar of 3 along Y in 12 rings: vertices, faces, and colours; and how far up each
    vertex is, 0..1."""
    rings, corners = 12, np.array([[-0.3, 0.2], [0.3, 0.2], [0.3, -0.2], [-0.3, -0.2]])
    height = np.repeat(np.linspace(0, 3, rings), 4)
    vertices = np.stack([np.tile(corners[:, 0], rings), height, np.tile(corners[:, 1], rings)], 1)
    faces = [[0, 2, 1], [0, 3, 2]]
    for ring in range(rings - 1):
        for k in range(4):
            a, b = 4 * ring + k, 4 * ring + (k + 1) % 4
            faces += [[a, b, b + 4], [a, b + 4, a + 4]]
    last = 4 * (rings - 1)
    faces += [[last, last + 1, last + 2], [last, last + 2, last + 3]]
    up = height / 3
    colors = np.stack([up, 1 - up, 0.5 + 0 * up, 1 + 0 * up], axis=1)
    return vertices, np.array(faces), colors, up


def skinned(gltf: Gltf, up: np.ndarray, weights: str = "f", sets: int = 1) -> tuple[int, dict]:
    """Two joints, the second turned; the skin's index, and the attributes of its mesh."""
    share = np.clip((up - 0.3) / 0.4, 0, 1)
    each = np.zeros((len(up), 4 * sets))
    each[:, 0], each[:, 4 * sets - 1] = 1 - share, share
    joints = np.zeros((len(up), 4 * sets), np.uint8)
    joints[:, 4 * sets - 1] = 1
    attributes = {}
    for i in range(sets):
        here = slice(4 * i, 4 * i + 4)
        attributes[f"JOINTS_{i}"] = gltf.array(joints[:, here], "B")
        most = {"f": 1, "B": 255, "H": 65535}[weights]
        values = np.round(each[:, here] * most) if most > 1 else each[:, here]
        attributes[f"WEIGHTS_{i}"] = gltf.array(values, weights, normalized=most > 1)
    tip = gltf.node(False, translation=[0, 1.5, 0], rotation=_TURN)
    root = gltf.node(True, children=[tip], translation=[0.2, 0, 0])
    inverse = np.tile(np.eye(4), (2, 1, 1))
    inverse[0, :3, 3], inverse[1, :3, 3] = (-0.2, 0, 0), (-0.2, -1.5, 0)
    matrices = gltf.array(inverse.transpose(0, 2, 1).reshape(2, 16))
    skin = gltf.add("skins", {"joints": [root, tip], "inverseBindMatrices": matrices})
    return skin, attributes


def skin(gltf: Gltf, weights: str = "f", colors: str = "f") -> None:
    vertices, faces, rgba, up = arm()
    index, attributes = skinned(gltf, up, weights)
    most = {"f": 1, "B": 255, "H": 65535}[colors]
    attributes["COLOR_0"] = gltf.array(rgba * most, colors, normalized=most > 1)
    mesh = gltf.mesh(vertices, faces, gltf.material(), **attributes)
    gltf.node(mesh=mesh, skin=index, translation=[5, 5, 5])  # which must not count


def skin_bytes(gltf: Gltf) -> None:
    skin(gltf, "B", "B")


def skin_shorts(gltf: Gltf) -> None:
    skin(gltf, "H", "H")


def skin_without_matrices(gltf: Gltf) -> None:
    skin(gltf)
    del gltf.tree["skins"][0]["inverseBindMatrices"]


def morph(gltf: Gltf, where: str = "meshes") -> None:
    vertices, faces, rgba, up = arm()
    mesh = gltf.mesh(vertices, faces, gltf.material(), COLOR_0=gltf.array(rgba))
    wide = np.stack([vertices[:, 0] * up * 3, 0 * up, 0 * up], axis=1)
    high = np.stack([0 * up, up * 2, 0 * up], axis=1)
    targets = [{"POSITION": gltf.array(wide)}, {"POSITION": gltf.array(high)}]
    gltf.tree["meshes"][mesh]["primitives"][0]["targets"] = targets
    node = gltf.node(mesh=mesh)
    gltf.tree["meshes"][mesh]["weights"] = [0, 0.1]
    gltf.tree[where][mesh if where == "meshes" else node]["weights"] = [0.8, 0.5]


def morph_of_a_node(gltf: Gltf) -> None:
    morph(gltf, "nodes")


def morph_sparse(gltf: Gltf) -> None:
    """The targets' accessors have no data but what their sparse entries say."""
    morph(gltf)
    _, _, _, up = arm()
    top = np.flatnonzero(up > 0.99)
    sparse = {
        "count": len(top),
        "indices": {"bufferView": gltf.view(top.astype("<u2").tobytes()), "componentType": 5123},
        "values": {"bufferView": gltf.view(np.tile([[1.0, 0, 0]], (4, 1)).astype("f").tobytes())},
    }
    accessor = {"componentType": 5126, "count": len(up), "type": "VEC3", "sparse": sparse}
    accessor |= {"min": [0, 0, 0], "max": [1, 0, 0]}
    targets = gltf.tree["meshes"][0]["primitives"][0]["targets"]
    targets[0]["POSITION"] = gltf.add("accessors", accessor)


def skin_and_morph(gltf: Gltf) -> None:
    morph(gltf)
    _, _, _, up = arm()
    index, attributes = skinned(gltf, up)
    gltf.tree["meshes"][0]["primitives"][0]["attributes"].update(attributes)
    gltf.tree["nodes"][0]["skin"] = index


def instancing(gltf: Gltf, mirrored: bool = False) -> None:
    vertices, faces = box((0.6, 0.8, 1.0))
    colors = np.concatenate([vertices + 0.5, np.ones((8, 1))], axis=1)
    mesh = gltf.mesh(vertices, faces, gltf.material(), COLOR_0=gltf.array(colors))
    turns = np.stack([np.sin(np.arange(5) / 3), np.zeros(5), np.zeros(5), np.cos(np.arange(5) / 3)])
    where = np.stack([np.arange(5) * 1.2, np.arange(5) ** 2 / 5, -np.arange(5)], axis=1)
    attributes = {
        "TRANSLATION": gltf.array(where),
        "ROTATION": gltf.array(turns.T),
        "SCALE": gltf.array(np.stack([1 + np.arange(5) / 4, np.ones(5), np.ones(5)], axis=1)),
    }
    gltf.node(
        mesh=mesh,
        scale=[-1 if mirrored else 1, 1, 1],
        extensions={"EXT_mesh_gpu_instancing": {"attributes": attributes}},
    )
    gltf.tree["extensionsUsed"] = ["EXT_mesh_gpu_instancing"]


def instancing_mirrored(gltf: Gltf) -> None:
    instancing(gltf, mirrored=True)


def draco_colors(gltf: Gltf) -> None:
    import DracoPy

    vertices, faces, rgba, _ = arm()
    packed = DracoPy.encode(
        vertices.astype(np.float32), faces.astype(np.uint32), preserve_order=True,
        colors=(rgba * 255).round().astype(np.uint8), quantization_bits=14,
    )  # fmt: skip
    position = gltf.add(
        "accessors",
        {"componentType": 5126, "count": len(vertices), "type": "VEC3",
         "min": vertices.min(0).tolist(), "max": vertices.max(0).tolist()},
    )  # fmt: skip
    color = {"componentType": 5121, "count": len(vertices), "type": "VEC4", "normalized": True}
    ids = {
        entry["attribute_type"]: entry["unique_id"] for entry in DracoPy.decode(packed).attributes
    }
    extension = {
        "bufferView": gltf.view(packed),
        "attributes": {"POSITION": ids[0], "COLOR_0": ids[2]},
    }
    primitive = {
        "attributes": {"POSITION": position, "COLOR_0": gltf.add("accessors", color)},
        "indices": gltf.add(
            "accessors", {"componentType": 5125, "count": faces.size, "type": "SCALAR"}
        ),
        "material": gltf.material(),
        "extensions": {"KHR_draco_mesh_compression": extension},
    }
    gltf.node(mesh=gltf.add("meshes", {"primitives": [primitive]}))
    names = ["KHR_draco_mesh_compression"]
    gltf.tree.update(extensionsUsed=names, extensionsRequired=names)


def colors_without_material(gltf: Gltf) -> None:
    vertices, faces, rgba, _ = arm()
    gltf.node(mesh=gltf.mesh(vertices, faces, COLOR_0=gltf.array(rgba[:, :3])))


def back_to_back(gltf: Gltf) -> None:
    """Two single-sided sheets upon one another, red to one side and green to the other."""
    corners = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]], float)
    faces = np.array([[0, 1, 2], [0, 2, 3]])
    gltf.node(mesh=gltf.mesh(corners, faces, gltf.material((1, 0, 0, 1))))
    gltf.node(mesh=gltf.mesh(corners, faces[:, ::-1], gltf.material((0, 1, 0, 1))))
    vertices, sides = box((0.2, 0.2, 1))
    gltf.node(mesh=gltf.mesh(vertices, sides, gltf.material((0.2, 0.2, 0.8, 1))))


def texture_and_colors(gltf: Gltf) -> None:
    """A texture with a transform and clamped borders, times vertex colours, times a factor."""
    vertices, faces, rgba, up = arm()
    packed = io.BytesIO()
    pixels = np.random.default_rng(0).integers(80, 255, (4, 4, 3)).astype(np.uint8)
    Image.fromarray(pixels).resize((64, 64)).save(packed, "PNG")
    view = gltf.view(packed.getvalue())
    gltf.add("images", {"bufferView": view, "mimeType": "image/png"})
    gltf.tree["samplers"] = [{"wrapS": 33071, "wrapT": 33648}]
    gltf.add("textures", {"source": 0, "sampler": 0})
    material = gltf.material((1, 0.8, 0.6, 1))
    transform = {"scale": [1.5, 2.0], "offset": [-0.2, 0.1], "rotation": 0.3}
    slot = {"index": 0, "extensions": {"KHR_texture_transform": transform}}
    gltf.tree["materials"][material]["pbrMetallicRoughness"]["baseColorTexture"] = slot
    gltf.tree["extensionsUsed"] = ["KHR_texture_transform"]
    uv = gltf.array(np.stack([vertices[:, 0] + 0.5, up], axis=1))
    color = gltf.array((rgba * 65535).round(), "H", normalized=True)
    gltf.node(mesh=gltf.mesh(vertices, faces, material, COLOR_0=color, TEXCOORD_0=uv))


def animated(gltf: Gltf) -> None:
    """A skinned and morphing arm that moves by each kind of interpolation."""
    skin_and_morph(gltf)
    root, tip = gltf.tree["skins"][0]["joints"]
    times = gltf.array([0, 1, 2])
    half, whole = np.sin(np.pi / 8), np.cos(np.pi / 8)
    turns = gltf.array([[0, 0, 0, 1], [half, 0, 0, whole], [0, 0, -2 * half * whole, 0.5**0.5]])
    jumps = gltf.array([[0, 1.5, 0], [0.3, 1.5, 0], [0, 2, 0]])
    cubic = np.zeros((9, 3))
    cubic[1::3] = [[1, 1, 1], [1.5, 1, 1], [1, 1.2, 1]]
    cubic[2::3], cubic[0::3] = (0.5, 0, 0), (0, 0.3, 0)
    samplers = [
        {"input": times, "output": turns, "interpolation": "LINEAR"},
        {"input": times, "output": jumps, "interpolation": "STEP"},
        {"input": times, "output": gltf.array(cubic), "interpolation": "CUBICSPLINE"},
        {"input": times, "output": gltf.array([0, 0, 1, 0, 0, 1])},
    ]
    targets = [(tip, "rotation"), (tip, "translation"), (root, "scale"), (0, "weights")]
    channels = [
        {"sampler": i, "target": {"node": node, "path": path}}
        for i, (node, path) in enumerate(targets)
    ]
    gltf.add("animations", {"name": "wave", "samplers": samplers, "channels": channels})


MADE: list[Callable[[Gltf], None]] = [
    skin, skin_bytes, skin_shorts, skin_without_matrices, morph, morph_of_a_node, morph_sparse,
    skin_and_morph, instancing, instancing_mirrored, draco_colors, colors_without_material,
    back_to_back, texture_and_colors, animated,
]  # fmt: skip


def make(maker: Callable[[Gltf], None], folder: Path) -> Path:
    """Write the file that a maker describes."""
    gltf = Gltf()
    maker(gltf)
    return gltf.save(folder / f"{maker.__name__}.glb")
