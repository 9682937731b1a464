"""COLLADA skins: turned into plain geometry before trimesh, which leaves them out, reads a file."""

import re
import xml.etree.ElementTree as ET


def without_skins(data: bytes) -> tuple[bytes, list[str]]:
    """A DAE file whose skinned and morphed geometry is drawn in its bind pose, and warnings.

    Raises:
        ValueError: not XML, or with entities.
    """
    if re.search(rb"<!(DOCTYPE|ENTITY)", data):
        raise ValueError("it declares XML entities, which are refused; export it again")
    if b"instance_controller" not in data:
        return data, []
    try:
        root = ET.fromstring(data)
    except ET.ParseError as error:
        raise ValueError(f"it is not a readable DAE file ({error}); export it again") from error
    space = root.tag.partition("}")[0] + "}" if root.tag.startswith("{") else ""
    controllers = {entry.get("id", ""): entry for entry in root.iter(f"{space}controller")}
    scenes = list(root.iter(f"{space}visual_scene"))
    for parent in list(root.iter(f"{space}node")):
        for instance in parent.findall(f"{space}instance_controller"):
            parent.remove(instance)
            geometry, matrix = _source(instance.get("url", ""), controllers, space)
            if not geometry or not scenes:
                continue
            # a skin is placed by its joints, not by the node that it hangs on
            node = ET.SubElement(scenes[0], f"{space}node")
            if matrix:
                ET.SubElement(node, f"{space}matrix").text = matrix
            plain = ET.SubElement(node, f"{space}instance_geometry", url=geometry)
            plain.extend(instance.findall(f"{space}bind_material"))
    if space:
        ET.register_namespace("", space[1:-1])
    warning = "skins of DAE files are drawn in their bind pose; convert it to GLB to pose them"
    return ET.tostring(root, encoding="utf-8", xml_declaration=True), [warning]


def _source(url: str, controllers: dict[str, ET.Element], space: str) -> tuple[str, str]:
    """The geometry's URL behind a controller's, which may stand before another one, and the
    bind shape matrix."""
    matrix = ""
    for _ in range(8):
        controller = controllers.get(url.lstrip("#"))
        if controller is None:
            return url, matrix
        inner = next(iter(controller), None)
        if inner is None:
            return "", ""
        url = inner.get("source", "")
        matrix = (inner.findtext(f"{space}bind_shape_matrix") or matrix).strip()
    return "", ""
