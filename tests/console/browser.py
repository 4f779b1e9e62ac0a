"""Debian's Chromium, driven by Playwright, with axe for accessibility checks."""

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.interop.node import missing
from tests.support.receiver import ROOT

AXE = ROOT / "tests/browser/node_modules/axe-core/axe.min.js"

# In milliseconds. The default of `expect`, 5 s, is short for a machine that runs another suite.
TIMEOUT = 30_000

SCREENSHOTS = ROOT / "dist/screenshots"

DESKTOP, PHONE = (1280, 860), (375, 760)

LOOKS = (
    ("desk", DESKTOP, "light"),
    ("desk-dark", DESKTOP, "dark"),
    ("phone", PHONE, "light"),
    ("phone-dark", PHONE, "dark"),
)


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("chromium is missing")
    expect.set_options(timeout=TIMEOUT)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextlib.contextmanager
def open_page(
    browser: Browser, base: str, size: tuple[int, int] = DESKTOP, scheme: Any = "light"
) -> Iterator[Page]:
    """A page of a browser of its own; a fault that it tells of fails the test."""
    context = browser.new_context(
        base_url=base, color_scheme=scheme,
        viewport={"width": size[0], "height": size[1]},
    )  # fmt: skip
    page = context.new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on(
        "console",
        lambda said: faults.append(said.text)
        if said.type == "error" and "Failed to load resource" not in said.text
        and "ERR_" not in said.text else None,
    )  # fmt: skip
    page.set_default_timeout(TIMEOUT)
    yield page
    context.close()
    assert not faults, faults


def sign_in(page: Page, token: str) -> None:
    page.goto("/console/sign-in")
    page.fill("#token", token)
    page.click("button")
    page.wait_for_url("**/console")


def barriers(page: Page) -> list[str]:
    """What axe finds, as lines."""
    if (why := missing(ROOT / "tests/browser", "axe-core")) is not None:
        pytest.skip(why)
    # Through the debugger: the page's own policy lets no other script in.
    session = page.context.new_cdp_session(page)
    session.send("Runtime.evaluate", {"expression": AXE.read_text()})
    answer = session.send(
        "Runtime.evaluate",
        {"expression": "axe.run(document).then((r) => JSON.stringify(r.violations))",
         "awaitPromise": True, "returnByValue": True},
    )  # fmt: skip
    found = json.loads(answer["result"]["value"])
    return [f"{one['id']}: {node['html'][:150]}" for one in found for node in one["nodes"]]


def keep_picture(page: Page, name: str) -> Path:
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    path = SCREENSHOTS / f"{name}.png"
    page.screenshot(path=path)
    return path


def faults_of_looks(page: Page, name: str) -> list[str]:
    """What is wrong with the page as it stands, on a desk and a phone, by day and by night; a
    picture of each is kept."""
    found = []
    for look, (width, height), scheme in LOOKS:
        page.set_viewport_size({"width": width, "height": height})
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
        keep_picture(page, f"{name}.{look}")
        wide = ["wider than the window"] if overflows(page) else []
        found += [f"{name}, {look}: {one}" for one in [*barriers(page), *wide]]
    page.set_viewport_size({"width": DESKTOP[0], "height": DESKTOP[1]})
    page.emulate_media(color_scheme="light", reduced_motion="no-preference")
    return found


def overflows(page: Page) -> bool:
    """Whether the page is wider than the window."""
    return bool(page.evaluate("document.documentElement.scrollWidth > innerWidth"))
