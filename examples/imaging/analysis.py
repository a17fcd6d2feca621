"""Measuring pictures: what is in them, as numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from imaging.pictures import eight_bits

CHANNEL_NAMES = {"L": "grey", "R": "red", "G": "green", "B": "blue", "A": "alpha"}


@dataclass
class Channel:
    """How bright one channel of a picture is.

    Attributes:
        name: red, green, blue, grey or alpha.
        mean: the average value, 0 to 255.
        histogram: how many pixels fall into each of N equal ranges of brightness, dark first. They sum to the pixels.
    """

    name: str
    mean: float
    histogram: list[int]


def channels(picture: Image.Image, bins: int) -> list[Channel]:
    """Measure every channel.

    Args:
        picture: any picture of 8 or 16 bits a channel.
        bins: ranges in a histogram, 1 to 256.
    """
    picture = eight_bits(picture)
    values = np.arange(256)
    measured = []
    for band, name in zip(picture.split(), picture.getbands(), strict=True):
        counts = np.asarray(band.histogram())
        folded = np.bincount(values * bins // 256, weights=counts, minlength=bins).astype(int)
        mean = float(counts @ values) / int(counts.sum())
        measured.append(Channel(CHANNEL_NAMES[name], round(mean, 2), folded.tolist()))
    return measured


def sharpness(picture: Image.Image) -> float:
    """Say how sharp a picture is: the variance of its Laplacian, below 100 when soft, 1000 and more when crisp.

    It compares pictures of the same scene and size: a blurred one has few edges, so its Laplacian hardly varies.
    """
    grey = np.asarray(eight_bits(picture).convert("L"), dtype=np.int16)
    if min(grey.shape) < 3:
        return 0.0
    around = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    return float(np.var(around - 4 * grey[1:-1, 1:-1], dtype=np.float64))
