"""A patient's page in a real browser, from file://, without a network."""

from __future__ import annotations

from handoff_case import shared_z_run
from seen import orange, shown


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


def test_drag_on_a_touch_screen_scrolls(browser, handoff):
    """A finger's own events, as a tablet sends them; a mouse that moves over the picture scrolls nothing."""
    context = browser.new_context(viewport={"width": 820, "height": 1180}, has_touch=True)
    page = context.new_page()
    page.goto((handoff / "patients" / "sub-high" / "index.html").as_uri())
    page.wait_for_selector("#viewer[data-ready=true]")
    start = shown(page)
    box = page.locator("#marked").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    finger = context.new_cdp_session(page)

    def touch(kind, *points):
        content = {"type": kind, "touchPoints": [{"x": x, "y": y + by} for by in points]}
        finger.send("Input.dispatchTouchEvent", content)

    touch("touchStart", 0)
    for by in (-8, -16, -24, -32, -40):  # upwards, towards the vertex: a slice for every 8 pixels
        touch("touchMove", by)
    assert shown(page) == start + 5
    assert page.evaluate("scrollY") == 0  # the page itself stays
    touch("touchMove", 16)
    assert shown(page) == start - 2
    touch("touchEnd")
    page.mouse.move(x, y - 30)
    page.mouse.move(x, y + 30)
    assert shown(page) == start - 2
    context.close()


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


def test_click_on_a_level_shows_its_slice_and_says_where_it_stands(patient, shots):
    high = patient.inner_text("#high strong")
    first, last = (int(n) for n in high.removeprefix("slices ").split(" to "))
    above, ordinary = patient.locator("#levels .all"), patient.locator("#levels .some")
    box = above.nth(above.count() // 2).bounding_box()
    patient.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert first <= shown(patient) <= last
    assert "higher than that of all 4 healthy people" in patient.inner_text("#level")
    assert "all 4 healthy people" in patient.get_attribute("#slice", "aria-valuetext")
    here = patient.locator("#levels .here")
    slices = {int(c.get_attribute("data-view")) for c in here.all()}
    assert here.count() > 1 and slices == {int(patient.input_value("#slice"))}
    patient.locator("#viewer").screenshot(path=shots / "levels.png")
    # a column can be clicked where its bar is low
    box = ordinary.first.bounding_box()
    patient.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] - 33)
    assert shown(patient) < first and "2 of 4 healthy people" in patient.inner_text("#level")
    patient.focus("#slice")
    patient.keyboard.press("End")
    assert shown(patient) == 34 and "No level" in patient.inner_text("#level")


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


def test_keyboard_alone_reaches_viewer_findings_and_sliders(patient):
    patient.evaluate("document.activeElement.blur()")
    seen = set()
    for _ in range(25):
        patient.keyboard.press("Tab")
        seen.add(patient.evaluate("document.activeElement.id || document.activeElement.dataset.goto || ''"))
    assert {"viewer", "hide", "layout", "slice", "opacity", "threshold", "reset", "0"} <= seen
