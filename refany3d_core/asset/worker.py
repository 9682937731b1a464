"""Native libraries that may not run in ComfyUI's process, in processes of their own."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from pathlib import Path

_KEPT = ("PATH", "SYSTEMROOT", "TEMP", "TMP", "TMPDIR", "DISPLAY", "LD_LIBRARY_PATH", "HOME")


def run_worker(
    script: Path,
    data: bytes,
    seconds: float,
    environment: Mapping[str, str] | None = None,
    progress: Callable[[], None] = lambda: None,
) -> tuple[bytes | None, str]:
    """Run one of the pack's own scripts: bytes to its standard input, bytes from its output.

    Args:
        script: a file of the pack, which imports nothing of it.
        data: for its standard input.
        seconds: after which it is ended.
        environment: variables beside the few that it keeps of ours.
        progress: called a few times a second; may raise, which ends the process.

    Returns:
        its output and "", or None and why there is none.
    """
    kept = {key: os.environ[key] for key in _KEPT if key in os.environ}
    child = subprocess.Popen(
        [sys.executable, "-I", str(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**kept, **(environment or {})},
    )
    deadline = time.monotonic() + seconds
    with ThreadPoolExecutor(1) as pool:
        talk = pool.submit(child.communicate, data)
        try:
            while True:
                try:
                    output, errors = talk.result(timeout=0.25)
                    break
                except FutureTimeout:
                    progress()
                    if time.monotonic() > deadline:
                        return None, "it took too long"
        finally:
            if child.poll() is None:
                child.kill()
    if child.returncode:
        lines = errors.decode("utf-8", "replace").strip().splitlines()
        return None, lines[-1][:200] if lines else f"ended with code {child.returncode}"
    return output, ""
