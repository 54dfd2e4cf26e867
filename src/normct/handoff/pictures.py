"""Small pictures of one slice: the worklist's thumbnail, the report's three panes."""

from __future__ import annotations

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

COLOURS = {1: (255, 150, 30), -1: (60, 170, 255)}
"""Denser and less dense: Okabe-Ito orange and blue, brightened for a dark ground."""

RING = (255, 235, 90)


def grey(hu: NDArray[np.float32], window: list[float]) -> NDArray[np.uint8]:
    """Return RGB of HU under a window [level, width], shape (height, width, 3)."""
    low, width = window[0] - window[1] / 2, window[1]
    values = np.clip((hu - low) / width * 255, 0, 255).astype(np.uint8)
    return np.repeat(values[..., None], 3, axis=-1)


def overlay(
    hu: NDArray[np.float32], difference: NDArray[np.float32], threshold: float, window: list[float]
) -> NDArray[np.uint8]:
    """Return RGB of a slice with what lies above the threshold in colour, its outline at full strength."""
    picture = grey(hu, window).astype(float)
    for sign, colour in COLOURS.items():
        over = difference * sign > threshold
        inner = over.copy()
        inner[1:-1, 1:-1] &= over[:-2, 1:-1] & over[2:, 1:-1] & over[1:-1, :-2] & over[1:-1, 2:]
        picture = np.where(over[..., None], 0.4 * picture + 0.6 * np.array(colour), picture)
        picture = np.where((over & ~inner)[..., None], np.array(colour), picture)
    return picture.astype(np.uint8)


def _ringed(picture: NDArray[np.uint8], ring: dict[str, float] | None, scale: float) -> Image.Image:
    image = Image.fromarray(picture)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    image = image.resize(size, Image.Resampling.BILINEAR)
    if ring:
        x, y, r = ((ring[k] + (0.5 if k != "r" else 0)) * scale for k in ("x", "y", "r"))
        ImageDraw.Draw(image).ellipse((x - r, y - r, x + r, y + r), outline=RING, width=1)
    return image


def _jpeg(image: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def thumbnail(
    hu: NDArray[np.float32],
    difference: NDArray[np.float32],
    threshold: float,
    *,
    window: list[float],
    ring: dict[str, float] | None = None,
    pixels: int = 120,
) -> str:
    """Return a small JPEG of one slice with its overlay, and a ring round the finding, as a data URI."""
    picture = overlay(hu, difference, threshold, window)
    image = _ringed(picture, ring, min(1.0, pixels / max(picture.shape[:2])))
    return "data:image/jpeg;base64," + base64.b64encode(_jpeg(image, 80)).decode("ascii")


def panes(
    hu: NDArray[np.float32],
    difference: NDArray[np.float32],
    expected: NDArray[np.float32] | None,
    brain: NDArray[np.bool_],
    *,
    threshold: float,
    window: list[float],
    ring: dict[str, float] | None,
) -> bytes:
    """Return a JPEG of original, overlay and, where there is one, healthy reconstruction, side by side."""
    plain = grey(hu, window)
    pictures = [
        Image.fromarray(plain),
        _ringed(overlay(hu, difference, threshold, window), ring, 1.0),
    ]
    if expected is not None:
        healthy = np.where(brain[..., None], grey(expected, window), plain // 3)
        pictures.append(Image.fromarray(healthy.astype(np.uint8)))
    width, height = pictures[0].size
    sheet = Image.new("RGB", (len(pictures) * (width + 4) - 4, height))
    for place, picture in enumerate(pictures):
        sheet.paste(picture, (place * (width + 4), 0))
    return _jpeg(sheet, 82)
