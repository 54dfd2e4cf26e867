"""What the hand-off costs a scan of thin slices and one of thick ones, and how large and fast a worklist of 200 is.

The scans are those of the tests (``tests/handoff/handoff_case.py``): the template's head in HU with noise, its z
map with smooth noise, as scores leave it.
"""

from __future__ import annotations

import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median

from benchmarks.bench_preprocess import child
from benchmarks.entry import Entry

CASES = Path(__file__).resolve().parents[1] / "tests" / "handoff"
CHROMIUM = Path("/usr/bin/chromium")
THIN = (512, 512, 256), (0.45, 0.45, 0.625)
THICK = (512, 512, 36), (0.45, 0.45, 4.5)
"""Voxels and their size in mm; the thick one is what most head scans are."""
SEED = 1
SCANS, REPEATS = 200, 3
SUBJECT = "sub-bench"


def make_scan(root: Path, shape: tuple[int, ...], zooms: tuple[float, ...]) -> list[str]:
    """Write what the earlier stages leave of a scan; return the patient job's command line."""
    sys.path.insert(0, str(CASES))
    import handoff_case as case
    import numpy as np
    from scipy import ndimage

    from normct.common.slices import read_slices

    case.write_shared(root, {SUBJECT: "test"})
    case.write_subject(root, SUBJECT, shape=shape, zooms=zooms, seed=SEED)
    mask = read_slices(root / "preprocess" / SUBJECT / "slices.npz").mask
    rng = np.random.default_rng(SEED)
    noise = ndimage.gaussian_filter(rng.normal(size=mask.shape).astype(np.float32), 2)[mask]
    path = root / "score" / "calibrated" / f"{SUBJECT}.npz"
    with np.load(path) as maps:
        z = {name: (maps[name] + 1.2 * noise / noise.std()).astype(np.float16) for name in maps.files}
    np.savez_compressed(path, **z)
    return case.arguments(root, SUBJECT, **case.Z_SETTINGS)


def as_dicom(root: Path) -> None:
    """Make of the scan one that came as an untilted DICOM series, an image a slice."""
    import numpy as np

    from normct.common.files import read_json, write_json
    from normct.common.volumes import read_volume

    folder = root / "cohort" / SUBJECT
    ct = read_volume(folder / "ct.nii.gz", dtype=None)
    write_json(folder / "import.json", read_json(folder / "import.json") | {"source": "dicom"})
    to_patient = np.diag([-1.0, -1.0, 1.0, 1.0]) @ ct.affine  # DICOM's axes: left, posterior, superior
    along = to_patient[:3, :3] / ct.zooms
    image = {
        "sop_class": "1.2.840.10008.5.1.4.1.1.2",
        "rows": ct.data.shape[1],
        "columns": ct.data.shape[0],
        "thickness": float(ct.zooms[2]),
        "orientation": [*along[:, 0].tolist(), *along[:, 1].tolist()],
        "spacing": [float(ct.zooms[1]), float(ct.zooms[0])],
    }
    instances = [
        image | {"sop_instance": f"2.25.4.{k + 1}", "position": (to_patient @ [0, 0, k, 1])[:3].tolist()}
        for k in range(ct.data.shape[2])
    ]
    uids = {"study": "2.25.1", "series": "2.25.2", "frame_of_reference": "2.25.3"}
    write_json(folder / "dicom_private.json", uids | {"instances": instances})


def megabytes(folder: Path) -> float:
    """Return the size of a folder's files."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def make_worklist(root: Path, record: Path) -> Path:
    """Write a worklist of 200 scans like one scan's record; return its page."""
    sys.path.insert(0, str(CASES))
    import handoff_case as case

    from normct.common.files import read_json

    return case.make_many(root, read_json(record), SCANS) / "index.html"


def loading_seconds(page: Path) -> float | None:
    """Return how long Chromium takes to load a page, to the end of its load event; None without Chromium."""
    if not CHROMIUM.exists():
        print("  handoff_worklist_load_s is left out: no Chromium here", file=sys.stderr)
        return None
    from playwright.sync_api import sync_playwright

    took = []
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu"])
        for _ in range(REPEATS):
            tab = browser.new_page()
            tab.goto(page.as_uri(), wait_until="load")
            took.append(tab.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd") / 1000)
            tab.close()
        browser.close()
    return median(took)


def measure() -> list[Entry]:
    """Measure on heads made here, as NIfTI and as DICOM; about four minutes."""
    with tempfile.TemporaryDirectory(prefix="normct-bench-") as name:
        root = Path(name)
        # a child's peak memory starts from its parent's: what is large is made in a process of its own
        with ProcessPoolExecutor(1) as pool:
            arguments = pool.submit(make_scan, root / "thin", *THIN).result()
            runs = [child("normct.handoff.patient", *arguments) for _ in range(REPEATS)]
            folder = root / "thin" / "handoff" / "patients" / SUBJECT
            size = megabytes(folder)
            page = pool.submit(make_worklist, root / "many", folder / "patient.json").result()
            pool.submit(as_dicom, root / "thin").result()
            dicom = [child("normct.handoff.patient", *arguments) for _ in range(REPEATS)]
            dicom_size = megabytes(folder)
            arguments = pool.submit(make_scan, root / "thick", *THICK).result()
            pool.submit(as_dicom, root / "thick").result()
            thick = [child("normct.handoff.patient", *arguments) for _ in range(REPEATS)]
        entries = [
            Entry("handoff_cpu_s", median(cpu for cpu, _ in runs), "CPU s", "<= 10"),
            Entry("handoff_dicom_cpu_s", median(cpu for cpu, _ in dicom), "CPU s", "<= 10"),
            Entry("handoff_dicom_thick_cpu_s", median(cpu for cpu, _ in thick), "CPU s", "<= 10"),
            Entry("handoff_peak_mb", max(peak for _, peak in runs + dicom), "MB", "<= 2500"),
            Entry("handoff_patient_mb", size, "MB", "<= 15"),
            # with the scan itself and the DICOM results, which are as large as the source is
            Entry("handoff_patient_dicom_mb", dicom_size, "MB"),
            Entry("handoff_worklist_mb", page.stat().st_size / 1e6, "MB", "< 5"),
        ]
        seconds = loading_seconds(page)
        return entries + ([] if seconds is None else [Entry("handoff_worklist_load_s", seconds, "s", "< 2")])
