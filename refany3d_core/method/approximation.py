"""Trading exactness for speed. Everything here is off by default; the defaults are the method."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Approximation:
    """What to compute less often than the method does.

    Attributes:
        reference_reuse: recompute the references' keys and values every so many steps and reuse
            them between; 1 is exact.
        isolated_references: references of the conditional pass see only their own pair, as the
            published code's cache intends (METHOD fact 30), instead of text and targets too.
        fp8_storage: keep reused keys and values as float8 (e4m3) instead of the computing dtype.
        ram_storage: keep them in main memory instead of the device's.
        trim_references: leave out reference tokens that do not show the object (trimming.py).
        guidance_start: highest noise level (sigma) at which the unconditional pass runs.
        guidance_end: lowest such noise level; outside the range the conditional prediction is used.
    """

    reference_reuse: int = 1
    isolated_references: bool = False
    fp8_storage: bool = False
    ram_storage: bool = False
    trim_references: bool = False
    guidance_start: float = 1.0
    guidance_end: float = 0.0
