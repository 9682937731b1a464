"""Sockets of our own and of the community."""

from comfy_api.latest import io

CATEGORY = "RefAny3D"

AdaptersSocket = io.Custom("REFANY3D_ADAPTERS")
ReferenceSocket = io.Custom("REFANY3D_REFERENCE")
