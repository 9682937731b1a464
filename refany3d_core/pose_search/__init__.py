"""The camera of a picture of a known asset."""

from .overlay import overlay
from .scores import refusal
from .search import PoseEstimate, estimate_pose

__all__ = ["PoseEstimate", "estimate_pose", "overlay", "refusal"]
