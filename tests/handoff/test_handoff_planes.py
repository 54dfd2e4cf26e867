"""Results on the planes of the source images, whatever their tilt and distance."""

from __future__ import annotations

from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_case import frames, mapped, sampled, write_again
from head_case import native_grid
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from normct.cohort.importer import run_import
from normct.common.files import read_json
from normct.common.volumes import Volume, read_volume, write_volume
from normct.handoff.dicom_objects import Stamp, segmentation, source_datasets
from normct.handoff.planes import plane_affine, sample

REAL = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "ge_head_dicom"


@st.composite
def scans(draw):
    """A volume's grid, oblique, flipped and anisotropic, and planes of any tilt with gaps across it."""
    zooms = np.array(draw(st.tuples(st.floats(1.5, 3.0), st.floats(1.5, 3.0), st.floats(2.0, 4.0))))
    turn = Rotation.from_euler("xyz", draw(st.tuples(*[st.floats(-25, 25)] * 3)), degrees=True).as_matrix()
    signs = np.diag(draw(st.tuples(*[st.sampled_from([-1.0, 1.0])] * 3)))
    shape = tuple(int(np.ceil(140 / z)) for z in zooms)
    affine = np.eye(4)
    affine[:3, :3] = turn @ signs @ np.diag(zooms)
    affine[:3, 3] = -affine[:3, :3] @ (np.array(shape) - 1) / 2
    tilt = np.radians(draw(st.floats(-25, 25)))
    gaps = draw(st.lists(st.floats(2, 7), min_size=14, max_size=20))
    planes = [
        {
            "position": [-60.0, -60.0, float(z)],
            "orientation": [1.0, 0.0, 0.0, 0.0, float(np.cos(tilt)), float(-np.sin(tilt))],
            "spacing": [1.0, 1.2],
            "rows": 120,
            "columns": 100,
            "thickness": 5.0,
            "sop_class": "1.2.840.10008.5.1.4.1.1.2",
            "sop_instance": f"2.25.4.{number}",
        }
        for number, z in enumerate(np.cumsum(gaps) - sum(gaps) / 2 - 60 * np.sin(-tilt), 1)
    ]
    return shape, affine, planes


def stack(volume, instances, box, order):
    """Return all planes as one array."""
    result = np.zeros((len(instances), instances[0]["rows"], instances[0]["columns"]), volume.data.dtype)
    for where, plane in sample(volume, instances, box, order):
        result[where] = plane
    return result


UIDS = {"study": "2.25.1", "series": "2.25.2", "frame_of_reference": "2.25.3"}
STAMP = Stamp("2.25", "seed", datetime(2026, 1, 1, tzinfo=UTC))


@settings(max_examples=10, deadline=None)
@given(scan=scans(), x=st.floats(-15, 15), y=st.floats(-15, 15), order=st.sampled_from([0, 1]))
def test_lesion_is_found_on_planes_of_any_tilt_and_distance(scan, x, y, order):
    """Masks are sampled with order 0, maps with 1; and a segmentation of them gives each plane back."""
    shape, affine, planes = scan
    centre = np.array([x, y, 0.0])

    def ball(size, to_world):
        world = np.indices(size).reshape(3, -1).T @ to_world[:3, :3].T + to_world[:3, 3]
        return (((world - centre) ** 2).sum(axis=1) <= 22.0**2).reshape(size)

    volume = Volume(ball(shape, affine).astype(np.float32), affine)
    box = tuple(slice(s.min(), s.max() + 1) for s in np.nonzero(volume.data))
    found = stack(volume, planes, box, order) > 0.5
    truth = np.stack([ball((p["rows"], p["columns"], 1), plane_affine(p))[..., 0] for p in planes])
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) >= 0.9
    images = source_datasets(UIDS | {"instances": planes}, "sub-any", {})
    file = BytesIO()
    segmentation(images, found.astype(np.uint8), STAMP).save_as(file, enforce_file_format=True)
    file.seek(0)
    back = {source: (position, pixels) for source, position, _, pixels in frames(pydicom.dcmread(file))}
    assert len(back) == len(planes)
    for plane, own in zip(planes, found, strict=True):
        position, pixels = back[plane["sop_instance"]]
        np.testing.assert_allclose(position, plane["position"], atol=1e-4)
        np.testing.assert_array_equal(pixels > 0, own)


@pytest.mark.skipif(not REAL.is_dir(), reason="the real head is not on this machine")
def test_real_tilted_head_is_sampled_on_its_own_28_images(tmp_path):
    """Bone and HU of the volume (56 slices, sheared upright) lie on those of each image as it was sent."""
    cohort = tmp_path / "sub-ge"
    run_import("sub-ge", REAL, None, cohort)
    ct = read_volume(cohort / "ct.nii.gz", dtype=None)
    write_volume(tmp_path / "maps" / "anomaly_map.nii.gz", Volume(np.clip(ct.data, -80, 80), ct.affine))
    bone = Volume((ct.data > 300).astype(np.uint8), ct.affine)
    write_volume(tmp_path / "maps" / "anomaly_mask.nii.gz", bone)
    words = write_again(cohort, tmp_path / "out", tmp_path / "maps")
    # the volume that the maps lie on stays beside them, large as it is
    assert (tmp_path / "out" / "scan.nii.gz").read_bytes() == (cohort / "ct.nii.gz").read_bytes()
    assert (cohort / "ct.nii.gz").stat().st_size > 6e6 and "scan.nii.gz" in words[0]

    images = {}
    for path in REAL.glob("*.dcm"):
        data = pydicom.dcmread(path)
        images[data.SOPInstanceUID] = data.pixel_array * data.RescaleSlope + data.RescaleIntercept
    seg = pydicom.dcmread(tmp_path / "out" / "dicom" / "findings_seg.dcm")
    back = {source: pixels > 0 for source, _, _, pixels in frames(seg)}
    assert set(back) == set(images) and len(back) == seg.NumberOfFrames == 28
    overlay = pydicom.dcmread(tmp_path / "out" / "dicom" / "overlay_map.dcm")
    slope, intercept = (float(mapped(overlay)[f"RealWorldValue{n}"].value) for n in ("Slope", "Intercept"))
    shown = {source: pixels * slope + intercept for source, _, _, pixels in frames(overlay)}
    assert set(shown) == set(images) and overlay.NumberOfFrames == 28
    volume, apart = Volume(np.clip(ct.data, -80, 80).astype(np.float32), ct.affine), []
    for instance in read_json(cohort / "dicom_private.json")["instances"]:
        uid = instance["sop_instance"]
        np.testing.assert_array_equal(back[uid], sampled(bone, instance, 0) > 0)
        np.testing.assert_allclose(shown[uid], sampled(volume, instance, 1), atol=slope / 2 + 0.02, rtol=0)
        one, other = back[uid], images[uid] > 300
        # nearest of slices half as far apart as the images
        assert 2 * (one & other).sum() / (one.sum() + other.sum()) > 0.85
        apart.append(np.median(np.abs(shown[uid] - images[uid])[np.abs(images[uid]) < 80]))
    assert np.mean(apart) < 5


@pytest.mark.parametrize("codes", ["LPS", "RAI", "PLS", "SAL"])
@pytest.mark.parametrize("along", [(1, 0), (0, 1)])
@pytest.mark.parametrize("signs", [(1, 1), (-1, 1), (1, -1), (-1, -1)])
def test_own_planes_of_the_volume_are_taken_as_they_are(codes, along, signs, monkeypatch):
    """An untilted series: mirrored, turned, beyond the volume; the same as by interpolation."""
    shape = (30, 34, 12)
    affine = native_grid(shape, (1.5, 1.5, 4.0), codes)
    volume = Volume(np.random.default_rng(0).random(shape).astype(np.float32), affine)
    lps = np.diag([-1.0, -1.0, 1.0])
    # along a row of pixels, and along a column
    row, column = (s * lps @ affine[:3, a] / volume.zooms[a] for s, a in zip(signs, along, strict=True))
    first = {0: -3, 1: 2}
    for sign, axis in zip(signs, along, strict=True):
        if sign < 0:
            first[axis] = shape[axis] - 1 - first[axis]
    planes = [
        {
            "position": list(lps @ (affine @ [first[0], first[1], k, 1])[:3]),
            "orientation": [*row, *column],
            "spacing": [1.5, 1.5],
            "rows": 36,
            "columns": 28,
        }
        for k in (-1, 0, 5, 11, 12)
    ]
    whole = tuple(slice(0, n) for n in shape)
    taken = stack(volume, planes, whole, 1)
    assert not taken[0].any() and not taken[4].any() and taken[2].any()
    if along == (1, 0) and signs == (1, 1):
        np.testing.assert_array_equal(taken[2, 3:33, :28], volume.data[:30, 2:30, 5])
        assert not taken[:, :3].any()
    monkeypatch.setattr("normct.handoff.planes.OWN_PLANE", -1.0)
    np.testing.assert_allclose(taken, stack(volume, planes, whole, 1), atol=1e-5)
