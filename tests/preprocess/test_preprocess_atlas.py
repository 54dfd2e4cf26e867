"""The atlas on its grid: the default, a user's own in another orientation, and what is refused."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from normct.common.anatomy import ATLAS_SHAPE, atlas_affine, ct_atlas
from normct.common.errors import ConfigError
from normct.common.volumes import Volume, read_volume, write_volume
from normct.preprocess.atlas import main, make_atlas, own_atlas


@pytest.fixture(scope="module")
def atlas():
    return ct_atlas()


def reoriented(volume: Volume, axes: str) -> Volume:
    """The same brain, stored with other axes (e.g. LPS, SAR)."""
    image = nib.Nifti1Image(volume.data, volume.affine)
    wanted = nib.orientations.axcodes2ornt(axes)
    turned = image.as_reoriented(nib.orientations.ornt_transform(nib.io_orientation(volume.affine), wanted))
    return Volume(np.asarray(turned.dataobj), turned.affine)


def test_default_atlas_is_written_on_the_grid(tmp_path, atlas):
    main([str(tmp_path / "a.nii.gz"), str(tmp_path / "m.nii.gz")])
    image, mask = read_volume(tmp_path / "a.nii.gz"), read_volume(tmp_path / "m.nii.gz", dtype=None)
    assert image.data.shape == mask.data.shape == ATLAS_SHAPE
    assert np.allclose(image.affine, atlas_affine())
    assert np.array_equal(mask.data > 0, atlas[1].data > 0)
    assert mask.data.any(axis=(0, 1)).sum() == 155  # the brain fills every slice


@pytest.mark.parametrize("axes", ["LPS", "SAR", "PIL"])
def test_orientation_of_an_own_atlas_is_honoured(atlas, axes):
    image, mask = own_atlas(reoriented(atlas[0], axes), reoriented(atlas[1], axes))
    assert np.array_equal(mask.data, atlas[1].data)
    assert np.allclose(image.data, atlas[0].data, atol=1e-3)


def test_own_atlas_away_from_mni_space_is_brought_onto_the_grid(atlas):
    shift = np.eye(4)
    shift[:3, 3] = (300, -200, 500)
    image, mask = own_atlas(*(Volume(v.data, shift @ v.affine) for v in atlas))
    assert mask.data.sum() == pytest.approx(atlas[1].data.sum(), rel=0.02)
    assert image.data[mask.data > 0].mean() == pytest.approx(atlas[0].data[atlas[1].data > 0].mean(), abs=0.5)
    assert np.flatnonzero(mask.data.any(axis=(0, 1)))[-1] in (
        151,
        152,
        153,
    )  # two slices below the top, rounded
    assert np.array_equal(image.affine, atlas_affine())


def test_another_ct_scale_and_grid_are_kept_as_they_are(atlas):
    coarse = [Volume(v.data[::2, ::2, ::2], v.affine @ np.diag([2, 2, 2, 1.0])) for v in atlas]
    image, mask = own_atlas(Volume(coarse[0].data * 11 + 2000, coarse[0].affine), coarse[1])
    assert image.data[mask.data == 0].max() == 0
    assert 2000 < np.median(image.data[mask.data > 0]) < 2500


def faults(image: Volume, mask: Volume) -> str:
    with pytest.raises(ConfigError) as error:
        own_atlas(image, mask)
    return str(error.value)


def test_what_does_not_fit_is_refused_in_words(atlas):
    image, mask = atlas
    assert "give both on one grid" in faults(image, Volume(mask.data[:-1], mask.affine))
    moved = mask.affine.copy()
    moved[0, 3] += 5
    assert "different affines" in faults(image, Volume(mask.data, moved))
    assert "holds 0 mL" in faults(image, Volume(np.zeros_like(mask.data), mask.affine))
    assert "constant" in faults(Volume(np.ones_like(image.data), image.affine), mask)
    assert "3-D" in faults(Volume(np.zeros((*image.data.shape, 2)), image.affine), mask)


def test_half_an_atlas_and_unreadable_files_are_refused(tmp_path, atlas):
    with pytest.raises(ConfigError, match="mask is missing"):
        make_atlas(tmp_path / "a.nii.gz", None)
    (tmp_path / "text.nii.gz").write_text("no image")
    write_volume(tmp_path / "m.nii.gz", atlas[1])
    with pytest.raises(ConfigError, match=r"image: text\.nii\.gz cannot be read"):
        make_atlas(tmp_path / "text.nii.gz", tmp_path / "m.nii.gz")
