"""The parts of the method that can be switched off, as the paper's ablations do."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Components:
    """Which parts of the method are on. All on is the method.

    Attributes:
        domain_token: the domain token that tells RGB from point map (METHOD fact 3).
        reference_lora: Reference-LoRA on the references (fact 16).
        domain_lora: Domain-LoRA on the point maps (fact 16).
        shared_positions: the map target has the RGB target's positions (fact 13); off, it lies
            right of it by the reference offset.
        text_agnostic: the map target does not see the text (fact 6).
        point_maps: the map target and the map references; off, the map panel is not denoised.
    """

    domain_token: bool = True
    reference_lora: bool = True
    domain_lora: bool = True
    shared_positions: bool = True
    text_agnostic: bool = True
    point_maps: bool = True
