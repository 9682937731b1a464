"""Switches that take one idea of the method out, as the paper's ablations do. All off is the
method."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Ablation:
    """What to leave out.

    Attributes:
        domain_token: do not add the domain token.
        shared_positions: move the map target right by the reference offset instead of sharing the
            RGB target's positions.
        adapters: run every token on the base weights.
        text_agnostic: let the map target see the text.
        point_maps: leave out the map target and the map references; the map panel is not denoised.
    """

    domain_token: bool = False
    shared_positions: bool = False
    adapters: bool = False
    text_agnostic: bool = False
    point_maps: bool = False
