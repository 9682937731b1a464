"""Run the tests against the real ComfyUI: `python scripts/test.py [pytest arguments]`.

`--quick` runs, with the running Python and without ComfyUI, those that need none, in less than a
minute. `--hosts` runs parity, templates and the demo on every ComfyUI that the pack is checked on.
`--soak` runs the long forms of the tests of load, faults and random inputs; their numbers are
written to test-artifacts/ (docs/reliability.md).
"""

import os
import subprocess
import sys

from host_setup import (
    CHECKED_VERSIONS,
    HOST_VERSION,
    ROOT,
    Host,
    SetupError,
    main_with_setup,
    prepare,
)

ON_EVERY_HOST = (
    "tests/parity", "tests/hosts/test_contract.py", "tests/server/test_start.py",
    "tests/server/test_workflows.py", "tests/server/test_demo_templates.py",
    "tests/server/test_saved_references.py",
    "tests/scripts/test_demo.py", "tests/demo_model",
)  # fmt: skip


def run_tests(host: Host, arguments: list[str]) -> int:
    tools = [str(host.python), "-c", "import pytest, selenium"]
    if subprocess.run(tools, capture_output=True).returncode:
        requirements = ROOT / "tests" / "requirements.txt"
        print(
            f"{host.python} lacks the test tools. Install them with it: "
            f"{host.python} -m pip install -r {requirements}",
            file=sys.stderr,
        )
        return 1
    environment = {
        **os.environ,
        "REFANY3D_COMFYUI": str(host.comfyui),
        "REFANY3D_CACHE": str(host.folder),
    }
    command = [str(host.python), "-m", "pytest", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment).returncode


def run_quick(arguments: list[str]) -> int:
    """The tests that need no host, with the running Python."""
    probe = "import numpy, torch, trimesh, PIL, scipy, safetensors, pytest, huggingface_hub"
    if subprocess.run([sys.executable, "-c", probe], capture_output=True).returncode:
        print(
            f"{sys.executable} lacks what the quick tests need. Install it with: {sys.executable} "
            "-m pip install torch safetensors -r requirements.txt -r tests/requirements.txt",
            file=sys.stderr,
        )
        return 1
    environment = {k: v for k, v in os.environ.items() if k != "REFANY3D_COMFYUI"}
    kinds = "not server and not browser and not long"
    command = [sys.executable, "-m", "pytest", "-m", kinds, *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment).returncode


def run_on_every_host(arguments: list[str]) -> int:
    """The tests that a host can break, on each; one line a host at the end."""
    results = {}
    for version in reversed(CHECKED_VERSIONS):
        try:
            host = prepare(version)
        except SetupError as error:
            print(f"\nSet-up failed. {error}", file=sys.stderr)
            return 1
        print(f"\n[hosts] ComfyUI {version}", flush=True)
        more = ("tests/hosts/test_hosts.py",) if version == HOST_VERSION else ()
        results[version] = run_tests(host, [*ON_EVERY_HOST, *more, *arguments])
    for version, code in results.items():
        print(f"[hosts] ComfyUI {version}: {'passed' if code == 0 else f'FAILED ({code})'}")
    return max(results.values())


if __name__ == "__main__":
    given = sys.argv[1:]
    if "--quick" in given:
        given.remove("--quick")
        sys.exit(run_quick(given))
    for switch in ("--hosts", "--soak"):
        if switch in given:
            given.remove(switch)
            os.environ["REFANY3D_LONG"] = switch
    if os.environ.get("REFANY3D_LONG") == "--hosts":
        sys.exit(run_on_every_host(given))
    if os.environ.get("REFANY3D_LONG") == "--soak":
        given = ["tests/service", *given]
    sys.exit(main_with_setup(lambda host: run_tests(host, given)))
