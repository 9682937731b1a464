"""RefAny3D (ICLR 2026, arXiv 2601.22094): 3D asset referenced image generation."""

from .reference import Reference

__all__ = ["Reference"]
