"""Context encoding of ceVAE (Zimmerer et al., MIDL 2019): squares of the image are covered."""

from __future__ import annotations

import torch
from torch import Tensor

MAX_SQUARES = 3


def cover_squares(images: Tensor, max_patch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Cover one to three squares of each image, each by one grey value drawn from [0, 1].

    Parameters
    ----------
    images : Tensor
        Shape (B, C, H, W), values in [0, 1].
    max_patch : int
        Largest side in pixels; sides are drawn from 1 to this. Squares may reach over the edge.
    generator : torch.Generator

    Returns
    -------
    images : Tensor
        A covered copy.
    covered : Tensor of bool
        Shape (B, 1, H, W).
    """
    batch, _, height, width = images.shape
    drawn = torch.rand(batch, 1 + 4 * MAX_SQUARES, generator=generator, device=generator.device).to(
        images.device
    )
    number = (drawn[:, 0] * MAX_SQUARES).long() + 1
    size, y, x, value = drawn[:, 1:].view(batch, 4, MAX_SQUARES).unbind(1)
    side = (size * max_patch).long() + 1
    top, left = (y * height).long() - side // 2, (x * width).long() - side // 2
    ys = torch.arange(height, device=images.device).view(1, height)
    xs = torch.arange(width, device=images.device).view(1, width)
    result, covered = images, torch.zeros(batch, 1, height, width, dtype=torch.bool, device=images.device)
    for i in range(MAX_SQUARES):
        rows = (ys >= top[:, i, None]) & (ys < (top + side)[:, i, None])
        columns = (xs >= left[:, i, None]) & (xs < (left + side)[:, i, None])
        square = (rows[:, :, None] & columns[:, None, :] & (number > i)[:, None, None])[:, None]
        result = torch.where(square, value[:, i].to(images.dtype).view(-1, 1, 1, 1), result)
        covered |= square
    return result, covered
