"""The slice store keeps masks to the bit and refuses pickles."""

from __future__ import annotations

import numpy as np
import pytest

from factories import make_store
from normct.common.anatomy import ATLAS_SHAPE, atlas_affine, ct_atlas
from normct.common.slices import empty_store, read_slices, write_slices


def test_round_trip(tmp_path):
    store = make_store(lesion=True)
    write_slices(tmp_path / "s.npz", store)
    back = read_slices(tmp_path / "s.npz")
    for name in ("image", "mask", "brain", "lesion", "usable"):
        np.testing.assert_array_equal(getattr(back, name), getattr(store, name))
    assert back.participant_id == store.participant_id
    assert back.has_lesion_mask
    table = back.table()
    assert table["lesion_pixels"].sum() == store.lesion.sum() > 0
    assert (table["brain_pixels"] >= 10).equals(table["usable"].astype(bool))


def test_set_aside_is_empty(tmp_path):
    write_slices(tmp_path / "s.npz", empty_store("sub-x"))
    back = read_slices(tmp_path / "s.npz")
    assert back.set_aside
    assert back.table().empty


def test_pickles_are_refused(tmp_path):
    np.savez(tmp_path / "s.npz", participant_id=np.array([{"evil": 1}], dtype=object))
    with pytest.raises(ValueError, match="pickle"):
        read_slices(tmp_path / "s.npz")


def test_the_atlas_fills_its_155_slices():
    image, mask = ct_atlas()
    assert image.data.shape == ATLAS_SHAPE
    rows = np.flatnonzero(mask.data.any(axis=(0, 1)))
    assert (rows[0], rows[-1]) == (0, 154)
    np.testing.assert_array_equal(image.affine, atlas_affine())
    inside = image.data[mask.data > 0]
    assert 5 < inside.min() < 10
    assert 25 < np.median(inside) < 38
    assert not image.data[mask.data == 0].any()
