"""What a template is made of. To add one:

1. Write a file `scripts/<topic>_templates.py` (or add to one) with a dictionary

       TEMPLATES = {"Picture of my 3D mesh and its point map (FLUX.1-dev)": a_function}

   The key is the file's name and with it all that the page shows, and searches, of a template: a
   sentence with the words that people look for. No `/ : * ? " < > |`, for Windows.
2. The function gives a `Template`: `nodes` by a key of your own (see `node`), `links` between them
   as (from, output, to, input), and `boxes`, subgraphs that fold several nodes into one. Nothing
   else has to know of it: `save_workflows.py` and the tests find it.
3. `python scripts/save_workflows.py "the sentence"` builds it in the real page, writes
   `workflows/<sentence>.json` and, by running it, the thumbnail beside it. Look at both, and at
   the screenshot that it leaves in test-artifacts/.

What the tests hold a template to: 4 to 8 nodes in sight, notes and boxes included; the whole graph
at most MAX_SIZE, so that its text can be read in a window of 1600 x 1000; a first Run without an
error, on the small model or with all links in the missing-model panel. Widgets that a user needs
are promoted by the box. `bundled_models()` and `make_box()` below serve most graphs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

# The page fits a graph with a margin: 0.75 of the window's 1600 x 857 at a scale of 0.6 or more.
MAX_SIZE = (2000, 1070)
# Pale ones of the page's own group colours.
BLUE, GREEN, BROWN = "#88AABB", "#88AA88", "#BBAA88"

Node = dict[str, Any]
Link = tuple[str, str, str, str]


def node(
    kind: str,
    pos: tuple[int, int] = (0, 0),
    size: tuple[int, int] = (300, 100),
    title: str | None = None,
    mode: int = 0,
    **widgets: object,
) -> Node:
    """A node of a template; widgets by name, or by number as `_0` where a node's have no names.

    Nodes that go into a box need no place: the box lays them out.
    """
    return {
        "type": kind,
        "pos": list(pos),
        "size": list(size),
        "title": title,
        "mode": mode,
        "widgets": {name.removeprefix("_"): value for name, value in widgets.items()},
    }


def note(text: str, pos: tuple[int, int], size: tuple[int, int], title: str) -> Node:
    return node("MarkdownNote", pos, size, title, _0=text)


@dataclass(frozen=True)
class Box:
    """A subgraph.

    Attributes:
        title: shown on it.
        nodes: keys of the nodes that it folds.
        pos, size: of the box, as for `node`.
        widgets: (node, widget, name on the box) to show on it, in this order.
        names: of its sockets, where the inner socket's name would not say enough.
    """

    title: str
    nodes: tuple[str, ...]
    pos: tuple[int, int]
    size: tuple[int, int]
    widgets: tuple[tuple[str, str, str], ...] = ()
    names: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Template:
    """A graph for the page.

    Attributes:
        nodes: by key; the note first.
        links: (from, output, to, input).
        boxes: subgraphs by key.
        groups: (title, [x, y, width, height], colour).
        thumbnail: keys of the nodes whose pictures make the thumbnail: the first fills it, the
            others lie along its lower edge. They have to run on what comes with the pack.
        models: (file, folder, address) by node type, or by key where a template has several nodes
            of the type with files of their own, for the page's missing-model panel.
        app_inputs, app_outputs: (node or box, widget) and nodes that the page's app mode shows.
        blueprints: name in the page's list of subgraphs by box; they go to `subgraphs/`.
    """

    nodes: dict[str, Node]
    links: list[Link]
    boxes: dict[str, Box] = field(default_factory=dict)
    groups: list[tuple[str, list[int], str]] = field(default_factory=list)
    thumbnail: tuple[str, ...] = ("views",)
    models: dict[str, list[tuple[str, str, str]]] = field(default_factory=dict)
    app_inputs: tuple[tuple[str, str], ...] = ()
    app_outputs: tuple[str, ...] = ()
    blueprints: dict[str, str] = field(default_factory=dict)


# The bundled small model and its mesh, as every template without a download has them. Columns:
# mesh and models at 0, views at 400, prompt and sampling at 920, results at 1320.
EXAMPLE = "examples/mushroom.glb"
PROMPT = "a mushroom on grass in front of snowy mountains"
SIZE, VIEWS, STEPS = 96, 4, 20


def small_mesh_nodes(text: str, title: str) -> dict[str, Node]:
    """Note, models, mesh, views and prompt on the small model."""
    return {
        "note": note(text, (0, 0), (360, 340), title),
        "models": node("RefAny3D_LoadDemoModels", (0, 390), (360, 110)),
        "mesh": node("RefAny3D_LoadMesh", (0, 620), (360, 310), mesh_file=EXAMPLE),
        "views": node(
            "RefAny3D_RenderViews", (400, 0), (480, 930), views=VIEWS, resolution=SIZE
        ),
        "prompt": node("CLIPTextEncode", (920, 0), (360, 150), "Prompt", text=PROMPT),
    }  # fmt: skip


def small_sampler() -> Node:
    """lcm: the small model's pictures hold the mesh's colours better so (docs/evidence.md)."""
    return node(
        "RefAny3D_Sampler", seed=0, width=SIZE, height=SIZE, steps=STEPS, image_guidance=2.0,
        isolated_references=True, sampler_name="lcm",
    )  # fmt: skip


MESH_LINKS: list[Link] = [
    ("models", "clip", "prompt", "clip"),
    ("models", "vae", "encode", "vae"),
    ("mesh", "mesh", "views", "mesh"),
    ("views", "views", "encode", "views"),
    ("views", "point_maps", "encode", "point_maps"),
]
SAMPLE_LINKS: list[Link] = [
    ("models", "model", "sampler", "model"),
    ("models", "adapters", "sampler", "adapters"),
    ("prompt", "CONDITIONING", "sampler", "positive"),
    ("encode", "reference", "sampler", "reference"),
    ("sampler", "image", "decode", "samples"),
    ("sampler", "point_map", "decode_map", "point_map"),
    ("models", "vae", "decode", "vae"),
    ("models", "vae", "decode_map", "vae"),
]
SAVE_LINKS: list[Link] = [
    ("decode", "IMAGE", "image", "images"),
    ("decode_map", "point_map", "map", "images"),
]


def sampling_nodes(sampler: Node | None = None) -> dict[str, Node]:
    """Encode, sample and decode: what `make_box` folds."""
    return {
        "encode": node("RefAny3D_EncodeReferences"),
        "sampler": sampler or small_sampler(),
        "decode": node("VAEDecode"),
        "decode_map": node("RefAny3D_DecodePointMap"),
    }


def save_nodes(x: int = 1320, prefix: str = "RefAny3D/") -> dict[str, Node]:
    """Save Image for both pictures, one above the other."""
    return {
        "image": node("SaveImage", (x, 0), (400, 440), "Image", filename_prefix=prefix + "image"),
        "map": node(
            "SaveImage", (x, 490), (400, 440), "Point map", filename_prefix=prefix + "point_map"
        ),
    }


def make_box(
    y: int = 220,
    widgets: tuple[tuple[str, str, str], ...] = (),
    more: tuple[str, ...] = (),
    title: str = "Make the picture and its point map",
    height: int = 330,
) -> Box:
    """The box of `sampling_nodes`, with `more` nodes and `widgets` in it."""
    shown = (
        ("sampler", "seed", "seed"),
        ("sampler", "steps", "steps"),
        ("sampler", "image_guidance", "image_guidance"),
        ("sampler", "width", "width"),
        ("sampler", "height", "height"),
    )
    return Box(
        title,
        ("encode", "sampler", "decode", "decode_map", *more),
        (920, y),
        (360, height),
        shown + widgets,
        {"IMAGE": "image", "positive": "prompt"},
    )


def small_groups() -> list[tuple[str, list[int], str]]:
    return [
        ("Your mesh", [-20, 540, 400, 410], GREEN),
        ("What to make", [900, -80, 395, 1030], BROWN),
        ("The pictures", [1305, -80, 435, 1030], BLUE),
    ]
