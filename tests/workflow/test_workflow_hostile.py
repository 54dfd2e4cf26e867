"""Hostile inputs through the real Snakefile: refused in one list before any job, set aside, or accepted.

Whatever one scan is, the others finish, and no name from a header, file or folder reaches the results.
"""

from __future__ import annotations

import gzip
import html
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import yaml

from factories import head_hu
from hostile import CASES, FOLDER, NAMES, WHOLE
from normct.common.files import read_json
from normct.common.geometry import resample
from normct.common.slices import read_slices
from normct.common.volumes import Volume
from normct.phantom.subject import make_subject

pytestmark = [pytest.mark.xdist_group("hostile"), pytest.mark.timeout(1500)]

REPOSITORY = Path(__file__).resolve().parents[2]


def name_of(case: str) -> str:
    return "sub-" + re.sub("[^a-z0-9]", "", case.lower())


@pytest.fixture(scope="module")
def base() -> Volume:
    """A synthetic head at 1.9×1.9×3 mm."""
    settings = yaml.safe_load((REPOSITORY / "config.yaml").read_text("utf-8"))["phantom"]
    settings |= {"pose": {"pitch_deg": 4, "roll_deg": 2, "yaw_deg": 2, "shift_mm": 2}, "age_years": [30, 40]}
    ct = make_subject("sub-good", None, settings).ct
    blocks = ct.data.reshape(128, 4, 128, 4, -1).mean(axis=(1, 3))
    affine = ct.affine @ np.diag([4, 4, 1, 1])
    affine[:3, 3] += ct.affine[:3, :2] @ [1.5, 1.5]
    return Volume(np.rint(blocks).astype(np.int16), affine)


@dataclass(frozen=True)
class Clinic:
    """A checkout, a folder of hostile scans, and their rows."""

    checkout: Any
    rows: dict[str, dict]

    def run(self, out: str, cases: list[str], targets: list[str], on_bad_file: str, **changes: dict):
        """Run Snakemake on a table of these cases; ``changes`` by case are laid over rows."""
        rows = [self.rows[case] | changes.get(case, {}) for case in cases]
        columns = ["participant_id", "ct", "group", "pathology", "lesion_mask", "split", "patient"]
        lines = ["\t".join(columns), *("\t".join(row.get(c, "n/a") for c in columns) for row in rows)]
        (self.checkout.folder / f"{out}.tsv").write_text("\n".join(lines) + "\n", "utf-8")
        config = {
            "results_dir": out,
            "cohort": {"participants": f"{out}.tsv", "on_bad_file": on_bad_file},
            "preprocess": {"register": {"pitch_starts": [0], "side_starts": []}},
            # a few scans cannot calibrate
            "handoff": {"score": "thesis", "method": "vae_pretrained"},
        }
        (self.checkout.folder / f"{out}.yaml").write_text(yaml.safe_dump(config), "utf-8")
        return self.checkout.snakemake(*targets, extra=f"{out}.yaml", check=False)


@pytest.fixture(scope="module")
def clinic(base, make_checkout, tmp_path_factory) -> Clinic:
    """Every scan of :data:`CASES`, in a folder named after a patient."""
    checkout = make_checkout(tmp_path_factory.mktemp("hostile") / "checkout")
    folder = tmp_path_factory.mktemp("scans") / FOLDER
    folder.mkdir()
    rows = {}
    for case, made in CASES.items():
        found = made.make(folder, base)
        found = found if isinstance(found, dict) else {"ct": str(found)}
        rows[case] = {"participant_id": name_of(case), "group": "healthy"} | found
    return Clinic(checkout, rows)


def of(*outcomes: str) -> list[str]:
    return [case for case, made in CASES.items() if made.outcome in outcomes]


def listed(text: str, title: str) -> list[str]:
    """Return the faults under a title."""
    lines = text[text.rindex(title) :].splitlines()
    return [line[4:] for line in lines if line.startswith("  - ")]


def assert_refused(done, folder: Path, cases: list[str], faults: list[str], rows: dict) -> None:
    """One fault a case, naming subject, file and fault; no job ran and nothing but the cache was written."""
    for case in cases:
        subject = rows[case]["participant_id"]
        mine = [f for f in faults if subject in re.split("[:,] ", f)[:2] and CASES[case].message in f]
        assert len(mine) == 1, (case, faults)
        assert re.search(r"; \w|\. [A-Z]|did you mean", mine[0]), mine  # what to do
    assert len(faults) == len(cases)
    assert done.returncode == 1
    assert "rule " not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    written = [p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()]
    assert written == ["cohort/checked.json"]


def test_all_that_table_and_files_show_is_refused_in_one_list(clinic):
    cases = of("row", "stat", "bytes", "twin")
    assert len(cases) >= 20
    done = clinic.run("all", ["good", *cases], [], "refuse", good={"patient": "p1", "split": "train"})
    faults = listed(done.stderr, "The participants table and the files it names have faults; nothing was run")
    assert_refused(done, clinic.checkout.folder / "all", cases, faults, clinic.rows)


def test_a_dry_run_reads_the_table_only(clinic):
    done = clinic.run("dry", ["good", "unknown group", "text"], ["--dry-run"], "refuse")
    assert done.returncode == 1
    assert "unknown group 'helthy'" in done.stderr
    assert "sub-text" not in done.stderr
    assert not (clinic.checkout.folder / "dry").exists()


def test_what_only_the_files_show_is_refused_before_any_job(clinic):
    cases = of("bytes", "twin")
    done = clinic.run("files", ["good", "contorted", *cases], [], "refuse")
    faults = listed(done.stderr, "The cohort's files have faults; nothing was run")
    assert "cohort.on_bad_file: set_aside would leave these scans out and go on" in done.stderr
    assert_refused(done, clinic.checkout.folder / "files", cases, faults, clinic.rows)


@pytest.fixture(scope="module")
def aside(clinic):
    """One run of everything that is set aside or accepted."""
    cases = of("stat", "bytes", "voxels", "accepted")
    targets = [f"aside/cohort/{name_of(case)}/import.json" for case in cases]
    done = clinic.run("aside", cases, targets, "set_aside")
    assert done.returncode == 0, done.stderr[-6000:]
    return clinic.checkout.folder / "aside" / "cohort"


@pytest.mark.parametrize(
    "case", [case for case in of("stat", "bytes", "voxels") if case != "truncated vertex"]
)
def test_set_aside_by_the_import_with_a_reason(aside, case):
    record = read_json(aside / name_of(case) / "import.json")
    assert record["verdict"] == "set_aside"
    assert CASES[case].message in record["reason"]
    assert re.search(r"\. [A-Z]", record["reason"])  # what to do


@pytest.mark.parametrize("case", of("accepted"))
def test_accepted_with_its_repair_noted(aside, base, case):
    record = read_json(aside / name_of(case) / "import.json")
    assert record["verdict"] == "ok"
    assert CASES[case].message in " ".join(record["repairs"])
    assert bool(record["repairs"]) == bool(CASES[case].message)
    image = nib.load(aside / name_of(case) / "ct.nii.gz")
    if case in {"DICOM", "contorted"}:  # another head; turned, and brought back by preprocessing alone
        assert image.shape == {"DICOM": head_hu().shape, "contorted": (128, base.data.shape[2], 128)}[case]
        return
    found = Volume(np.asarray(image.dataobj), base.affine if case == "no sform" else image.affine)
    here = resample(found, base.data.shape, base.affine, order=0).data
    inner = (slice(32, -32), slice(32, -32), slice(20, -20))
    difference = np.abs(here[inner] - np.clip(base.data, -1024, 3071)[inner].astype(float))
    assert difference.max() <= 1


@pytest.fixture(scope="module")
def whole(clinic):
    """One run of all of preprocessing, on a table with every kind of fault and good scans among it."""
    targets = [f"whole/preprocess/{name_of(case)}/slices.npz" for case in WHOLE]
    done = clinic.run("whole", list(WHOLE), [*targets, "whole/preprocess/quality.html"], "set_aside")
    assert done.returncode == 0, done.stderr[-6000:]
    return clinic.checkout.folder / "whole", done


@pytest.mark.parametrize("case", [case for case in WHOLE if CASES[case].outcome != "accepted"])
def test_set_aside_with_its_reason_on_the_page_and_said_last(whole, case):
    root, done = whole
    quality = read_json(root / "preprocess" / name_of(case) / "quality.json")
    assert quality["verdict"] == "fail"
    assert CASES[case].message in " ".join(quality["reasons"])
    assert read_slices(root / "preprocess" / name_of(case) / "slices.npz").set_aside
    assert f"  {name_of(case)}: {quality['reasons'][0]}" in done.stderr[done.stderr.rindex("Set aside by") :]
    page = html.unescape((root / "preprocess" / "quality.html").read_text("utf-8"))
    assert name_of(case) in page
    assert quality["reasons"][0] in page


def test_the_others_finish_whatever_their_grid(whole):
    root, _ = whole
    records = {}
    for case in ("good", "contorted"):
        records[case] = read_json(root / "preprocess" / name_of(case) / "quality.json")
        assert records[case]["verdict"] in {"pass", "warn"}, records[case]["reasons"]
        store = read_slices(root / "preprocess" / name_of(case) / "slices.npz")
        assert store.usable.sum() > 120
    one, other = (records[case]["measures"] for case in ("good", "contorted"))
    assert other["brain_volume_ml"] == pytest.approx(one["brain_volume_ml"], rel=0.03)
    assert other["mi"] == pytest.approx(one["mi"], rel=0.1)
    turned = np.subtract(*([m[f"{a}_deg"] for a in ("pitch", "roll", "yaw")] for m in (other, one)))
    np.testing.assert_allclose(turned, (6, -4, 5), atol=1.5)


def contents(path: Path) -> bytes:
    """Return a file's bytes, and what is packed in them; pictures in a page left out."""
    data = path.read_bytes()
    if path.suffix == ".gz":
        data += gzip.decompress(data)
    elif path.suffix == ".npz":
        with zipfile.ZipFile(path) as archive:
            data += b"".join(archive.read(name) for name in archive.namelist())
    return re.sub(rb"base64,[A-Za-z0-9+/=]+", b"", data)


def test_no_name_reaches_results_or_logs(aside, whole, clinic):
    roots = [clinic.checkout.folder / name for name in ("all", "files", "aside", "whole")]
    files = [path for root in roots for path in root.rglob("*") if path.is_file()]
    assert len(files) > 150
    for path in files:
        content = contents(path)
        # three letters stand in any megabyte of noise: short names are looked for in text only
        text = path.suffix in {".json", ".tsv", ".html", ".log", ".txt", ".csv", ".inputs"}
        found = [word for word in (*NAMES, FOLDER) if (text or len(word) > 5) and word.encode() in content]
        assert not found, (path.name, found)
