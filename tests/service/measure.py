"""For the server under test: what its C library keeps free and Python holds, at GET /measure."""

import ctypes
import gc
import sys

from aiohttp import web
from server import PromptServer

FIELDS = (
    "arena", "ordblks", "smblks", "hblks", "hblkhd",
    "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
)  # fmt: skip


class Usage(ctypes.Structure):
    """glibc's `struct mallinfo2`; `fordblks`: free bytes of all arenas."""

    _fields_ = [(name, ctypes.c_size_t) for name in FIELDS]


def free_bytes(trim: bool) -> int:
    """0 where the C library does not say."""
    try:
        library = ctypes.CDLL(None)
        ask = library.mallinfo2
    except (AttributeError, OSError, TypeError):
        return 0
    if trim:
        # The pages go, while the blocks stay counted as free.
        library.malloc_trim(0)
        return 0
    ask.restype = Usage
    return ask().fordblks


@PromptServer.instance.routes.get("/measure")
async def measure(request: web.Request) -> web.Response:
    gc.collect()
    free = free_bytes("trim" in request.query)
    return web.json_response({"free": free, "blocks": sys.getallocatedblocks()})


NODE_CLASS_MAPPINGS: dict[str, type] = {}
