"""Geometry prediction (thesis 5.3.1, after Hendrycks et al. 2019): rotate, then translate; 36 transforms.

A transform is a code of three labels: rotation 0–3 (quarter turns as ``torch.rot90`` counts them,
counter-clockwise with row 0 drawn on top), vertical 0–2 and horizontal 0–2 (content moved by −shift, 0,
+shift pixels along axis y and x). Vacated pixels are background, never wrapped.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

CLASSES = (4, 3, 3)
"""Number of labels of rotation, vertical shift, horizontal shift: how the head's 10 logits are cut."""


def all_36() -> Tensor:
    """Return every transform's code, shape (36, 3)."""
    return torch.cartesian_prod(*(torch.arange(n) for n in CLASSES))


def balanced_dozen() -> Tensor:
    """Return 12 codes, identity among them: each rotation thrice, each shift four times; shape (12, 3)."""
    i = torch.arange(12)
    return torch.stack([i % 4, i % 3, i // 4], dim=1)


def identity() -> Tensor:
    """Return the code that moves nothing, shape (1, 3)."""
    return torch.tensor([[0, 1, 1]])


TRANSFORMS = {"all": all_36, "dozen": balanced_dozen, "identity": identity}


def draw_codes(number: int, generator: torch.Generator, device: torch.device | str = "cpu") -> Tensor:
    """Draw codes uniformly from the 36, shape (number, 3)."""
    drawn = torch.randint(36, (number,), generator=generator, device=generator.device).to(device)
    # as all_36 counts; a table copied to a GPU at every step would stall it
    return torch.stack([drawn // 9, drawn // 3 % 3, drawn % 3], dim=1)


@lru_cache(maxsize=8)
def _sources(size: int, max_shift: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return each transform's source pixel of every output pixel, and whether it has one."""
    grid = torch.arange(size * size).view(size, size)
    index, inside = [], []
    for rotation, vertical, horizontal in all_36().tolist():
        rotated = torch.rot90(grid, rotation, (0, 1))
        moved = torch.full_like(grid, -1)
        dy, dx = (vertical - 1) * max_shift, (horizontal - 1) * max_shift
        moved[max(dy, 0) : size + min(dy, 0), max(dx, 0) : size + min(dx, 0)] = rotated[
            max(-dy, 0) : size + min(-dy, 0), max(-dx, 0) : size + min(-dx, 0)
        ]
        index.append(moved.clamp(min=0).flatten())
        inside.append((moved >= 0).flatten())
    return torch.stack(index).to(device), torch.stack(inside).to(device)


def transform(images: Tensor, codes: Tensor, max_shift: int = 16) -> Tensor:
    """Rotate and translate each image by its code.

    Parameters
    ----------
    images : Tensor
        Shape (B, C, S, S), any type; background is 0.
    codes : Tensor of int64
        Shape (B, 3).
    max_shift : int
        Pixels of a shift; less than S.

    Returns
    -------
    Tensor
        Shape of ``images``. No interpolation: every value is a pixel's own.

    Raises
    ------
    ValueError
        For images that are not square or a shift that empties them.
    """
    size = images.shape[-1]
    if images.shape[-2] != size or not 0 < max_shift < size:
        raise ValueError(
            f"images must be square and the shift within them, not {tuple(images.shape)}, {max_shift}"
        )
    index, inside = _sources(size, max_shift, images.device)
    number = (codes[:, 0] * 3 + codes[:, 1]) * 3 + codes[:, 2]
    flat = images.flatten(2)
    picked = flat.gather(2, index[number][:, None].expand_as(flat))
    return (picked * inside[number][:, None].to(picked.dtype)).view_as(images)


def log_probabilities(logits: Tensor, codes: Tensor) -> Tensor:
    """Return the log-probability of each true label, float32.

    Parameters
    ----------
    logits : Tensor
        Shape (B, 10).
    codes : Tensor of int64
        Shape (B, 3).

    Returns
    -------
    Tensor
        Shape (B, 3): rotation, vertical, horizontal. Minus their sum is the sum of the three cross-entropies.
    """
    parts = logits.float().split(list(CLASSES), dim=1)
    logs = [functional.log_softmax(part, dim=1).gather(1, codes[:, i, None]) for i, part in enumerate(parts)]
    return torch.cat(logs, dim=1)
