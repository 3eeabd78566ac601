"""A real browser, as people have one: Debian's Chromium, driven by Playwright.

Where there is none these tests are skipped, but in CI (see tests/programs.py).
``TRUNKLINE_SCREENSHOTS`` names a folder that gets the README's pictures.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.programs import program

_FLAGS: Final = (
    # Chromium does not sandbox itself as root, which CI is; the pages are our own.
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
DESKTOP: Final = (1180, 860)
#: The narrowest that WCAG asks for: https://www.w3.org/WAI/WCAG22/Understanding/reflow
PHONE: Final = (320, 700)
Open = Callable[..., Page]


@pytest.fixture(scope="session")
def binary() -> str:
    """The browser's program; of the session, so that without one no stack is started in vain."""
    return program("chromium")


# Not of the session: as long as Playwright is there its event loop runs in this thread, and no test
# of another module could run one of its own.
@pytest.fixture(scope="module")
def browser(binary: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=binary, args=list(_FLAGS))
        yield launched
        launched.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Open]:
    """Opens a page in a browser profile of its own; at the end none has had any complaint."""
    contexts: list[BrowserContext] = []
    complaints: list[str] = []

    def note(page: Page) -> None:
        page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
        page.on(
            "console",
            lambda said: (
                complaints.append(said.text)
                # Chromium itself names each answer that is no success.
                if said.type in ("error", "warning") and "Failed to load resource" not in said.text
                else None
            ),
        )

    def opened(url: str, *, size: tuple[int, int] = DESKTOP, **context: Any) -> Page:
        made = browser.new_context(viewport={"width": size[0], "height": size[1]}, **context)
        contexts.append(made)
        page = made.new_page()
        page.set_default_timeout(10_000)
        note(page)
        page.goto(url)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture
def picture() -> Callable[[Page, str], None]:
    """Takes a picture for the README, if a folder for it is named."""
    folder = os.environ.get("TRUNKLINE_SCREENSHOTS")

    def take(page: Page, name: str) -> None:
        if folder is not None:
            page.screenshot(path=Path(folder) / f"{name}.png")

    return take
