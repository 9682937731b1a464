"""What reaches a node's inputs, looked at before the node works with it.

The host checks the kinds of links, but not what comes through them, nor a value in a link's place,
nor whether a number is one. Without a look the error is some attribute that some object lacks.
"""

import functools
import inspect
import math
from collections.abc import Callable
from typing import Any

import torch
from comfy_api.latest import io

from ..refany3d_core.host.routing import Adapters
from ..refany3d_core.pointmap.paste import Paste
from ..refany3d_core.reference import Reference


def _is_picture(dimensions: int) -> Callable[[Any], bool]:
    return lambda x: isinstance(x, torch.Tensor) and x.ndim == dimensions and x.numel() > 0


def _is_conditioning(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(entry, (list, tuple)) and len(entry) == 2 and isinstance(entry[1], dict)
        for entry in value
    )


SOCKETS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "IMAGE": ("an IMAGE [count, height, width, channels]", _is_picture(4)),
    "MASK": ("a MASK [count, height, width]", _is_picture(3)),
    "LATENT": ("a LATENT", lambda x: isinstance(x, dict) and hasattr(x.get("samples"), "shape")),
    "MODEL": ("a MODEL", lambda x: hasattr(x, "model_options") and hasattr(x, "clone")),
    "VAE": ("a VAE", lambda x: hasattr(x, "encode") or hasattr(x, "decode")),
    "CONDITIONING": ("a CONDITIONING", _is_conditioning),
    "LOAD3D_CAMERA": ("a camera of Load 3D", lambda x: isinstance(x, dict)),
    "LOAD3D_MODEL_INFO": ("a model_3d_info of Load 3D", lambda x: isinstance(x, (dict, list))),
    "REFANY3D_REFERENCE": ("a reference", lambda x: isinstance(x, Reference)),
    "REFANY3D_ADAPTERS": ("adapters", lambda x: isinstance(x, Adapters)),
    "REFANY3D_PASTE": ("a paste of Place in Photo", lambda x: isinstance(x, Paste)),
    "FLOAT": ("a finite number", lambda x: isinstance(x, (int, float)) and math.isfinite(x)),
}
"""By kind of socket: what it takes in words, and a test. Meshes are tested where they are read."""


def check_inputs(node: type[io.ComfyNode], values: dict[str, Any]) -> None:
    """Raise ValueError, with node and input named, for a value of the wrong kind.

    None is an optional input without a link; in a required one it is wrong as well.
    """
    schema = node.SCHEMA or node.GET_SCHEMA()
    for definition in schema.inputs:
        name = definition.id
        if name not in values or definition.get_io_type() not in SOCKETS:
            continue
        what, is_right = SOCKETS[definition.get_io_type()]
        value = values[name]
        if (value is None and definition.optional) or is_right(value):
            continue
        shown = repr(value) if isinstance(value, (str, int, float)) else type(value).__name__
        raise ValueError(
            f"{schema.display_name}: '{name}' is {shown[:80]}, not {what}; connect or enter one"
        )


def checked(node: type[io.ComfyNode]) -> type[io.ComfyNode]:
    """The same node, whose `execute` looks at its inputs first."""
    execute = node.__dict__["execute"].__func__
    if hasattr(execute, "__wrapped__"):
        return node
    signature = inspect.signature(execute)

    @functools.wraps(execute)
    def look_and_execute(cls: type[io.ComfyNode], *args: Any, **kwargs: Any) -> io.NodeOutput:
        given = signature.bind(cls, *args, **kwargs).arguments
        for name, parameter in signature.parameters.items():
            if parameter.kind is parameter.VAR_KEYWORD:
                given |= given.pop(name, {})
        check_inputs(cls, given)
        return execute(cls, *args, **kwargs)

    node.execute = classmethod(look_and_execute)
    return node
