"""The second rigid pass: the mean of registered training brains, and the refinement against it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from normct.common.anatomy import ct_atlas
from normct.common.errors import NormctError
from normct.common.files import read_json, write_json
from normct.common.geometry import read_transform, resample, write_transform
from normct.common.volumes import Volume, read_volume, write_volume
from normct.preprocess import mean_brain, refine
from normct.preprocess.pose import centre_of_mass, distance, rigid


def posed(turn: float, shift: tuple[float, float, float]) -> np.ndarray:
    """A pose (atlas point to scan point) turned about the atlas brain."""
    angles = np.radians([turn, -turn / 2, turn / 3]) * 60
    return rigid(np.append(angles, shift), np.array([0.0, -20, 10]), np.zeros(3))


@pytest.fixture(scope="module")
def atlas() -> tuple[Volume, Volume]:
    return ct_atlas()


def scanned(atlas: tuple[Volume, Volume], points: np.ndarray, step: int) -> tuple[Volume, Volume]:
    """The atlas brain as a scan in a pose: image and mask on a grid of ``step`` mm that holds it."""
    image, mask = atlas
    grid = image.affine @ np.diag([step, step, step, 1.0])
    shape, inverse = tuple(n // step for n in image.data.shape), np.linalg.inv(points)
    brain = resample(image, shape, grid, inverse, 1).data
    inside = resample(mask, shape, grid, inverse, 0).data
    return (
        Volume(np.where(inside > 0, brain, -1024).astype(np.int16), grid),
        Volume(inside.astype(np.uint8), grid),
    )


@pytest.fixture(scope="module")
def scan(atlas) -> tuple[np.ndarray, Volume, Volume]:
    points = posed(8.0, (3.0, -4.0, 2.0))
    return points, *scanned(atlas, points, 2)


def put(folder: Path, points: np.ndarray, brain: Volume, mask: Volume, record: dict) -> Path:
    write_volume(folder / "brain.nii.gz", brain)
    write_volume(folder / "brain_mask.nii.gz", mask)
    write_transform(folder / "native_to_atlas_first.mat", points)
    write_json(folder / "register_first.json", record)
    return folder / "register_first.json"


RECORD = {
    "mi": 1.0, "runner_up_mi": 0.4, "mi_peak": 0.3, "pitch_deg": 8.0, "roll_deg": -4.0, "yaw_deg": 2.7,
    "translation_mm": [3.0, -4.0, 2.0], "overlap_dice": 0.95,
}  # fmt: skip
NOTHING = dict.fromkeys(RECORD)


def test_mean_of_one_brain_in_two_poses_is_that_brain(tmp_path, atlas, scan):
    image_there, atlas_mask = atlas
    write_volume(tmp_path / "atlas_mask.nii.gz", atlas_mask)
    far = posed(-5.0, (-6.0, 2.0, 1.0))
    records = [
        put(tmp_path / "sub-a", *scan, RECORD),
        put(tmp_path / "sub-b", far, *scanned(atlas, far, 2), RECORD),
        # a brain whose first registration failed, and a scan that was set aside, stay out
        put(tmp_path / "sub-c", np.eye(4), *scan[1:], RECORD | {"overlap_dice": 0.6}),
        put(tmp_path / "sub-d", np.eye(4), *scan[1:], NOTHING),
    ]
    (tmp_path / "records.txt").write_text("\n".join(map(str, records)) + "\n")
    names = [str(tmp_path / n) for n in ("mean.nii.gz", "mean_mask.nii.gz", "atlas_mask.nii.gz")]
    mean_brain.main([*names, "--inputs-file", str(tmp_path / "records.txt")])
    image, mask = read_volume(names[0]), read_volume(names[1], None)
    both = (mask.data > 0) & (atlas_mask.data > 0)
    assert 2 * both.sum() / ((mask.data > 0).sum() + (atlas_mask.data > 0).sum()) > 0.97
    assert np.abs(image.data - image_there.data)[both].mean() < 3.0
    assert not image.data[mask.data == 0].any()


def test_no_registered_training_brain_is_an_error_in_words(tmp_path, atlas, scan):
    write_volume(tmp_path / "atlas_mask.nii.gz", atlas[1])
    record = put(tmp_path / "sub-a", *scan, NOTHING)
    (tmp_path / "records.txt").write_text(f"{record}\n")
    names = [str(tmp_path / n) for n in ("mean.nii.gz", "mean_mask.nii.gz", "atlas_mask.nii.gz")]
    with pytest.raises(NormctError, match="no training brain"):
        mean_brain.main([*names, "--inputs-file", str(tmp_path / "records.txt")])
    assert not (tmp_path / "mean.nii.gz").exists()


def test_refinement_starts_from_the_first_pose_and_ends_nearer_the_truth(tmp_path, atlas):
    truth = posed(8.0, (3.0, -4.0, 2.0))
    brain, mask = scanned(atlas, truth, 1)
    near = posed(11.0, (5.0, -5.0, 3.0))
    put(tmp_path, near, brain, mask, RECORD)
    for name, volume in zip(("atlas", "atlas_mask"), atlas, strict=True):
        write_volume(tmp_path / f"{name}.nii", volume)
    inputs = [
        "brain.nii.gz",
        "brain_mask.nii.gz",
        "atlas.nii",
        "atlas_mask.nii",
        "atlas.nii",
        "atlas_mask.nii",
    ]
    inputs += ["native_to_atlas_first.mat", "register_first.json", "out.mat", "out.json"]
    refine.main([str(tmp_path / name) for name in inputs])
    centre = centre_of_mass(atlas[1])
    before, after = (distance(truth, m, centre) for m in (near, read_transform(tmp_path / "out.mat")))
    assert before[0] > 2.5
    assert after[0] < 1.0
    assert after[1] < 1.0
    record = read_json(tmp_path / "out.json")
    assert record["runner_up_mi"] == 0.4
    assert record["second_pass"]["moved_deg"] == pytest.approx(before[0], abs=1.0)
    assert record["overlap_dice"] > 0.97


def test_a_scan_without_a_brain_is_passed_on(atlas):
    nothing = Volume(np.zeros((1, 1, 1), np.int16), np.eye(4))
    first = refine.Registration(**NOTHING)
    matrix, record, moved = refine.second_pass((nothing, nothing), atlas, atlas, np.eye(4), first)
    assert np.array_equal(matrix, np.eye(4))
    assert record == first
    assert set(moved.values()) == {None}
