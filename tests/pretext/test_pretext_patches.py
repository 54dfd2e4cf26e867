"""Swapped patches: inside, apart, on brain, and undone by swapping back."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from normct.pretext.patches import (
    draw_boxes,
    draw_brain_pixels,
    restore_patches,
    swap_patches,
    swapped_pixels,
)


def brains(batch, size, seed):
    """Random ellipses, some tiny, some touching the edge."""
    generator = torch.Generator().manual_seed(seed)
    centre, radius = torch.rand(2, batch, 2, 1, 1, generator=generator).unbind()
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    a, b = centre[:, 0] * size, centre[:, 1] * size
    return ((y - a) / (1 + radius[:, 0] * size)) ** 2 + ((x - b) / (1 + radius[:, 1] * size)) ** 2 <= 1


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6), batch=st.integers(1, 5), patch=st.integers(1, 20),
    swaps=st.integers(1, 3), channels=st.sampled_from([1, 3]),
)  # fmt: skip
def test_patches_stay_inside_and_apart_and_come_back(seed, batch, patch, swaps, channels):
    size = 48
    masks = brains(batch, size, seed)
    generator = torch.Generator().manual_seed(seed)
    boxes = draw_boxes(masks, patch, generator, swaps)
    assert boxes.shape == (batch, swaps, 2, 2)
    assert (boxes >= 0).all() and (boxes <= size - patch).all()
    for slice_boxes in boxes:
        moved = [pair for pair in slice_boxes if (pair[0] != pair[1]).any()]
        corners = [corner for pair in moved for corner in pair]
        for i, one in enumerate(corners):
            for other in corners[:i]:
                assert (one - other).abs().max() >= patch
    images = torch.rand(batch, channels, size, size, generator=generator)
    swapped = swap_patches(images, boxes, patch)
    assert torch.equal(restore_patches(swapped, boxes, patch), images)
    pixels = swapped_pixels(boxes, patch, (size, size)).expand_as(images)
    assert torch.equal(swapped[~pixels], images[~pixels])
    assert torch.equal(swapped.flatten(1).sort().values, images.flatten(1).sort().values)


def test_the_two_patches_change_places():
    image = torch.arange(64.0).view(1, 1, 8, 8)
    swapped = swap_patches(image, torch.tensor([[[[0, 0], [4, 5]]]]), 3)
    assert torch.equal(swapped[0, 0, :3, :3], image[0, 0, 4:7, 5:8])
    assert torch.equal(swapped[0, 0, 4:7, 5:8], image[0, 0, :3, :3])
    assert int((swapped != image).sum()) == 18
    assert int(swapped_pixels(torch.tensor([[[[0, 0], [4, 5]]]]), 3, (8, 8)).sum()) == 18


def test_centres_are_brain_pixels_drawn_evenly():
    masks = torch.zeros(1, 16, 16, dtype=torch.bool)
    masks[0, 3, 4] = masks[0, 10, 12] = masks[0, 0, 0] = masks[0, 15, 15] = True
    drawn = draw_brain_pixels(masks, 4000, torch.Generator().manual_seed(0))[0]
    assert masks[0, drawn[:, 0], drawn[:, 1]].all()
    _, counts = drawn.unique(dim=0, return_counts=True)
    assert len(counts) == 4
    assert counts.min() > 880


def test_no_room_or_no_brain_goes_unswapped():
    small = torch.zeros(2, 32, 32, dtype=torch.bool)
    small[0, 15:17, 15:17] = True
    boxes = draw_boxes(small, 16, torch.Generator().manual_seed(1))
    image = torch.rand(2, 1, 32, 32)
    assert torch.equal(swap_patches(image, boxes, 16), image)
    assert not swapped_pixels(boxes, 16, (32, 32)).any()


def test_a_whole_brain_is_swapped_and_repeats_by_seed():
    masks = torch.zeros(8, 128, 128, dtype=torch.bool)
    masks[:, 20:110, 30:100] = True
    boxes = [draw_boxes(masks, 16, torch.Generator().manual_seed(s)) for s in (5, 5, 6)]
    assert torch.equal(boxes[0], boxes[1])
    assert not torch.equal(boxes[0], boxes[2])
    assert swapped_pixels(boxes[0], 16, (128, 128)).sum((1, 2, 3)).tolist() == [512] * 8
