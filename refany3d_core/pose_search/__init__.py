"""The camera of a picture of a known asset."""

from .overlay import overlay
from .search import PoseEstimate, estimate_pose, refusal

__all__ = ["PoseEstimate", "estimate_pose", "overlay", "refusal"]
