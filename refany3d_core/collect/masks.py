"""The object's mask: SAM, SAM 2 or SAM 3 of transformers, a ComfyUI graph, or the source's own."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..networks import kind_of, load
from .config import Config, settings_of
from .graph import Graph, Servers
from .pictures import box_of, bright, read_mask, write_mask
from .stages import Lazy, Outcome, each_picture
from .store import Record, Refused

_CLASSES = {
    "sam3": ("Sam3Model", "Sam3Processor"),
    "sam2": ("Sam2Model", "Sam2Processor"),
    "sam": ("SamModel", "SamProcessor"),
}
_SAM3_THRESHOLD = 0.5


class Masks:
    """A mask of each picture; subclasses find it."""

    name = "masks"

    def __init__(self, config: Config) -> None:
        self.config = config.masks
        self.settings = settings_of(config.masks)

    def find(self, record: Record, index: int) -> np.ndarray:
        """bool [H, W] of a picture.

        Raises:
            Refused: there is none.
        """
        raise NotImplementedError

    def __call__(self, record: Record, folder: Path) -> Outcome:
        def mask(index: int) -> dict:
            found = self.find(record, index)
            size = record.picture("source", index)["size"]
            if found.shape != (size[1], size[0]):
                raise Refused(
                    f"the mask has {found.shape[1]}x{found.shape[0]} pixels, the picture "
                    f"{size[0]}x{size[1]}"
                )
            if not found.any():
                raise Refused("the mask is empty")
            if found.mean() < self.config.min_area:
                raise Refused(
                    f"the mask covers {found.mean():.2%} of the picture, under "
                    f"{self.config.min_area:.2%}"
                )
            if found.all():
                raise Refused("the mask covers the whole picture")
            write_mask(found, folder / f"{index}.png")
            edges = (found[0], found[-1], found[:, 0], found[:, -1])
            cut = any(bool(edge.any()) for edge in edges)
            return {"box": box_of(found), "area": float(found.mean()), "cut": cut}

        return Outcome(each_picture(record, mask))


class GivenMasks(Masks):
    """The source's mask column, or the picture's own alpha."""

    def find(self, record: Record, index: int) -> np.ndarray:
        file = record.file("source", f"mask_{index}.png")
        if not file.exists():
            raise Refused("the source gives no mask")
        return read_mask(file)


class GraphMasks(Masks):
    """A graph on the servers that saves one picture, white on the object."""

    def __init__(self, config: Config, servers: Servers) -> None:
        super().__init__(config)
        self._graph, self._servers = Graph(config.path(config.masks.graph)), servers
        self.settings = {**self.settings, "graph": self._graph.content}

    def find(self, record: Record, index: int) -> np.ndarray:
        picture = record.file("source", f"{index}.png").read_bytes()
        texts = {"item": record.data("source")["item"]}
        run = self._servers.run(self._graph, picture, f"{record.key}_mask_{index}", texts)
        content, _ = run.only_file(("png", "webp", "jpg", "jpeg"), "picture")
        with Image.open(io.BytesIO(content)) as image:
            return bright(image)


class SamMasks(Masks):
    """SAM and SAM 2 by the box, SAM 3 by the object's name and, where there is one, the box."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._network = Lazy(lambda: self._load(config))

    @staticmethod
    def _load(config: Config) -> tuple[str, Any, Any]:
        model = config.model(config.masks.model)
        kind = kind_of(model)
        for name, (network, processor) in _CLASSES.items():
            if kind.startswith(name):
                return name, *load(model, network, processor, config.run.device)
        raise ValueError(f"[masks] '{config.masks.model}' is a {kind}, expected SAM, SAM 2 or 3")

    def find(self, record: Record, index: int) -> np.ndarray:
        import torch

        box = None
        if "boxes" in record.results:
            box = [float(x) for x in record.picture("boxes", index)["box"]]
        with Image.open(record.file("source", f"{index}.png")) as image:
            image = image.convert("RGB")
        with self._network as (kind, network, processor), torch.no_grad():
            if kind == "sam3":
                item = str(record.data("source")["item"])
                return _sam3_mask(network, processor, image, item, box)
            if box is None:
                raise Refused("SAM needs a box: choose a method under [boxes], or SAM 3")
            return _sam_mask(network, processor, image, box)


def _sam_mask(network, processor, image: Image.Image, box: list[float]) -> np.ndarray:
    inputs = processor(images=image, input_boxes=[[box]], return_tensors="pt").to(network.device)
    outputs = network(**inputs, multimask_output=False)
    sizes = [inputs["original_sizes"].cpu()]
    if "reshaped_input_sizes" in inputs:  # SAM pads to a square, SAM 2 stretches
        sizes.append(inputs["reshaped_input_sizes"].cpu())
    masks = processor.post_process_masks(outputs.pred_masks.cpu(), *sizes)[0]
    return np.asarray(masks.reshape(-1, image.height, image.width)[0] > 0)


def _sam3_mask(
    network, processor, image: Image.Image, item: str, box: list[float] | None
) -> np.ndarray:
    prompts: dict[str, Any] = {"text": item}
    if box is not None:
        prompts |= {"input_boxes": [[box]], "input_boxes_labels": [[1]]}
    inputs = processor(images=image, **prompts, return_tensors="pt").to(network.device)
    found = processor.post_process_instance_segmentation(
        network(**inputs), threshold=_SAM3_THRESHOLD, target_sizes=[(image.height, image.width)]
    )[0]
    masks = np.asarray(found["masks"].cpu()) > 0
    if not len(masks):
        raise Refused(f"no object found for '{item}'")
    if len(masks) > 1 and box is None:
        raise Refused(f"{len(masks)} objects found for '{item}'")
    return masks[int(found["scores"].argmax())]
