"""A real browser, and pages that must neither complain nor ask for anything but local files."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "handoff"))
from handoff_case import shared_run

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
def handoff(tmp_path_factory):
    return shared_run(tmp_path_factory.getbasetemp()) / "handoff"


@pytest.fixture(scope="session")
def shots(tmp_path_factory):
    folder = Path(os.environ.get("NORMCT_SCREENSHOTS") or tmp_path_factory.mktemp("screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def browser():
    if not CHROMIUM.exists():
        pytest.skip("needs Chromium: apt-get install -y chromium")
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install -e .[dev]")
    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser):
    """A page that must neither complain nor ask for anything but local files."""
    context = browser.new_context(viewport={"width": 1360, "height": 900})
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda m: complaints.append(m.text) if m.type in {"error", "warning"} else None)
    page.on("pageerror", lambda e: complaints.append(str(e)))
    page.on(
        "request",
        lambda r: None if r.url.startswith(("file:", "data:", "blob:")) else complaints.append(r.url),
    )
    yield page
    context.close()
    assert complaints == []


@pytest.fixture
def patient(page, handoff):
    page.goto((handoff / "index.html").as_uri())
    page.get_by_role("link", name="sub-high").click()
    page.wait_for_selector("#viewer[data-ready=true]")
    return page
