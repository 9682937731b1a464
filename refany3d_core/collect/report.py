"""What became of the records: yields by stage, reasons, and pictures to look at."""

from __future__ import annotations

import io
import json
import re
import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from .engine import SOURCE, Plan
from .pictures import read_mask
from .store import DONE, FAILED, REFUSED, Record, Result, keys, write_whole

TILE, TEXT_LINES, COLUMNS, SHOWN = 192, 4, 8, 64
_REASONS = 12


@dataclass
class StageCount:
    """Pictures of one stage, and the seconds that a record took."""

    kept: int = 0
    refused: int = 0
    failed: int = 0
    waiting: int = 0
    seconds: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Fate:
    """Where a picture ended.

    Attributes:
        record: not read by `survey`: a hundred thousand results are too many to hold.
        index: of the picture; None for a record that ended before it had any.
        stage: the last one.
        status: DONE (kept), REFUSED or FAILED.
        reason: unless kept.
    """

    record: Record
    index: int | None
    stage: str
    status: str
    reason: str


def survey(plan: Plan, work: Path) -> tuple[dict[str, StageCount], list[Fate]]:
    """All records of the present source: counts by stage, and every picture that has ended."""
    counts = {name: StageCount() for name in plan.names}
    fates: list[Fate] = []
    for key in keys(work):
        record = Record(work, key)
        last = plan.state(record)
        if last is not None:
            fates += _follow(plan, record, last, counts, Record(work, key))
    return counts, fates


def _follow(
    plan: Plan, record: Record, last: Result, counts: dict[str, StageCount], unread: Record
) -> Iterator[Fate]:
    """Count a record's stages; its pictures that have ended, with the record `unread`."""
    alive = 0
    for name in plan.names:
        result = record.results.get(name)
        count = counts[name]
        if result is None:
            count.waiting += alive if last.status == DONE else 0
            return
        count.seconds.append(result.seconds)
        pictures = result.pictures
        if not pictures:  # the whole record ended here
            ended = max(alive, 1)
            if result.status == FAILED:
                count.failed += ended
            else:
                count.refused += ended
            indices: list[int | None] = [*record.alive_before(name)] or [None]
            yield from (Fate(unread, i, name, result.status, result.reason) for i in indices)
            return
        before = record.alive_before(name) if name != SOURCE else range(len(pictures))
        for index in before:
            reason = pictures[index].get("refused")
            if reason is not None:
                count.refused += 1
                yield Fate(unread, index, name, REFUSED, str(reason))
        kept = [i for i in before if "refused" not in pictures[i]]
        alive = len(kept)
        count.kept += alive
        if name == plan.names[-1]:
            yield from (Fate(unread, i, name, DONE, "") for i in kept)


def reasons(fates: Sequence[Fate]) -> list[tuple[str, str, int]]:
    """(stage, reason without its numbers and names, how often), the most frequent first."""
    counted = Counter((fate.stage, _general(fate.reason)) for fate in fates if fate.status != DONE)
    return [(stage, reason, count) for (stage, reason), count in counted.most_common()]


def _general(reason: str) -> str:
    reason = re.sub(r"'[^']*'", "'...'", reason.split("; ")[0])
    return re.sub(r"-?\d+(\.\d+)?", "#", reason)[:160]


def write_report(plan: Plan, work: Path) -> str:
    """Write report.json, report.md, kept.png and refused.png; gives the text of report.md."""
    counts, fates = survey(plan, work)
    lines = [
        "| stage | pictures in | kept | refused | failed | waiting | seconds a record |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, count in counts.items():
        entered = count.kept + count.refused + count.failed + count.waiting
        share = f" ({count.kept / entered:.0%})" if entered else ""
        seconds = f"{median(count.seconds):.2f}" if count.seconds else ""
        lines.append(
            f"| {name} | {entered} | {count.kept}{share} | {count.refused} | {count.failed} | "
            f"{count.waiting} | {seconds} |"
        )
    grouped = reasons(fates)
    if grouped:
        lines += ["", "| stage | reason | pictures |", "|---|---|---|"]
        lines += [f"| {stage} | {reason} | {n} |" for stage, reason, n in grouped[:_REASONS]]
        rest = sum(n for _, _, n in grouped[_REASONS:])
        lines += [f"| | {len(grouped) - _REASONS} more | {rest} |"] if rest else []
    text = "\n".join(lines) + "\n"
    values: Mapping[str, Any] = {
        "stages": {
            name: {
                "kept": c.kept, "refused": c.refused, "failed": c.failed, "waiting": c.waiting,
                "median_seconds": median(c.seconds) if c.seconds else None,
            }
            for name, c in counts.items()
        },
        "reasons": [{"stage": s, "reason": r, "pictures": n} for s, r, n in grouped],
    }  # fmt: skip
    write_whole(work / "report.json", json.dumps(values, indent=1).encode())
    write_whole(work / "report.md", text.encode())
    for name, chosen in (
        ("kept", [fate for fate in fates if fate.status == DONE]),
        ("refused", [fate for fate in fates if fate.status != DONE]),
    ):
        target = work / f"{name}.png"
        if chosen:
            shown = _spread(chosen, SHOWN)
            for fate in shown:
                plan.state(fate.record)
            content = io.BytesIO()
            contact_sheet(shown).save(content, "PNG")
            write_whole(target, content.getvalue())
        else:
            target.unlink(missing_ok=True)
    return text


def _spread(fates: Sequence[Fate], count: int) -> list[Fate]:
    """At most so many: evenly from each stage and reason, then in that order."""
    groups: dict[tuple[str, str], list[Fate]] = {}
    for fate in fates:
        groups.setdefault((fate.stage, _general(fate.reason)), []).append(fate)
    share = max(1, count // len(groups))
    out: list[Fate] = []
    for group in groups.values():
        steps = np.linspace(0, len(group) - 1, min(share, len(group)))
        out += [group[round(step)] for step in steps]
    return out[:count]


def contact_sheet(fates: Sequence[Fate]) -> Image.Image:
    """A tile for each picture: what is known of it, and its scores or why it ended."""
    height = TILE + TEXT_LINES * 12 + 4
    columns = min(COLUMNS, len(fates))
    rows = -(-len(fates) // columns)
    sheet = Image.new("RGB", (columns * (TILE + 4) + 4, rows * (height + 4) + 4), (48, 48, 48))
    draw = ImageDraw.Draw(sheet)
    for number, fate in enumerate(fates):
        x, y = 4 + number % columns * (TILE + 4), 4 + number // columns * (height + 4)
        picture = _tile(fate)
        sheet.paste(picture, (x + (TILE - picture.width) // 2, y + (TILE - picture.height) // 2))
        for line, words in enumerate(_words(fate)):
            draw.text((x, y + TILE + 2 + line * 12), words, fill=(230, 230, 230))
    return sheet


def _tile(fate: Fate) -> Image.Image:
    """The outline of the pose if there is one, else of the mask, else the plain picture."""
    record, index = fate.record, fate.index
    image = Image.new("RGB", (TILE, TILE), (90, 90, 90))
    if index is not None:
        posed, plain = (record.file(s, n) for s, n in
                        (("pose", f"overlay_{index}.jpg"), (SOURCE, f"{index}.png")))  # fmt: skip
        mask = record.file("masks", f"{index}.png")
        if "pose" in record.results and posed.exists():
            with Image.open(posed) as found:
                image = found.convert("RGB")
        elif plain.exists():
            with Image.open(plain) as found:
                image = found.convert("RGB")
            if "masks" in record.results and mask.exists():
                pixels = np.asarray(image) * 0.4
                inside = read_mask(mask)
                pixels[inside] = np.asarray(image)[inside]
                image = Image.fromarray(pixels.astype(np.uint8))
    image.thumbnail((TILE, TILE))
    return image


def _words(fate: Fate) -> Iterator[str]:
    name = fate.record.key.rsplit("-", 1)[0]
    title = f"{name} {fate.index if fate.index else ''}"
    pose = fate.record.results.get("pose")
    text = fate.reason
    if fate.status == DONE and pose is not None and fate.index is not None:
        found = pose.pictures[fate.index]
        text = (
            f"IoU {found['iou']:.2f}, ambiguity {found['ambiguity']:.2f}, colour correlation "
            f"{found['colour_correlation']:.2f}"
        )
    elif fate.status != DONE:
        title = f"{fate.stage}: {title}"
    yield title[:31]
    text = text.encode("latin-1", "replace").decode("latin-1")  # the built-in font's letters
    yield from textwrap.wrap(text, 31)[: TEXT_LINES - 1]
