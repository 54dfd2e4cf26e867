"""The clinic's daily use: new, unlabelled scans and a frozen bundle; no training, no labels."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from normct.common.bundle import verify_bundle

pytestmark = [pytest.mark.xdist_group("pipeline"), pytest.mark.timeout(1500)]

REPOSITORY = Path(__file__).resolve().parents[2]
REAL = REPOSITORY.parent / "shared" / "data"


@pytest.fixture(scope="module")
def frozen(finished, tmp_path_factory):
    """Another machine: the code and a copied bundle, no cohort and no results."""
    copy = finished.copy(tmp_path_factory.mktemp("clinic") / "checkout")
    subprocess.run(
        [sys.executable, "-m", "normct.score.copy_bundle", "out/score/bundle", "bundles"],
        cwd=copy.folder, check=True, capture_output=True, env=os.environ | {"PYTHONPATH": str(copy.folder / "src")},
    )  # fmt: skip
    scans = copy.folder / "scans with spaces é"
    scans.mkdir()
    for name in ("sub-icb001", "sub-healthytest001"):
        source = copy.folder / "out" / "phantom" / name / "ct.nii.gz"
        if source.is_file():
            shutil.copy2(source, scans / f"{name}.nii.gz")
    shutil.rmtree(copy.folder / "out")
    shutil.rmtree(copy.folder / ".snakemake")
    return copy


def table(checkout, name: str, rows: list[tuple[str, str]]) -> str:
    """Write a table of unlabelled scans."""
    lines = ["participant_id\tct\tgroup", *(f"{subject}\t{path}\tunlabelled" for subject, path in rows)]
    (checkout.folder / name).write_text("\n".join(lines) + "\n", "utf-8")
    return name


def bundle(checkout) -> str:
    """Path of the only bundle."""
    (path,) = (checkout.folder / "bundles").iterdir()
    return f"bundles/{path.name}"


def planned_on_a_cluster(checkout, target: str, *config: str, groups: set[str]) -> None:
    """With the shipped profile, whose groups name rules that a frozen model has and rules that it lacks."""
    profile = ("--profile", str(REPOSITORY / "slurm"))
    done = checkout.snakemake(target, "--dry-run", *profile, "--config", *config)
    assert groups | {"preprocess"} == set(re.findall(r"Group job (\w+) \(", done.stdout))


def test_new_scans_are_scored_without_training(frozen):
    new = table(frozen, "march.tsv", [("sub-001", "scans with spaces é/sub-icb001.nii.gz")])
    # training config, table and code change: none of it may matter to a frozen model
    config = frozen.folder / "tiny.yaml"
    config.write_text(config.read_text().replace("epochs: 1", "epochs: 3"))
    module = frozen.folder / "src" / "normct" / "train" / "fit.py"
    module.write_text(module.read_text() + "\nCHANGED = 1\n")
    planned_on_a_cluster(
        frozen, "score_new", f"new={new}", f"bundle={bundle(frozen)}", groups={"infer", "zmap", "page"}
    )
    done = frozen.snakemake("score_new", "--config", f"new={new}", f"bundle={bundle(frozen)}")
    assert "train_" not in done.stdout + done.stderr
    root = frozen.folder / "out" / "new" / "march"
    assert (root / "handoff" / "patients" / "sub-001" / "index.html").is_file()
    record = json.loads((root / "score" / "subjects" / "sub-001.json").read_text("utf-8"))
    assert record["volumes"]
    for page in ("preprocess/quality.html", "handoff/index.html"):  # never the demo's "synthetic"
        assert "New scans: march" in (root / page).read_text("utf-8")
    assert "Too few scans to compare" in (root / "score" / "drift.html").read_text("utf-8")
    assert "score/drift.html" in done.stderr
    assert not (frozen.folder / "out" / "train").exists()


def test_a_site_recalibrates_and_goes_on_with_its_own_bundle(frozen):
    rows = [f"sub-{n}\tscans with spaces é/{name}.nii.gz\thealthy" for n, name in
            enumerate(("sub-icb001", "sub-healthytest001"), start=1)]  # fmt: skip
    (frozen.folder / "own site.tsv").write_text(
        "\n".join(["participant_id\tct\tgroup", *rows]) + "\n", "utf-8"
    )
    parent = bundle(frozen)
    planned_on_a_cluster(
        frozen, "recalibrate", "healthy=own site.tsv", f"bundle={parent}", groups={"infer", "zmap"}
    )
    done = frozen.snakemake("recalibrate", "--config", "healthy=own site.tsv", f"bundle={parent}")
    assert "Only 2 healthy scans" in done.stderr
    made = "out/recalibrated/own_site/score/bundle"  # no blank in a path that a shell sees
    manifest = verify_bundle(frozen.folder / made)
    assert manifest["name"] == "normct-own_site"
    assert manifest["training"]["calibrate"] == 2
    calibration = json.loads((frozen.folder / made / "calibration.json").read_text("utf-8"))
    assert calibration["n_healthy"] == calibration["calibrated"]["n_scans"] == 2
    assert len(calibration["quality"]["noise_hu"]) == 2
    before = json.loads((frozen.folder / parent / "calibration.json").read_text("utf-8"))
    assert calibration["thresholds"] != before["thresholds"]
    assert not (frozen.folder / "out" / "train").exists()
    new = table(frozen, "june.tsv", [("sub-001", "scans with spaces é/sub-icb001.nii.gz")])
    scoring = frozen.snakemake("score_new", "--dry-run", "--config", f"new={new}", f"bundle={made}")
    assert "score_drift" in scoring.stdout


def test_a_differing_score_setting_is_refused(frozen):
    new = table(frozen, "april.tsv", [("sub-001", "scans with spaces é/sub-icb001.nii.gz")])
    (frozen.folder / "other.yaml").write_text("score: {transforms: all}\n")
    done = frozen.snakemake(
        "--dry-run",
        "score_new",
        "--config",
        f"new={new}",
        f"bundle={bundle(frozen)}",
        extra="other.yaml",
        check=False,
    )
    assert done.returncode != 0
    assert "score.transforms" in done.stderr


def test_score_new_without_a_bundle_says_what_it_needs(frozen):
    done = frozen.snakemake("score_new", "--dry-run", check=False)
    assert done.returncode != 0
    assert "bundle" in done.stderr + done.stdout


def test_a_truncated_scan_is_set_aside_and_the_list_goes_on(frozen):
    whole = frozen.folder / "scans with spaces é" / "sub-icb001.nii.gz"
    cut = frozen.folder / "scans with spaces é" / "DOE^JOHN.nii.gz"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    new = table(
        frozen, "may.tsv",
        [("sub-bad", "scans with spaces é/DOE^JOHN.nii.gz"), ("sub-good", "scans with spaces é/sub-icb001.nii.gz")],
    )  # fmt: skip
    done = frozen.snakemake("score_new", "--config", f"new={new}", f"bundle={bundle(frozen)}")
    root = frozen.folder / "out" / "new" / "may"
    quality = json.loads((root / "preprocess" / "sub-bad" / "quality.json").read_text("utf-8"))
    assert quality["verdict"] == "fail"
    assert quality["reasons"]
    assert (root / "handoff" / "patients" / "sub-good" / "index.html").is_file()
    assert "sub-bad" in (root / "handoff" / "index.html").read_text("utf-8")
    assert "sub-bad" in done.stderr  # said last
    texts = [
        p.read_bytes()
        for p in root.rglob("*")
        if p.is_file() and p.suffix in {".json", ".html", ".csv", ".txt"}
    ]
    assert not any(b"DOE^JOHN" in text for text in texts)


def test_a_real_head_and_a_physical_phantom(frozen):
    if not REAL.is_dir():
        pytest.skip("real CT is not distributed with the repository")
    new = table(
        frozen, "real.tsv",
        [("sub-ge", str(REAL / "ge_head_dicom")), ("sub-plastic", str(REAL / "philips_phantom_dicom"))],
    )  # fmt: skip
    frozen.snakemake("score_new", "--config", f"new={new}", f"bundle={bundle(frozen)}")
    root = frozen.folder / "out" / "new" / "real"
    verdicts = {
        name: json.loads((root / "preprocess" / name / "quality.json").read_text("utf-8"))
        for name in ("sub-ge", "sub-plastic")
    }
    assert verdicts["sub-plastic"]["verdict"] == "fail"
    assert verdicts["sub-plastic"]["reasons"]
    assert verdicts["sub-ge"]["verdict"] in {"pass", "warn"}
    native = nib.load(root / "cohort" / "sub-ge" / "ct.nii.gz")
    anomaly = nib.load(root / "handoff" / "patients" / "sub-ge" / "anomaly_map.nii.gz")
    brain = nib.load(root / "handoff" / "patients" / "sub-ge" / "brain_mask.nii.gz")
    assert anomaly.shape == native.shape == (512, 611, 56)  # the tilt-corrected file, not the raw one
    np.testing.assert_allclose(anomaly.affine, native.affine, atol=1e-4)
    kept = root / "handoff" / "patients" / "sub-ge" / "scan.nii.gz"  # beside the maps, large as it is
    assert kept.read_bytes() == (root / "cohort" / "sub-ge" / "ct.nii.gz").read_bytes()
    inside = np.asarray(brain.dataobj) > 0
    hu = np.asarray(native.dataobj)[inside]
    assert 20 < np.median(hu) < 45  # the mask that came back lies on brain
    voxel_ml = abs(np.linalg.det(native.affine[:3, :3])) / 1000
    assert 900 < inside.sum() * voxel_ml < 2000
    assert "sub-plastic" in (root / "handoff" / "index.html").read_text("utf-8")
