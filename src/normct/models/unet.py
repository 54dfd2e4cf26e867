"""A small U-Net for denoising (Kascenas et al., MIDL 2022): its skips are safe as its input is corrupted."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

LEVELS = 4


def _double(inside: int, outside: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (inside, outside):
        layers += [
            nn.Conv2d(channels, outside, 3, padding=1, bias=False),
            nn.BatchNorm2d(outside),
            nn.SiLU(inplace=True),
        ]
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """Four levels of two 3×3 convolutions, halved by averaging, doubled by interpolation, skips concatenated.

    Parameters
    ----------
    width : int
        Channels at full resolution; they double a level. 16 gives 0.5 million parameters.
    in_channels : int
        Channels of the image: 1 for CT.
    """

    def __init__(self, width: int = 16, in_channels: int = 1) -> None:
        super().__init__()
        self.head = None
        widths = [width * 2**i for i in range(LEVELS)]
        self.down = nn.ModuleList(_double(a, b) for a, b in zip([in_channels, *widths], widths, strict=False))
        self.up = nn.ModuleList(_double(a + b, a) for a, b in pairwise(widths))
        self.out = nn.Conv2d(width, in_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the cleaned images, shape of ``x`` (B, in_channels, H, W); H and W divisible by 8."""
        skips: list[Tensor] = []
        for level, block in enumerate(self.down):
            x = block(x if level == 0 else functional.avg_pool2d(x, 2))
            skips.append(x)
        skips.pop()
        for block in reversed(self.up):
            wider = functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
            x = block(torch.cat([skips.pop(), wider], dim=1))
        return self.out(x)

    def reconstruct(self, x: Tensor) -> Tensor:
        """Return what the network makes of uncorrupted images: an anomaly is cleaned away like noise."""
        return self(x)
