"""ComfyUI's page in a headless Chromium, driven through WebDriver. Needs selenium.

Used by tests/browser and to save the templates.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from pathlib import Path

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
DRIVER_NAMES = ("chromedriver", "chromium-driver", "chromium.chromedriver")
# Ends what hangs, not what is slow: a machine may have other work.
PATIENCE_SECONDS = 900


def find_program(names: tuple[str, ...]) -> str | None:
    return next((found for found in map(shutil.which, names) if found), None)


def missing_browser() -> str | None:
    """What is missing to drive a browser here, in words; None when all is there."""
    try:
        import selenium  # noqa: F401
    except ImportError:
        return "selenium is not installed"
    if not find_program(CHROMIUM_NAMES):
        return "no Chromium on this machine (Debian: apt install chromium chromium-driver)"
    if not find_program(DRIVER_NAMES):
        return "no chromedriver on this machine (Debian: apt install chromium-driver)"
    return None


class Page:
    """One browser window on a running server.

    Args:
        url: address of the ComfyUI server.
        size: window size in pixels.
    """

    def __init__(self, url: str, size: tuple[int, int] = (1920, 1080)) -> None:
        from selenium import webdriver

        self.url = url
        self.profile = tempfile.mkdtemp(prefix="refany3d-chromium-")
        options = webdriver.ChromeOptions()
        options.binary_location = find_program(CHROMIUM_NAMES)
        for argument in (
            "--headless=new", "--no-sandbox", "--disable-dev-shm-usage",
            "--use-angle=swiftshader", "--enable-unsafe-swiftshader",  # WebGL without a GPU
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            "--no-first-run", f"--user-data-dir={self.profile}",
            f"--window-size={size[0]},{size[1]}", "--force-device-scale-factor=1",
        ):  # fmt: skip
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        service = webdriver.ChromeService(executable_path=find_program(DRIVER_NAMES))
        self.driver = webdriver.Chrome(options=options, service=service)
        self.driver.set_script_timeout(PATIENCE_SECONDS)

    def close(self) -> None:
        self.driver.quit()
        shutil.rmtree(self.profile, ignore_errors=True)

    def __enter__(self) -> Page:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, script: str, *arguments: object):
        """Run the body of an async JavaScript function; `app` is ComfyUI's app."""
        answer = self.driver.execute_async_script(
            "const done = arguments[arguments.length - 1], args = [...arguments].slice(0, -1);"
            "const app = window.app ?? window.comfyAPI?.app?.app;"
            f"(async () => {{ {script} }})()"
            ".then(v => done({value: v}), e => done({error: String(e?.stack ?? e)}));",
            *arguments,
        )
        if "error" in answer:
            raise RuntimeError(f"In the page: {answer['error']}")
        return answer.get("value")

    def wait_until(self, script: str, *arguments: object, seconds: float = PATIENCE_SECONDS):
        """Wait until the script gives something true, and give that."""
        deadline, last = time.monotonic() + seconds, None
        while time.monotonic() < deadline:
            try:
                if last := self.run(script, *arguments):
                    return last
            except RuntimeError as error:  # the app may still be starting
                last = error
            time.sleep(0.3)
        raise TimeoutError(f"The page did not get there in {seconds} s: {script} ({last})")

    def open(self, query: str = "") -> None:
        self.driver.get(f"{self.url}/{query}")
        self.wait_until("return app?.graph && app.extensionManager && true;")

    def open_started(self) -> None:
        """Open the page and wait for the workflow that it brings back or begins with, which would
        otherwise come over one that is loaded meanwhile."""
        self.open()
        self.wait_until("return app.graph.nodes.length > 0;")
        time.sleep(1)

    def open_template(self, name: str, module: str) -> None:
        """Open a template as the Templates dialog does it. The page's link to a template takes no
        name with blanks."""
        self.open_started()
        self.run(
            "const [name, module] = args;"
            "const address = `/api/workflow_templates/${module}/${encodeURIComponent(name)}.json`;"
            "const workflow = await (await fetch(address)).json();"
            "await app.loadGraphData(workflow, true, true, name, {openSource: 'template'});",
            name,
            module,
        )
        time.sleep(1)  # the page fits the graph into the window a moment later

    def fit(self) -> None:
        """Show the whole graph."""
        self.run(
            "await app.extensionManager?.command?.execute?.('Comfy.Canvas.FitView');"
            "app.canvas.setDirty(true, true);"
        )
        time.sleep(1.5)

    def screenshot(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self.driver.save_screenshot(str(file))

    def errors(self) -> list[str]:
        """Severe messages of the browser's console since the last call."""
        return [
            entry["message"] for entry in self.driver.get_log("browser")
            if entry["level"] == "SEVERE"
        ]  # fmt: skip


def quiet_first_run(server) -> None:
    """Save the settings that keep first-run dialogs away, as the page itself saves them."""
    settings = {"Comfy.TutorialCompleted": True, "Comfy.Release.Status": "what's new seen"}
    server.post("/settings", settings)


def pretty(workflow: dict) -> str:
    """JSON of a workflow for the repository: stable, and readable in a diff."""
    return json.dumps(workflow, indent=1, ensure_ascii=False) + "\n"
