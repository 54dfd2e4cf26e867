"""Worklist and patient page in a real browser, from file://, without a network."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from normct.common.files import read_json, write_json
from normct.handoff.index import build

sys.path.insert(0, str(Path(__file__).parents[1] / "handoff"))
from handoff_case import INDEX, shared_run, shared_z_run

CHROMIUM = Path("/usr/bin/chromium")
if not CHROMIUM.exists():
    pytest.skip("needs Chromium: apt-get install -y chromium", allow_module_level=True)
sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install -e .[dev]")

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def handoff(tmp_path_factory):
    return shared_run(tmp_path_factory.getbasetemp()) / "handoff"


@pytest.fixture(scope="module")
def shots(tmp_path_factory):
    folder = Path(os.environ.get("NORMCT_SCREENSHOTS") or tmp_path_factory.mktemp("screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def browser():
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


def names(page) -> list[str]:
    return page.locator("#worklist tbody tr:not([hidden]) td:nth-child(3)").all_inner_texts()


def test_worklist_ranks_sorts_and_filters(page, handoff, shots):
    page.goto((handoff / "index.html").as_uri())
    assert names(page) == ["sub-high", "sub-dark", "sub-low"]
    page.screenshot(path=shots / "worklist.png", full_page=True)
    page.get_by_role("button", name="Scan").click()
    assert names(page) == ["sub-dark", "sub-high", "sub-low"]
    score = page.get_by_role("button", name="Score against healthy")
    score.click()
    assert names(page) == ["sub-low", "sub-dark", "sub-high"]
    score.press("Enter")
    assert names(page) == ["sub-high", "sub-dark", "sub-low"]
    page.fill("#find", "hypodense")
    assert names(page) == ["sub-dark"]
    assert page.inner_text("#count") == "1 of 3 scans shown"
    page.fill("#find", "")
    page.check("#high")
    assert names(page) == ["sub-high"]
    aside = page.locator("#aside ~ .wide").inner_text()
    assert "no brain was found" in aside and "sub-cal" in aside


def test_worklist_prints(page, handoff, shots):
    page.emulate_media(media="print")
    page.goto((handoff / "index.html").as_uri())
    assert not page.is_visible(".filters")
    page.screenshot(path=shots / "worklist_print.png", full_page=True)


@pytest.fixture
def patient(page, handoff):
    page.goto((handoff / "index.html").as_uri())
    page.get_by_role("link", name="sub-high").click()
    page.wait_for_selector("#viewer[data-ready=true]")
    return page


def shown(page) -> int:
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return int(page.get_attribute("#viewer", "data-slice"))


def test_patient_page_scrolls_by_key_wheel_and_slider(patient, shots):
    start = shown(patient)
    patient.screenshot(path=shots / "patient.png", full_page=True)
    patient.keyboard.press("ArrowUp")
    assert shown(patient) == start + 1
    patient.hover("#marked")
    patient.mouse.wheel(0, 100)
    assert shown(patient) == start
    patient.mouse.wheel(0, -100)
    patient.mouse.wheel(0, -100)
    assert shown(patient) == start + 2
    patient.focus("#slice")
    patient.keyboard.press("Home")
    assert shown(patient) == 1
    assert patient.inner_text("#slice-value") == "1 of 34"


def test_patient_page_changes_window_and_jumps_to_a_finding(patient, shots):
    start = shown(patient)
    brain = patient.evaluate("document.getElementById('plain').toDataURL()")
    patient.keyboard.press("4")
    assert patient.get_attribute("#viewer", "data-window") == "bone"
    shown(patient)
    assert patient.evaluate("document.getElementById('plain').toDataURL()") != brain
    patient.screenshot(path=shots / "patient_bone.png")
    patient.get_by_role("button", name="stroke").click()
    assert patient.get_attribute("#viewer", "data-window") == "stroke"
    patient.keyboard.press("End")
    assert shown(patient) != start
    patient.locator("[data-goto]").first.click()
    assert shown(patient) == start


def orange(page, canvas: str) -> dict:
    """Centre (share of width) and number of orange pixels of a canvas."""
    return page.evaluate(
        """(id) => { const c = document.getElementById(id),
        k = new OffscreenCanvas(c.width, c.height).getContext('2d', { willReadFrequently: true });
        k.drawImage(c, 0, 0);
        const d = k.getImageData(0, 0, c.width, c.height).data;
        let n = 0, x = 0;
        for (let i = 0; i < d.length; i += 4) if (d[i] - d[i + 2] > 50) { n++; x += (i / 4) % c.width; }
        return { n, x: n ? x / n / c.width : 0 }; }""",
        canvas,
    )


def test_left_lesion_is_drawn_on_the_images_right(patient):
    shown(patient)
    seen = orange(patient, "marked")
    assert seen["n"] > 200
    assert seen["x"] > 0.55  # radiological convention
    assert orange(patient, "plain")["n"] == 0


def test_overlay_follows_opacity_and_threshold(patient):
    shown(patient)
    full = orange(patient, "marked")["n"]
    patient.keyboard.press("o")
    shown(patient)
    assert orange(patient, "marked")["n"] == 0
    patient.keyboard.press("o")
    patient.fill("#threshold", "79")
    shown(patient)
    assert orange(patient, "marked")["n"] == 0
    patient.click("#reset")
    shown(patient)
    assert orange(patient, "marked")["n"] == full


def test_slider_says_what_a_healthy_scan_gets_at_the_threshold_shown(patient):
    shown(patient)
    assert "about 6.5 findings of 0.1 mL or more" in patient.inner_text("#false")
    for threshold, words in (
        ("4.8", "about 40 findings"),
        ("14.4", "about 3.8 findings"),
        ("40", "Not counted"),
    ):
        patient.fill("#threshold", threshold)
        shown(patient)
        assert words in patient.inner_text("#false")


def test_z_map_is_told_in_standard_deviations(page, tmp_path_factory, shots):
    folder = shared_z_run(tmp_path_factory.getbasetemp()) / "handoff" / "patients" / "sub-high"
    page.goto((folder / "index.html").as_uri())
    page.wait_for_selector("#viewer[data-ready=true]")
    shown(page)
    assert orange(page, "marked")["n"] > 200
    assert page.input_value("#threshold") == "2.72"  # not moved to a step beside it
    assert page.inner_text("#threshold-value") == "2.7 SD"
    assert "about 29 findings of 0.1 mL or more" in page.inner_text("#false")
    ring = page.evaluate("JSON.parse(document.getElementById('meta').textContent).rings[0]")
    box = page.locator("#marked").bounding_box()
    size = page.evaluate("document.getElementById('marked').width")
    page.mouse.move(box["x"] + ring["x"] / size * box["width"], box["y"] + ring["y"] / size * box["width"])
    said = page.inner_text("#readout")
    assert 5 < float(said.split("; +")[1].split(" SD against")[0]) < 10  # the ball's 30 HU are 7.5 SD
    page.screenshot(path=shots / "patient_z.png", full_page=True)


def test_pictures_stand_side_by_side_and_the_reconstruction_lacks_the_lesion(patient, shots):
    shown(patient)
    assert patient.get_attribute("#viewer", "data-pictures") == "3"
    patient.locator("#viewer").screenshot(path=shots / "viewer.png")
    ring = patient.evaluate("JSON.parse(document.getElementById('meta').textContent).rings[0]")
    grey = """([id, x, y]) => document.getElementById(id).getContext('2d').getImageData(x, y, 1, 1).data[0]"""
    x, y = round(ring["x"]), round(ring["y"])
    original, expected = (patient.evaluate(grey, [name, x, y]) for name in ("plain", "healthy"))
    assert original > expected + 40  # the lesion is 30 HU denser: 96 of 256 grey values
    patient.locator("#viewer").focus()
    for pictures, seen in (("1", "#marked"), ("2", "#plain"), ("3", "#healthy")):
        patient.keyboard.press("s")
        assert patient.get_attribute("#viewer", "data-pictures") == pictures
        assert patient.is_visible(seen)
        assert patient.is_visible("#healthy") == (pictures == "3")


def test_set_aside_page_gives_the_reason(page, handoff, shots):
    page.goto((handoff / "patients" / "sub-bad" / "index.html").as_uri())
    assert "no brain was found" in page.inner_text("main")
    page.screenshot(path=shots / "set_aside.png")


def test_narrow_screen_stays_usable(page, handoff, shots):
    page.set_viewport_size({"width": 390, "height": 800})
    page.goto((handoff / "patients" / "sub-dark" / "index.html").as_uri())
    page.wait_for_selector("#viewer[data-ready=true]")
    shown(page)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    page.screenshot(path=shots / "narrow.png", full_page=True)


@pytest.fixture(scope="module")
def two_hundred(handoff, tmp_path_factory):
    """A worklist of 200 scans, each with twenty findings."""
    root = tmp_path_factory.mktemp("many")
    names = [f"sub-x{n:03d}" for n in range(200)]
    (root / "cohort").mkdir()
    rows = "".join(f"{name}\tn/a\tn/a\ttest\n" for name in names)
    (root / "cohort" / "participants.tsv").write_text("participant_id\tgroup\tpathology\trole\n" + rows)
    record = read_json(handoff / "patients" / "sub-high" / "patient.json")
    for number, name in enumerate(names):
        folder = root / "handoff" / "patients" / name
        own = {"participant_id": name, "score": number / 10, "findings": record["findings"] * 20}
        write_json(folder / "patient.json", record | own)
        (folder / "index.html").write_text("<span data-stamp></span>")
    build(root, INDEX, [], None)
    return root / "handoff"


def test_two_hundred_scans_open_at_once_and_stay_small(page, two_hundred):
    index = two_hundred / "index.html"
    assert index.stat().st_size < 5e6
    page.goto(index.as_uri(), wait_until="load")
    took = page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd")
    assert took < 2000
    start = page.evaluate("performance.now()")
    page.get_by_role("button", name="Score against healthy").click()
    assert names(page)[0] == "sub-x000"
    page.fill("#find", "sub-x19")
    assert len(names(page)) == 10
    assert page.evaluate("performance.now()") - start < 2000
    print(f"worklist of 200: {index.stat().st_size / 1e6:.2f} MB, loaded in {took:.0f} ms")


AXE = Path(__file__).parent / "vendor" / "axe-core-4.10.3" / "axe.min.js"


@pytest.mark.parametrize(
    "name", ["index.html", "patients/sub-high/index.html", "patients/sub-bad/index.html"]
)
def test_axe_finds_nothing_serious(browser, handoff, name):
    # the pages' own policy forbids foreign scripts, this one too
    context = browser.new_context(viewport={"width": 1360, "height": 900}, bypass_csp=True)
    page = context.new_page()
    page.goto((handoff / name).as_uri())
    if "sub-high" in name:
        page.wait_for_selector("#viewer[data-ready=true]")
    page.add_script_tag(path=AXE)
    found = page.evaluate("axe.run()")["violations"]
    context.close()
    grave = [v for v in found if v["impact"] in {"serious", "critical"}]
    assert [(v["id"], v["nodes"][0]["html"][:200]) for v in grave] == []


def test_keyboard_alone_reaches_viewer_findings_and_sliders(patient):
    patient.evaluate("document.activeElement.blur()")
    seen = set()
    for _ in range(25):
        patient.keyboard.press("Tab")
        seen.add(patient.evaluate("document.activeElement.id || document.activeElement.dataset.goto || ''"))
    assert {"viewer", "hide", "layout", "slice", "opacity", "threshold", "reset", "0"} <= seen


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
