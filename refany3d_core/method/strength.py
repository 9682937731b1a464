"""How strongly the references count in the conditional pass; the defaults are the method."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ReferenceStrength:
    """Weights of the references' keys for text and targets.

    A weight of 2 makes a reference count as if it stood there twice, 0 as if it were not there.

    Attributes:
        strength: of all references, at least 0; 1 is the method.
        start: highest noise level (sigma) at which there are references.
        end: lowest such noise level; outside the range the conditional pass has none.
        views: a weight for each view, at least 0, or () for 1 each.
    """

    strength: float = 1.0
    start: float = 1.0
    end: float = 0.0
    views: tuple[float, ...] = ()

    def weights(self, pairs: int, level: float) -> tuple[float, ...]:
        """The weight of each view pair at a noise level.

        Args:
            pairs: number of pairs in the conditioning.
            level: noise level (sigma).

        Raises:
            ValueError: there is another number of views.
        """
        if self.views and len(self.views) != pairs:
            raise ValueError(
                f"view_weights has {len(self.views)} entries, but the reference has {pairs} views; "
                "give one for each, or leave it empty"
            )
        if not self.end <= level <= self.start:
            return (0.0,) * pairs
        return tuple(self.strength * weight for weight in self.views or (1.0,) * pairs)
