"""The thesis's convolutional variational autoencoder, with an optional head on the encoder output.

Venkatakrishnan 2020, section 5.2.3 (arXiv 2011.05428); the layers are those of Zimmerer et al. (MICCAI 2019).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

SLOPE = 0.1
SIZE = 128
HEAD_CLASSES = (4, 3, 3)
"""Classes of the head: rotation, vertical shift, horizontal shift."""


def _block(layer: nn.Module, channels: int) -> nn.Sequential:
    return nn.Sequential(layer, nn.BatchNorm2d(channels), nn.LeakyReLU(SLOPE, inplace=True))


class DeepConv2d(nn.Conv2d):
    """A convolution of few pixels and many channels; on a CPU, in float32, one matrix product over its patches.

    oneDNN's backward pass of such a layer (256×4×4 → 512×2×2) runs at a fifth of a matrix product's speed. The sums
    are the same, in another order. Weights, their names and everything on a GPU or in bf16 are ``nn.Conv2d``'s.
    """

    def first(self, x: Tensor, number: int) -> Tensor:
        """Return the first ``number`` output channels alone, shape (B, number, H', W'); the rest costs nothing."""
        weight, bias = self.weight[:number], None if self.bias is None else self.bias[:number]
        if x.device.type != "cpu" or torch.is_autocast_enabled("cpu") or x.dtype != torch.float32:
            return functional.conv2d(x, weight, bias, self.stride, self.padding)
        side, step, edge = self.kernel_size[0], self.stride[0], int(self.padding[0])
        padded = functional.pad(x.permute(0, 2, 3, 1), (0, 0, edge, edge, edge, edge))
        rows, columns = ((n - side) // step + 1 for n in padded.shape[1:3])
        patches = [
            padded[:, i * step : i * step + side, j * step : j * step + side].flatten(1)
            for i in range(rows)
            for j in range(columns)
        ]
        kernel = weight.permute(0, 2, 3, 1).flatten(1)
        product = functional.linear(torch.stack(patches, dim=1), kernel, bias)
        return product.view(len(x), rows, columns, number).permute(0, 3, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (B, C, H, W)."""
        return self.first(x, self.out_channels)


class Autoencoder(nn.Module):
    """Six strided convolutions down to a 2×2 latent of mean and log-variance, mirrored up again.

    The same network serves every method: context restoration decodes the mean, the VAEs sample, and the
    multi-task method has a head of 10 logits on the encoder output before reparametrisation.

    Parameters
    ----------
    width : int
        Channels of the first convolution; they double four times more. The thesis: 16.
    latent : int
        Channels of the latent mean (and of the log-variance). The thesis: 256.
    in_channels : int
        Channels of the image: 1 for CT.
    head : bool
        Whether there is the geometry head.
    """

    def __init__(self, width: int = 16, latent: int = 256, in_channels: int = 1, head: bool = False) -> None:
        super().__init__()
        self.latent_channels = latent
        widths = [width * 2**i for i in range(5)]
        down, channels = [], in_channels
        for w in widths:
            # no bias before batch normalisation: its mean subtraction would cancel it
            down.append(_block(nn.Conv2d(channels, w, 4, 2, 1, bias=False), w))
            channels = w
        self.encoder = nn.Sequential(*down)
        self.to_latent = DeepConv2d(channels, 2 * latent, 4, 2, 1)
        up, channels = [], latent
        for w in reversed(widths):
            up.append(_block(nn.ConvTranspose2d(channels, w, 4, 2, 1, bias=False), w))
            channels = w
        self.decoder = nn.Sequential(*up, nn.ConvTranspose2d(channels, in_channels, 4, 2, 1))
        side = SIZE // 64
        self.head = nn.Linear(2 * latent * side * side, sum(HEAD_CLASSES)) if head else None

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return latent mean and log-variance.

        Parameters
        ----------
        x : Tensor
            Shape (B, in_channels, 128, 128).

        Returns
        -------
        mean, logvar : Tensor
            Each of shape (B, latent, 2, 2).
        """
        mean, logvar = self.to_latent(self.encoder(x)).chunk(2, dim=1)
        return mean, logvar

    def decode(self, z: Tensor) -> Tensor:
        """Decode a latent (B, latent, 2, 2) into an image (B, in_channels, 128, 128), without bounds."""
        return self.decoder(z)

    def logits(self, mean: Tensor, logvar: Tensor) -> Tensor:
        """Return the head's logits (B, 10) from the encoder output before reparametrisation.

        Raises
        ------
        ValueError
            Where the network has no head.
        """
        if self.head is None:
            raise ValueError("this network has no geometry head")
        return self.head(torch.cat([mean, logvar], dim=1).flatten(1))

    def forward(self, x: Tensor) -> Tensor:
        """Decode the latent mean: nothing is sampled."""
        return self.decode(self.latent(x))

    def reconstruct(self, x: Tensor) -> Tensor:
        """Return the decoded latent mean, shape of ``x``."""
        return self(x)

    def latent(self, x: Tensor) -> Tensor:
        """Return the latent mean alone, shape (B, latent, 2, 2): the log-variance is not computed."""
        return self.to_latent.first(self.encoder(x), self.latent_channels)

    def head_logits(self, x: Tensor) -> Tensor:
        """Return the head's logits of images, shape (B, 10): rotation 4, vertical 3, horizontal 3."""
        return self.logits(*self.encode(x))

    @torch.no_grad()
    def set_log_variance(self, value: float) -> None:
        """Make the log-variance half of the encoder output ``value`` for every image.

        Context restoration leaves that half untrained; its noise would wipe out the pretraining.
        """
        self.to_latent.weight[self.latent_channels :] = 0.0
        assert self.to_latent.bias is not None
        self.to_latent.bias[self.latent_channels :] = value
