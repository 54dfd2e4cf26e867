"""Geometry transforms: labels match the motion, measured on an asymmetric image."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from normct.pretext import geometry


def l_shape(size=64):
    """An L whose long arm, corner and short arm tell every rotation apart."""
    image = torch.zeros(1, 1, size, size)
    image[..., 24:40, 28] = 1.0
    image[..., 39, 28:36] = 1.0
    return image


def centroid(image):
    y, x = image[0, 0].nonzero(as_tuple=True)
    return torch.stack([y.float().mean(), x.float().mean()])


@settings(max_examples=36, deadline=None)
@given(st.integers(0, 35), st.integers(1, 20))
def test_labels_match_the_motion(number, shift):
    code = geometry.all_36()[number]
    image = l_shape()
    moved = geometry.transform(image, code[None], shift)
    rotated = torch.rot90(image, int(code[0]), (-2, -1))
    expected = centroid(rotated) + (code[1:] - 1) * shift
    assert torch.allclose(centroid(moved), expected, atol=1e-4)
    # undo the measured motion: what is left is the rotation alone
    back = torch.roll(moved, (-(code[1:] - 1) * shift).tolist(), (-2, -1))
    assert torch.equal(back, rotated)


def test_rotation_is_known_by_its_label():
    image = l_shape()
    images = [torch.rot90(image, k, (-2, -1)) for k in range(4)]
    assert all(not torch.equal(images[i], images[j]) for i in range(4) for j in range(i))
    y, x = 10, 3
    dot = torch.zeros(1, 1, 32, 32)
    dot[..., y, x] = 1
    moved = geometry.transform(dot, torch.tensor([[1, 1, 1]]), 4)
    assert moved[0, 0].nonzero().tolist() == [[31 - x, y]]  # a quarter turn, counter-clockwise as drawn


def test_vacated_pixels_are_background_and_nothing_wraps():
    ones = torch.ones(1, 1, 128, 128)
    moved = geometry.transform(ones, torch.tensor([[0, 2, 0]]), 16)
    assert (moved[..., :16, :] == 0).all() and (moved[..., :, -16:] == 0).all()
    assert int(moved.sum()) == 112 * 112


def test_identity_changes_nothing_and_bools_stay_bools():
    image, mask = torch.rand(2, 3, 32, 32), torch.rand(2, 1, 32, 32) > 0.5
    codes = geometry.identity().expand(2, 3)
    assert torch.equal(geometry.transform(image, codes, 4), image)
    assert torch.equal(geometry.transform(mask, codes, 4), mask)


def test_a_batch_is_its_slices_one_by_one():
    images, codes = torch.rand(36, 1, 32, 32), geometry.all_36()
    together = geometry.transform(images, codes, 5)
    for i in range(36):
        assert torch.equal(together[i], geometry.transform(images[i : i + 1], codes[i : i + 1], 5)[0])
    assert len(together.flatten(1).unique(dim=0)) == 36


def test_dozen_is_balanced():
    dozen = geometry.balanced_dozen()
    assert len(dozen.unique(dim=0)) == 12
    assert dozen[:, 0].bincount().tolist() == [3] * 4
    assert dozen[:, 1].bincount().tolist() == [4] * 3
    assert dozen[:, 2].bincount().tolist() == [4] * 3
    assert (dozen == geometry.identity()).all(1).any()


def test_drawn_codes_cover_all_36_and_repeat_by_seed():
    one, two = (geometry.draw_codes(2000, torch.Generator().manual_seed(4)) for _ in range(2))
    assert torch.equal(one, two)
    assert len(one.unique(dim=0)) == 36


def test_log_probabilities_are_minus_the_cross_entropies():
    logits, codes = torch.randn(5, 10), geometry.draw_codes(5, torch.Generator().manual_seed(0))
    logs = geometry.log_probabilities(logits, codes)
    start = 0
    for i, n in enumerate(geometry.CLASSES):
        expected = torch.nn.functional.cross_entropy(
            logits[:, start : start + n], codes[:, i], reduction="none"
        )
        assert torch.allclose(-logs[:, i], expected, atol=1e-6)
        start += n
    certain = torch.full((1, 10), -50.0)
    certain[0, [2, 4, 9]] = 50.0
    assert torch.allclose(
        geometry.log_probabilities(certain, torch.tensor([[2, 0, 2]])).exp(), torch.ones(1, 3)
    )


@pytest.mark.parametrize(("shape", "shift"), [((1, 1, 32, 16), 4), ((1, 1, 32, 32), 32), ((1, 1, 32, 32), 0)])
def test_impossible_transforms_are_refused(shape, shift):
    with pytest.raises(ValueError, match="square"):
        geometry.transform(torch.zeros(shape), geometry.identity(), shift)
