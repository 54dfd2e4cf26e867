"""Every kind of page for readers with other needs (axe-core) and in another browser (Firefox)."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

AXE = Path(__file__).parent / "vendor" / "axe-core-4.10.3" / "axe.min.js"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    "name", ["index.html", "patients/sub-high/index.html", "patients/sub-bad/index.html"]
)
def test_axe_finds_nothing_serious(browser, handoff, name, scheme):
    # the pages' own policy forbids foreign scripts, this one too
    context = browser.new_context(
        viewport={"width": 1360, "height": 900}, bypass_csp=True, color_scheme=scheme
    )
    page = context.new_page()
    page.goto((handoff / name).as_uri())
    if "sub-high" in name:
        page.wait_for_selector("#viewer[data-ready=true]")
    page.add_script_tag(path=AXE)
    found = page.evaluate("axe.run()")["violations"]
    context.close()
    grave = [v for v in found if v["impact"] in {"serious", "critical"}]
    assert [(v["id"], v["nodes"][0]["html"][:200]) for v in grave] == []


# `--screenshot` waits for the load event: this script puts that off until the slices are drawn
UNTIL_READY = """(function wait() { if (document.getElementById("viewer").dataset.ready) return;
const s = document.createElement("script"); s.src = URL.createObjectURL(new Blob(["0"])); s.onload = wait;
document.body.appendChild(s); })();"""


def waiting_copy(page: Path, folder: Path) -> Path:
    """Return a copy of a patient's page that is loaded when it is drawn; its own policy stays in force."""
    text = page.read_text("utf-8")
    mark = base64.b64encode(hashlib.sha256(UNTIL_READY.encode()).digest()).decode()
    before = "script-src &#39;sha256-"
    assert text.count(before) == 1
    allowed = f"script-src blob: &#39;sha256-{mark}&#39; &#39;sha256-"
    text = text.replace(before, allowed).replace("</body>", f"<script>{UNTIL_READY}</script></body>")
    (folder / "page.html").write_text(text, "utf-8")
    return folder / "page.html"


FIREFOX = shutil.which("firefox-esr") or shutil.which("firefox")


@pytest.mark.skipif(FIREFOX is None, reason="needs Firefox: apt-get install -y firefox-esr")
@pytest.mark.parametrize("name", ["index.html", "patients/sub-high/index.html"])
def test_firefox_draws_the_page(handoff, shots, tmp_path, name):
    picture = shots / f"firefox_{'worklist' if name == 'index.html' else 'patient'}.png"
    picture.unlink(missing_ok=True)
    (tmp_path / "profile").mkdir()
    page = waiting_copy(handoff / name, tmp_path) if "patients" in name else handoff / name
    command = [FIREFOX, "--headless", "--no-remote", "--profile", str(tmp_path / "profile")]
    command += ["--window-size", "1360,1400", "--screenshot", str(picture), page.as_uri()]
    subprocess.run(
        command, env=os.environ | {"HOME": str(tmp_path)}, check=True, timeout=120, capture_output=True
    )
    colours = np.asarray(Image.open(picture).convert("RGB")).astype(int)
    assert colours.shape[1] == 1360
    red, blue = colours[..., 0], colours[..., 2]
    orange = (red > 200) & (red - blue > 120) & (colours[..., 1] > 90) & (colours[..., 1] < 190)
    # the overlay is decoded and drawn by script; thumbnails are pictures of the same
    assert orange.sum() > (300 if "patients" in name else 30)
