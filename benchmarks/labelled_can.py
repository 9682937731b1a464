"""A can with a printed label: small text on a curved surface, and a true picture of it."""

import numpy as np

from refany3d_core.asset import Asset
from refany3d_core.asset.material import Material, Texture
from refany3d_core.asset.model import Part

RADIUS, HEIGHT = 0.42, 1.0
"""Of the can; its longest side is the height."""
CAPS = 0.12
"""Of the texture's height: a strip above the label that the two lids share."""
LINES = (
    "INGREDIENTS: TOMATOES 82%, ONIONS, OLIVE OIL, SALT",
    "BEST BEFORE 11.2028  LOT 40718-B  NET 400 g",
    "STORE COOL AND DRY. ONCE OPENED KEEP CHILLED",
    "SERVES 3. HEAT GENTLY, STIR, DO NOT BOIL.",
    "PACKED BY FIELD & SON, 17 HARBOUR LANE",
)
"""The small print."""


def label(width: int = 4096, text_height: int = 20) -> np.ndarray:
    """The texture, uint8 [width / 2, width, 4]: the label below, a strip of tin above.

    Args:
        width: texels around the can.
        text_height: size of the small print in texels, from ascender to descender.
    """
    from PIL import Image, ImageDraw, ImageFont

    height = width // 2
    top = int(CAPS * height)
    image = Image.new("RGBA", (width, height), (196, 198, 202, 255))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, top, width, height), fill=(246, 238, 220, 255))
    for x, colour in ((0.0, (178, 34, 40)), (0.5, (24, 92, 70))):
        left = int(x * width)
        draw.rectangle((left, top, left + width // 2, top + height // 5), fill=colour)
        title = ImageFont.load_default(height // 11)
        middle = left + width // 4
        draw.text((middle, top + height // 10), "TOMATO SOUP", (255, 250, 235), title, "mm")
        small = ImageFont.load_default(text_height)
        step = max(text_height * 3 // 2, 2)
        first = top + height // 5 + step
        for row in range((height - first) // step - 1):
            line = LINES[row % len(LINES)]
            draw.text((middle, first + row * step), line, (30, 26, 40), small, "mm")
    return np.array(image)


def can(texture: np.ndarray, segments: int = 96) -> Asset:
    """The can as one part, label all around, v = 0 at the texture's first row."""
    angle = np.linspace(0, 2 * np.pi, segments + 1)
    ring = np.stack([np.cos(angle), np.zeros_like(angle), np.sin(angle)], axis=1) * RADIUS
    up = np.array([0.0, HEIGHT / 2, 0.0])
    u = 1 - angle / (2 * np.pi)  # seen from outside, u grows to the right
    wall = np.concatenate([ring - up, ring + up])
    wall_uv = np.concatenate([np.stack([u, np.full_like(u, v)], 1) for v in (1.0, CAPS + 0.001)])
    i = np.arange(segments)
    n = segments + 1
    faces = [np.stack([i, i + n, i + 1], 1), np.stack([i + 1, i + n, i + n + 1], 1)]
    vertices, uvs = [wall], [wall_uv]
    for k, side in enumerate((-1, 1)):
        first = sum(map(len, vertices))
        middle = np.array([[0.0, 0.0, 0.0]])
        vertices.append(np.concatenate([ring, middle]) + side * up)
        disc = np.concatenate([ring, middle])[:, [0, 2]] / RADIUS * (0.05, 0.9)
        uvs.append((disc + (1 + 4 * k, 1)) * (0.1, CAPS / 2))
        lid = np.stack([first + i, first + i + 1, np.full_like(i, first + n)], 1)
        faces.append(lid if side < 0 else lid[:, ::-1])
    part = Part(
        np.concatenate(vertices),
        np.concatenate(faces).astype(np.int32),
        Material((1.0,) * 4, Texture(texture)),
        np.concatenate(uvs).astype(np.float32),
    )
    return Asset([part])
