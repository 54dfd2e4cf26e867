"""Context restoration (Chen et al. 2019; thesis 5.2.2): two square patches of brain change places.

Boxes are ``(B, swaps, 2, 2)``: for each slice and swap the two patches' upper corners (y, x) in pixels. Where
no pair without overlap was found both corners are the same, and swapping them changes nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor

TRIES = 20


def draw_brain_pixels(masks: Tensor, number: int, generator: torch.Generator) -> Tensor:
    """Draw pixels uniformly from each slice's brain, with replacement.

    Parameters
    ----------
    masks : Tensor of bool
        Shape (B, H, W). A slice without brain yields one pixel again and again.
    number : int
        Pixels a slice.
    generator : torch.Generator
        May live on another device than the masks.

    Returns
    -------
    Tensor of int64
        Shape (B, number, 2): y, x.
    """
    height, width = masks.shape[-2:]
    # first the row, then the pixel in it: running counts of rows drawn are far fewer than of all pixels
    counts = masks.sum(2, dtype=torch.int32).cumsum(1, dtype=torch.int32)
    share = torch.rand(len(masks), number, generator=generator, device=generator.device).to(masks.device)
    # the k-th brain pixel is the first whose running count reaches k; rounding must not reach count + 1
    wanted = torch.minimum((share * counts[:, -1:]).to(torch.int32) + 1, counts[:, -1:])
    y = torch.searchsorted(counts, wanted).clamp(max=height - 1)
    before = torch.where(y > 0, counts.gather(1, (y - 1).clamp(min=0)), 0)
    row = masks[torch.arange(len(masks), device=masks.device)[:, None], y]
    x = (row.cumsum(2, dtype=torch.int16) < (wanted - before)[..., None]).sum(2).clamp(max=width - 1)
    return torch.stack([y, x], dim=-1)


def draw_boxes(masks: Tensor, patch: int, generator: torch.Generator, swaps: int = 1) -> Tensor:
    """Draw the patches to swap: centres from brain pixels, clamped inside, no two of a slice overlapping.

    Parameters
    ----------
    masks : Tensor of bool
        Brain, shape (B, H, W).
    patch : int
        Side of a patch in pixels.
    generator : torch.Generator
    swaps : int
        Pairs a slice.

    Returns
    -------
    Tensor of int64
        Shape (B, swaps, 2, 2), see the module's docstring. A patch is redrawn up to 20 times.
    """
    batch, height, width = masks.shape
    centres = draw_brain_pixels(masks, 2 * swaps * TRIES, generator)
    # a tensor of limits copied to a GPU at every step would stall it
    y, x = (
        (c - patch // 2).clamp(0, n - patch) for c, n in zip(centres.unbind(-1), (height, width), strict=True)
    )
    corners = torch.stack([y, x], dim=-1).view(batch, 2 * swaps, TRIES, 2)
    placed = torch.empty(batch, 2 * swaps, 2, dtype=torch.int64, device=masks.device)
    fits = torch.ones(batch, 2 * swaps, dtype=torch.bool, device=masks.device)
    rows = torch.arange(batch, device=masks.device)
    for i in range(2 * swaps):
        apart = (corners[:, i, :, None] - placed[:, None, :i]).abs().amax(-1) >= patch  # (B, tries, i)
        free = apart.all(-1)
        first = free.to(torch.int8).argmax(1)
        placed[:, i] = corners[rows, i, first]
        fits[:, i] = free.any(1)
    boxes = placed.view(batch, swaps, 2, 2)
    # a slice without brain draws one pixel again and again: its patches overlap, and it goes unswapped
    good = fits.view(batch, swaps, 2).all(-1)
    second = torch.where(good[..., None], boxes[:, :, 1], boxes[:, :, 0])
    return torch.stack([boxes[:, :, 0], second], dim=2)


def swap_patches(images: Tensor, boxes: Tensor, patch: int) -> Tensor:
    """Return a copy of ``images`` (B, C, H, W) with each pair of patches exchanged, pair after pair."""
    result = images.clone(memory_format=torch.contiguous_format)
    for i in range(boxes.shape[1]):
        _exchange(result, boxes[:, i], patch)
    return result


def restore_patches(images: Tensor, boxes: Tensor, patch: int) -> Tensor:
    """Undo :func:`swap_patches`: the same pairs, last first."""
    result = images.clone(memory_format=torch.contiguous_format)
    for i in reversed(range(boxes.shape[1])):
        _exchange(result, boxes[:, i], patch)
    return result


def _exchange(images: Tensor, pair: Tensor, patch: int) -> None:
    """Exchange two patches of contiguous images in place."""
    width, step = images.shape[-1], torch.arange(patch, device=images.device)
    inside = (step[:, None] * width + step).flatten()
    corners = pair[..., 0] * width + pair[..., 1]
    flat = images.view(*images.shape[:2], -1)
    first, second = (
        (corners[:, i, None] + inside)[:, None].expand(-1, images.shape[1], -1) for i in range(2)
    )
    values = flat.gather(2, first), flat.gather(2, second)
    flat.scatter_(2, first, values[1]).scatter_(2, second, values[0])


def _pixels(boxes: Tensor, patch: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return row, y and x indices of every pixel of boxes (B, n, 2), y and x broadcasting to (B, n, p, p)."""
    step = torch.arange(patch, device=boxes.device)
    rows = torch.arange(len(boxes), device=boxes.device).view(-1, 1, 1)
    return rows, boxes[..., 0, None, None] + step[:, None], boxes[..., 1, None, None] + step


def swapped_pixels(boxes: Tensor, patch: int, shape: tuple[int, int]) -> Tensor:
    """Return where pixels were exchanged.

    Returns
    -------
    Tensor of bool
        Shape (B, 1, H, W); nothing in a slice that went unswapped.
    """
    batch, swaps = boxes.shape[:2]
    moved = (boxes[:, :, 0] != boxes[:, :, 1]).any(-1)
    counts = torch.zeros(batch, *shape, dtype=torch.int32, device=boxes.device)
    for i in range(swaps):
        for j in range(2):
            rows, ys, xs = _pixels(boxes[:, i, j][:, None], patch)
            # a pair is disjoint from every other, so adding marks a pixel at most once
            counts[rows, ys[:, 0], xs[:, 0]] += moved[:, i].to(torch.int32).view(-1, 1, 1)
    return counts.bool()[:, None]
