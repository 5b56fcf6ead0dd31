"""Drives the system's Chromium through Playwright: pages are opened, clicked, typed into and looked at."""

import os
import shutil
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import ConsoleMessage, Error, Page, Request, sync_playwright

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None
)
# How many times slower than a quiet one a machine may be; raise it where tests share theirs with other work.
SLOWNESS = float(os.environ.get("VIEWER_PATIENCE", "5"))
PATIENCE = 12 * SLOWNESS  # seconds


class Browser:
    """One Chromium process; `open` gives a tab of its own each time."""

    def __init__(self) -> None:
        self._playwright = sync_playwright().start()
        self._browser = self._playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])

    def close(self) -> None:
        self._browser.close()
        self._playwright.stop()

    def open(
        self, url: str, width: int = 1500, height: int = 1200, dark: bool = False, phone: bool = False
    ) -> "Tab":
        context = self._browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if dark else "light",
            is_mobile=phone,
            accept_downloads=False,
        )
        context.set_default_timeout(1000 * PATIENCE)
        tab = Tab(context.new_page())
        tab.go(url)
        return tab


class Tab:
    """One page: evaluate, click, type, look."""

    def __init__(self, page: Page):
        self.page = page
        self._devtools, self._complaints = page.context.new_cdp_session(page), []
        page.on("console", self._heard)
        page.on("pageerror", self._failed)
        page.on("request", self._asked)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """A command of the DevTools protocol, for what Playwright has no name for."""
        return self._devtools.send(method, parameters)

    def close(self) -> None:
        self.page.context.close()

    def go(self, url: str) -> None:
        """Loads `url`, and waits until its scripts have run."""
        self.page.goto(url)

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression (a promise is awaited)."""
        return self.page.evaluate(expression)

    def wait(self, condition: str) -> Any:
        """Waits until `condition` is true, also while the page changes, and returns its value."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                value = self.evaluate(condition)
            except Error as error:
                if "context was destroyed" not in error.message:
                    raise
                value = None
            if value:
                return value
            assert time.monotonic() < deadline, f"never true: {condition}"
            self.page.wait_for_timeout(50)

    def place(self, selector: str) -> tuple[float, float]:
        """The middle of an element, after scrolling to it."""
        element = self.page.locator(selector).first
        element.evaluate("(e) => e.scrollIntoView({ block: 'center' })")
        box = element.bounding_box()
        assert box is not None, f"not to be seen: {selector}"
        return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    def click(self, selector: str, shift: bool = False) -> None:
        """Clicks the middle of an element, whatever lies over it there, as a person's mouse would."""
        x, y = self.place(selector)
        if shift:
            self.page.keyboard.down("Shift")
        self.page.mouse.click(x, y)
        if shift:
            self.page.keyboard.up("Shift")

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Presses at `start`, moves to `end` in steps and lets go."""
        self.page.mouse.move(*start)
        self.page.mouse.down()
        self.page.mouse.move(*end, steps=5)
        self.page.mouse.up()

    def key(self, name: str) -> None:
        """Presses one key."""
        self.page.keyboard.press(name)

    def type(self, text: str) -> None:
        self.page.keyboard.insert_text(text)

    def screenshot(self, path: Path, whole: bool = False) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=path, full_page=whole)

    def complaints(self) -> list[str]:
        """Console errors and warnings, exceptions, and requests for anything but the page itself, so far."""
        self.evaluate("0")  # what was said before has come by now
        return self._complaints

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning", "assert"):
            self._complaints.append(f"{message.type}: {message.text}")

    def _failed(self, error: Error) -> None:
        self._complaints.append(f"exception: {error}")

    def _asked(self, request: Request) -> None:
        if not request.url.startswith(("file:", "data:", "blob:", "about:")):
            self._complaints.append(f"request: {request.url}")
