"""Quality control: each check at its limit, set-aside scans, verdicts by hand, the picture."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from factories import ellipsoid
from normct.common.files import write_json
from normct.common.geometry import write_transform
from normct.common.volumes import Volume, write_volume
from normct.preprocess.quality import assess, ends_in_view, main, measure, noise_hu, overlap_share
from normct.preprocess.quality_rules import judge
from normct.preprocess.skullstrip import measure as strip_measures

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = yaml.safe_load((ROOT / "config.yaml").read_text("utf-8"))["preprocess"]["quality"]
GOOD = {
    "brain_volume_ml": 1400.0,
    "components": 1,
    "symmetry": 0.95,
    "border_contact_cm2": 0.0,
    "median_hu": 32.0,
    "noise_hu": 4.0,
    "slice_thickness_mm": 4.0,
    "n_slices": 40,
    "mi": 0.6,
    "runner_up_mi": None,
    "mi_lead": None,
    "mi_peak": 0.25,
    "pitch_deg": 10.0,
    "roll_deg": 1.0,
    "yaw_deg": -2.0,
    "overlap_dice": 0.9,
    "overlap_share": 0.99,
    "vertex_in_view": 1.0,
    "base_in_view": 1.0,
}


def test_a_good_scan_passes_without_a_word():
    assert judge(GOOD, SETTINGS) == ("pass", [])


@pytest.mark.parametrize(
    ("change", "verdict", "words"),
    [
        ({"brain_volume_ml": 820.0}, "warn", ("820 mL", "900 mL")),
        ({"brain_volume_ml": 2041.0}, "warn", ("2041 mL", "2000 mL", "large head", "neck")),
        ({"brain_volume_ml": 640.0}, "fail", ("640 mL", "800 mL", "missing")),
        ({"brain_volume_ml": 2350.0}, "fail", ("2350 mL", "2300 mL", "neck")),
        ({"components": 3}, "warn", ("3 parts",)),
        ({"median_hu": 120.0}, "fail", ("120 HU", "50 HU")),
        ({"median_hu": -60.0}, "fail", ("-60 HU", "15")),
        ({"symmetry": 0.1}, "fail", ("0.10",)),
        ({"border_contact_cm2": 500.0}, "fail", ("500 cm²",)),
        ({"vertex_in_view": 0.2}, "fail", ("20%", "vertex")),
        ({"base_in_view": 0.5}, "warn", ("50%", "base")),
        ({"overlap_share": 0.4}, "fail", ("40%", "80%")),
        ({"mi": 0.01}, "fail", ("0.01", "mutual information")),
        ({"runner_up_mi": 0.599, "mi_lead": 0.0017}, "warn", ("0.2%", "Another pose")),
        ({"mi_peak": -0.08}, "warn", ("-8%", "3%")),
        ({"pitch_deg": -41.0}, "warn", ("nodded by 41°", "35°")),
        ({"yaw_deg": 50.0}, "warn", ("turned to one side by 50°",)),
        ({"noise_hu": 30.0}, "warn", ("30 HU",)),
        ({"slice_thickness_mm": 20.0}, "warn", ("20.0 mm",)),
        ({"n_slices": 3}, "fail", ("3 slices",)),
    ],
)
def test_each_fault_gives_value_and_limit(change, verdict, words):
    found, reasons = judge(GOOD | change, SETTINGS)
    assert found == verdict
    assert len(reasons) == 1
    assert all(word in reasons[0] for word in words)


def test_failures_come_first_and_missing_measures_are_not_judged():
    verdict, reasons = judge(GOOD | {"noise_hu": 30.0, "brain_volume_ml": 500.0, "symmetry": None}, SETTINGS)
    assert verdict == "fail"
    assert "500 mL" in reasons[0]
    assert len(reasons) == 2
    verdict, reasons = judge(dict.fromkeys(GOOD), SETTINGS)
    assert verdict == "fail"
    assert "no registration" in reasons[0]


def test_limits_come_from_the_settings():
    assert (
        judge(GOOD | {"overlap_share": 0.4}, SETTINGS | {"overlap": {"warn": None, "fail": 0.3}})[0] == "pass"
    )


def test_verdict_by_hand_overrides_and_says_so():
    record = assess("sub-a", GOOD | {"pitch_deg": -41.0}, SETTINGS, override=("pass", "looked at it"))
    assert (record["verdict"], record["automatic_verdict"]) == ("pass", "warn")
    assert record["reasons"][0] == "Set to 'pass' by hand: looked at it (measured: warn)."
    assert any("41°" in reason for reason in record["reasons"])
    assert assess("sub-a", GOOD, SETTINGS, override=("fail", "movement"))["verdict"] == "fail"
    same = assess("sub-a", GOOD, SETTINGS, override=("pass", "fine"))
    assert "automatic_verdict" not in same


def test_no_hand_can_pass_a_scan_without_a_brain():
    record = assess(
        "sub-a", dict.fromkeys(GOOD), SETTINGS, set_aside="It is empty.", override=("pass", "please")
    )
    assert record["verdict"] == "fail"
    assert record["reasons"][0] == "It is empty."
    assert "no brain to go on with" in record["reasons"][1]


@pytest.fixture
def scan():
    """A head-sized brain of 34 HU with noise of 5 HU, in the atlas's own place."""
    grid = np.eye(4)
    grid[:3, 3] = (-75, -90, -75)
    inside = ellipsoid((150, 180, 150), (75, 90, 75), (66, 84, 62))
    noise = 5 * np.random.default_rng(0).standard_normal(inside.shape)
    brain = np.where(inside, 34 + noise, -1024).astype(np.int16)
    return Volume(brain, grid), Volume(inside.astype(np.uint8), grid)


def test_noise_is_measured_where_it_is_known(scan):
    brain, mask = scan
    assert noise_hu(brain, mask.data > 0) == pytest.approx(5.0, abs=0.6)
    assert noise_hu(brain, np.zeros(mask.data.shape, bool)) is None


def test_a_small_brain_is_no_misfit(scan):
    _, mask = scan
    half = Volume(mask.data * (np.arange(150) < 75)[:, None, None].astype(np.uint8), mask.affine)
    assert overlap_share(2 / 3, half, mask) == pytest.approx(1.0, abs=0.02)  # half of it, wholly inside
    assert overlap_share(0.5, mask, mask) == 0.5
    assert overlap_share(None, mask, mask) is None


def test_truncation_is_measured_at_both_ends(scan):
    brain, mask = scan
    assert ends_in_view(brain, mask, np.eye(4)) == (1.0, 1.0)
    affine = brain.affine.copy()
    affine[2, 3] += 40
    low_cut = Volume(brain.data[:, :, 40:], affine)
    vertex, base = ends_in_view(low_cut, mask, np.eye(4))
    assert vertex == 1.0
    assert base < 0.2
    vertex, base = ends_in_view(Volume(brain.data[:, :, :110], brain.affine), mask, np.eye(4))
    assert vertex < 0.2
    assert base == 1.0


def spoilt(name: str, mask: np.ndarray) -> np.ndarray:
    """Return what a failed skull strip would leave or take in."""
    x, y, z = np.ogrid[:150, :180, :150]
    if name == "one side gone":
        return mask & (x < 75)
    if name == "vertex alone":
        return mask & (z > 78)
    if name == "a third gone":
        return mask & (z > 66)
    neck = ((x - 75) ** 2 + (y - 60) ** 2 < 55**2) & (z < 70)
    face = (abs(x - 75) < 60) & (y > 70) & (z < 70)
    return mask | neck | (face if name == "neck and face taken in" else False)


@pytest.mark.parametrize(
    ("name", "verdict"),
    [
        ("one side gone", "fail"), ("vertex alone", "fail"), ("neck and face taken in", "fail"),
        ("neck taken in", "fail"), ("a third gone", "warn"),
    ],
)  # fmt: skip
def test_a_half_stripped_or_leaked_mask_is_caught(scan, name, verdict):
    brain, mask = scan
    wrong = spoilt(name, mask.data > 0)
    head = Volume(np.where(wrong, 34, -1000).astype(np.int16), brain.affine)
    found = GOOD | {k: v for k, v in strip_measures(head, wrong).items() if k in GOOD}
    assert judge(found | {"overlap_share": 1.0}, SETTINGS)[0] == verdict, found


def test_measure_takes_recorded_thickness_before_spacing(scan):
    brain, mask = scan
    imported = {
        "shape": [512, 512, 30],
        "zooms_mm": [0.5, 0.5, 4.0],
        "acquisition": {"slice_thickness_mm": 5.0},
    }
    arguments = {"brain": brain, "mask": mask, "atlas_mask": mask, "matrix": np.eye(4)}
    measures = measure(imported, {"brain_volume_ml": 1.0}, {"mi": 0.5, "runner_up_mi": 0.4}, **arguments)
    assert (measures["slice_thickness_mm"], measures["n_slices"]) == (5.0, 30)
    assert measures["mi_lead"] == pytest.approx(0.2)
    imported["acquisition"] = {"slice_thickness_mm": None}
    assert measure(imported, {}, {"mi": 0.5}, **arguments)["slice_thickness_mm"] == 4.0
    assert measure({}, {}, {}, **arguments)["slice_thickness_mm"] is None


def command(folder: Path, scan, imported: dict, registered: dict, stripped: dict) -> dict:
    brain, mask = scan
    for name, content in (("import", imported), ("skullstrip", stripped), ("register", registered)):
        write_json(folder / f"{name}.json", content)
    write_volume(folder / "brain.nii.gz", brain)
    write_volume(folder / "mask.nii.gz", mask)
    write_volume(
        folder / "atlas_mask.nii.gz",
        mask if mask.data.size > 1 else Volume(np.ones((40, 40, 40), "u1"), np.eye(4)),
    )
    write_transform(folder / "t.mat", np.eye(4))
    main(
        [
            *(str(folder / "quality.json"), str(folder / "quality.png"), "--subject", "sub-a"),
            *(f"--{n}-json={folder / n}.json" for n in ("import", "skullstrip", "register")),
            *(f"--brain={folder / 'brain.nii.gz'}", f"--mask={folder / 'mask.nii.gz'}"),
            *(f"--transform={folder / 't.mat'}", f"--atlas={folder / 'none.nii.gz'}"),
            *(f"--atlas-mask={folder / 'atlas_mask.nii.gz'}", "--settings", json.dumps(SETTINGS)),
        ]
    )
    return json.loads((folder / "quality.json").read_text("utf-8"))


def test_record_and_picture_of_a_scan(tmp_path, scan):
    registered = {"mi": 0.6, "pitch_deg": 1.0, "roll_deg": 0.0, "yaw_deg": 0.0, "overlap_dice": 0.95}
    stripped = {
        "reason": None,
        "brain_volume_ml": 1440.0,
        "components": 1,
        "symmetry": 0.99,
        "border_contact_cm2": 0.0,
    }
    imported = {"verdict": "ok", "shape": [300, 360, 30], "zooms_mm": [0.5, 0.5, 5.0], "acquisition": {}}
    record = command(tmp_path, scan, imported, registered, stripped)
    assert (record["participant_id"], record["verdict"], record["reasons"]) == ("sub-a", "pass", [])
    assert record["measures"]["median_hu"] == pytest.approx(34, abs=1)
    picture = np.asarray(Image.open(tmp_path / "quality.png"))
    # brain and atlas mask are one here: the brain's outline lies on the atlas's, and inside it brain is grey
    orange = (picture == (255, 176, 0)).all(axis=2)
    grey = (picture[..., 0] == picture[..., 1]) & (picture[..., 0] > 80) & (picture[..., 0] < 140)
    assert orange.sum() > 500
    assert grey.sum() > 20000
    first = (tmp_path / "quality.png").read_bytes()
    command(tmp_path, scan, imported, registered, stripped)
    assert (tmp_path / "quality.png").read_bytes() == first


def test_a_scan_set_aside_at_import_keeps_its_reason(tmp_path):
    air = (
        Volume(np.full((1, 1, 1), -1024, np.int16), np.eye(4)),
        Volume(np.zeros((1, 1, 1), np.uint8), np.eye(4)),
    )
    imported = {"verdict": "set_aside", "reason": "ct: the file is empty. Export it again."}
    stripped = {"reason": "No head in the scan.", "brain_volume_ml": 0.0, "components": 0, "symmetry": None}
    record = command(tmp_path, air, imported, {"mi": None}, stripped)
    assert record["verdict"] == "fail"
    assert record["reasons"] == ["ct: the file is empty. Export it again."]
    assert record["measures"]["mi"] is None
    assert Image.open(tmp_path / "quality.png").size[0] > 100
