"""Context encoding: squares are covered, the rest is untouched."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from normct.pretext.context import cover_squares


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 64))
def test_only_squares_change(seed, max_patch):
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(4, 1, 64, 64, generator=generator) + 2.0
    covered, where = cover_squares(images, max_patch, generator)
    assert torch.equal(covered[~where], images[~where])
    assert (covered[where] <= 1).all()
    for i in range(4):
        assert 1 <= int(where[i].sum()) <= 3 * (max_patch + 1) ** 2
        assert len(covered[i][where[i]].unique()) <= 3


def test_original_is_left_alone_and_seed_repeats():
    images = torch.rand(2, 1, 32, 32)
    before = images.clone()
    one = cover_squares(images, 16, torch.Generator().manual_seed(1))[0]
    two = cover_squares(images, 16, torch.Generator().manual_seed(1))[0]
    assert torch.equal(images, before)
    assert torch.equal(one, two)
