"""One picture of all views: RGB above point map, the azimuth on each."""

import numpy as np

from .views import RenderedViews

GAP = 4


def contact_sheet(views: RenderedViews, tile: int = 192, columns: int = 4) -> np.ndarray:
    """All views above their point maps, at most `columns` in a row.

    Args:
        views: rendered views.
        tile: largest width and height of a view in the sheet, pixels.

    Returns:
        float32 [H, W, 3] in 0..1.
    """
    from PIL import Image, ImageDraw

    count, height, width = views.masks.shape
    scale = min(1.0, tile / max(height, width))
    w, h = max(1, round(width * scale)), max(1, round(height * scale))
    columns = min(columns, count)
    rows = -(-count // columns)
    sheet = Image.new(
        "RGB", (columns * (w + GAP) + GAP, rows * (2 * (h + GAP) + GAP) + GAP), (64, 64, 64)
    )
    draw = ImageDraw.Draw(sheet)
    for index in range(count):
        x = GAP + index % columns * (w + GAP)
        y = GAP + index // columns * (2 * (h + GAP) + GAP)
        for below, pictures in enumerate((views.colors, views.point_maps)):
            pixels = (np.clip(pictures[index], 0, 1) * 255).astype(np.uint8)
            image = Image.fromarray(pixels).resize((w, h), Image.Resampling.BOX)
            sheet.paste(image, (x, y + below * (h + GAP)))
        label = f"{views.azimuths[index]:.0f}\N{DEGREE SIGN}" if views.azimuths else f"{index}"
        draw.text((x + 4, y + 2), label, fill=(0, 0, 0), stroke_width=1, stroke_fill=(255,) * 3)
    return np.asarray(sheet, np.float32) / 255.0
