"""Triplets, training and evaluation of RefAny3D: `python -m refany3d_core.training --help`."""
