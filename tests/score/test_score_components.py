"""Principal components of healthy z maps: found, taken off, no lesion with them, and none that a scan made itself."""

from __future__ import annotations

import json

import numpy as np
import pytest

from factories import make_store
from normct.common.slices import DEPTH, SIZE, write_slices
from normct.score import build_reference, calibrated_map
from normct.score.components import Components, common_mask, principal_components
from normct.score.files import Raw, read_maps, write_maps, write_raw
from normct.score.files_calibrated import ReferenceFile, SumsFile
from score.score_case import SCORE

KEY = "statistical_atlas"
SETTINGS = SCORE["calibrated"] | {"components": 2, "smooth_mm": {"axial": 0, "in_plane": 0}}
CALIBRATE = [f"sub-c{k}" for k in range(8)]
STOP = [f"sub-s{k}" for k in range(9)]
LESION = (slice(80, 84), slice(70, 76), slice(44, 50))


def pattern(mask):
    """A front-to-back gradient over the whole brain, of unit spread."""
    wave = np.broadcast_to(np.linspace(-1, 1, SIZE)[None, :, None], mask.shape)[mask]
    return (wave - wave.mean()) / wave.std()


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Healthy scans that share a pattern, each by its own amount, and a test scan with much of it and a lesion."""
    root = tmp_path_factory.mktemp("components")
    rng = np.random.default_rng(0)
    for subject in [*CALIBRATE, *STOP, "sub-x"]:
        store = make_store(subject, 0)
        (root / "preprocess" / subject).mkdir(parents=True)
        write_slices(root / "preprocess" / subject / "slices.npz", store)
        amount = 3.0 if subject == "sub-x" else rng.normal()
        values = np.zeros(store.mask.shape, np.float32)
        values[store.mask] = amount * pattern(store.mask) + rng.standard_normal(int(store.mask.sum()))
        if subject == "sub-x":
            values[LESION] += 8
        write_maps(root / f"score/maps/{subject}.npz", {KEY: values[store.mask].astype(np.float16)})
        role = {"c": "calibrate", "s": "stop", "x": "test"}[subject[4]]
        write_raw(root / f"score/raw/{subject}.npz", Raw(subject, role, {"z": np.arange(DEPTH)}))
    build(root, root / "score", CALIBRATE, STOP)
    return root


def build(root, out, calibrate, stop, *more, **settings):
    build_reference.main(
        [str(root / "score"), str(root / "preprocess"), "--calibrate", *calibrate, "--stop", *stop, "--patients",
         *calibrate, "--settings", json.dumps(SETTINGS | settings), "--reference", str(out / "reference.npz"),
         "--sums", str(out / "reference_sums.npz"), *more]
    )  # fmt: skip


def z_of(root, out, subject, reference, *own):
    calibrated_map.main(
        [subject, str(root / "score"), str(root / "preprocess"), str(reference), *own, "--settings",
         json.dumps({"calibrated": SETTINGS, "fusion": [KEY]}), "--maps", str(out / "z.npz"), "--pooled",
         str(out / "pooled.npz")]
    )  # fmt: skip
    return read_maps(out / "z.npz")[KEY].astype(float)


def along(z, mask):
    return abs(np.mean(z * pattern(mask)))


def test_what_healthy_scans_share_is_taken_off_and_the_lesion_stays(cohort, tmp_path):
    mask = make_store().mask
    lesion = np.zeros(mask.shape, bool)
    lesion[LESION] = True
    build(cohort, tmp_path, CALIBRATE, STOP, components=0)
    without = z_of(cohort, tmp_path, "sub-x", tmp_path / "reference.npz")
    with_them = z_of(cohort, tmp_path, "sub-x", cohort / "score/reference.npz")
    assert along(without, mask) > 1
    assert along(with_them, mask) < 0.3 * along(without, mask)
    inside = lesion[mask]
    # in SD of healthy scans, in which the shared pattern is part
    assert with_them[inside].mean() > 3
    ahead, before = (z[inside].mean() / z[~inside].std() for z in (with_them, without))
    assert ahead > 1.2 * before > 1


def test_a_calibration_scan_is_freed_of_them_an_early_stopping_scan_is_not(cohort, tmp_path):
    mask = make_store().mask
    sums = cohort / "score/reference_sums.npz"
    assert along(z_of(cohort, tmp_path, CALIBRATE[0], sums, "--own", CALIBRATE[0]), mask) < 0.05
    own = [along(z_of(cohort, tmp_path, s, sums, "--own-stop", s), mask) for s in STOP[:3]]
    # not the early-stopping scan's, whose own values are in the components
    assert max(own) > 0.3


def test_files_give_them_back_and_a_site_takes_its_bundles(cohort, tmp_path):
    reference = ReferenceFile(cohort / "score/reference.npz")
    made = reference.components(KEY)
    assert made.basis.shape == (2, made.mask.sum())
    np.testing.assert_allclose(np.linalg.norm(made.basis.astype(float), axis=1), 1, atol=0.01)
    np.testing.assert_array_equal(
        made.basis, SumsFile(cohort / "score/reference_sums.npz").components(KEY).basis
    )
    build(cohort, tmp_path, CALIBRATE, [])
    assert ReferenceFile(tmp_path / "reference.npz").components(KEY) is None
    build(cohort, tmp_path, CALIBRATE, [], "--parent", str(cohort / "score/reference.npz"))
    inherited = ReferenceFile(tmp_path / "reference.npz").components(KEY)
    np.testing.assert_array_equal(inherited.basis, made.basis)
    np.testing.assert_array_equal(inherited.mask, made.mask)


def test_use_stop_is_about_the_variance_alone(cohort, tmp_path):
    build(cohort, tmp_path, CALIBRATE, STOP, use_stop=False)
    file = SumsFile(tmp_path / "reference_sums.npz")
    assert file.sums(KEY).stop_count.max() == 0
    assert file.components(KEY) is not None


def test_a_third_of_the_scans_at_most_and_none_of_two():
    mask = make_store().mask
    rng = np.random.default_rng(1)
    z = [rng.standard_normal(int(mask.sum())).astype(np.float32) for _ in range(7)]
    assert len(principal_components(z, [mask] * 7, common_mask([mask] * 7), 5)) == 2
    assert len(principal_components(z[:2], [mask] * 2, common_mask([mask] * 2), 5)) == 0
    assert len(principal_components([], [], common_mask([]), 5)) == 0
    assert not common_mask([]).any()


def test_a_smaller_brain_is_fitted_where_it_is():
    mask = make_store().mask
    shared = pattern(mask).astype(np.float32)
    basis = (shared / np.linalg.norm(shared))[None].astype(np.float16)
    half = mask.copy()
    half[:70] = False
    rest = Components(mask, basis).remove(2 * shared[half[mask]], half)
    assert abs(np.mean(rest * shared[half[mask]])) < 0.3


def test_the_largest_differences_come_first():
    mask = make_store().mask
    rng = np.random.default_rng(2)
    shared = pattern(mask)
    z = [
        (rng.normal() * shared + 0.3 * rng.standard_normal(len(shared))).astype(np.float32) for _ in range(12)
    ]
    first = principal_components(z, [mask] * 12, mask, 3)[0].astype(float)
    assert abs(first @ shared) / np.linalg.norm(shared) > 0.98
