"""The camera of a picture of a known asset."""

from .search import PoseEstimate, estimate_pose

__all__ = ["PoseEstimate", "estimate_pose"]
