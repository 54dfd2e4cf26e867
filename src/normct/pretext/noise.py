"""Coarse noise (Kascenas et al., MIDL 2022): random blobs of the size of lesions rather than of pixels."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def coarse_noise(masks: Tensor, channels: int, grid: int, sigma: float, generator: torch.Generator) -> Tensor:
    """Draw Gaussian noise on a coarse grid and interpolate it to the slices' size.

    Parameters
    ----------
    masks : Tensor of bool
        Brain, shape (B, H, W); H and W divisible by ``grid``.
    channels : int
        Channels, each with noise of its own.
    grid : int
        Cells along a side.
    sigma : float
        Standard deviation in a cell, in units of the stored slices.
    generator : torch.Generator

    Returns
    -------
    Tensor of float32
        Shape (B, channels, H, W); 0 outside the brain. Cells lie at a random offset, the same within a batch.
    """
    batch, height, width = masks.shape
    cell_y, cell_x = height // grid, width // grid
    # one cell more than needed, so that the offset cuts rather than wraps
    shape = (batch, channels, grid + 1, grid + 1)
    cells = torch.randn(shape, generator=generator, device=generator.device).to(masks.device) * sigma
    fine = functional.interpolate(cells, scale_factor=(float(cell_y), float(cell_x)), mode="bilinear")
    # the offset stays on the device: asking for its value would stall a GPU
    offsets = torch.rand(2, generator=generator, device=generator.device).to(masks.device)
    rows = torch.arange(height, device=masks.device) + (offsets[0] * cell_y).long()
    columns = torch.arange(width, device=masks.device) + (offsets[1] * cell_x).long()
    return fine.index_select(2, rows).index_select(3, columns) * masks[:, None]
