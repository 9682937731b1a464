"""The demo's pictures on one sheet: `python contact_sheet.py SHEET PICTURE ...`.

Pictures are told by their names: demo_views_*, demo_view_point_maps_*, demo_point_map_*, demo_*.
Run with a Python that has Pillow, such as ComfyUI's.
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

SIDE, LARGE, GAP = 192, 384, 12


def contact_sheet(files: list[Path]) -> Image.Image:
    """Views above their point maps, and below them the generated picture beside its point map."""
    kinds: dict[str, list[Path]] = {}
    for file in sorted(files):
        kinds.setdefault(file.name.split("_0")[0], []).append(file)
    rows = [(kinds[k], SIDE) for k in ("demo_views", "demo_view_point_maps") if k in kinds]
    made = [file for k in ("demo", "demo_point_map") for file in kinds.get(k, ())]
    rows.append((made, LARGE))
    width = max(len(row) * (side + GAP) - GAP for row, side in rows)
    height = sum(side + GAP for _, side in rows) - GAP
    sheet = Image.new("RGB", (width, height), "white")
    top = 0
    for row, side in rows:
        for column, file in enumerate(row):
            picture = Image.open(file).convert("RGB")
            # the pixels of so small a picture are shown as they are
            picture = picture.resize((side, side), Image.Resampling.NEAREST)
            sheet.paste(picture, (column * (side + GAP), top))
        top += side + GAP
    return sheet


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.parent.mkdir(parents=True, exist_ok=True)
    contact_sheet([Path(name) for name in sys.argv[2:]]).save(target)
