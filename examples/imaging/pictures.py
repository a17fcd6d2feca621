"""Reading pictures that strangers send, and writing the ones that go back.

Plain functions of bytes and pictures. What cannot be used is a `Reject`: asking again would not help.
"""

from __future__ import annotations

import io
from enum import Enum

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from forebay import Reject

MAX_PIXELS = 40_000_000
"""The largest picture that is decoded: about 120 MB once unpacked, however small the file is."""

READABLE = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP")
"""What is read. Pillow knows some forty formats more, of which one starts Ghostscript."""


class Format(Enum):
    """The formats a thumbnail can have."""

    PNG = "PNG"
    JPEG = "JPEG"
    WEBP = "WEBP"


def decode(data: bytes, *, field: str = "image", for_size: int | None = None) -> Image.Image:
    """Read and unpack a picture, guarding against what is too large before anything is unpacked.

    Args:
        data: the file.
        field: where in the request it stood, for the caller to find it again.
        for_size: pixels on the longest side that are wanted in the end. A JPEG is then unpacked at a half, a quarter or
            an eighth of its size, whichever still holds twice that, which makes a thumbnail of a large photograph
            several times faster.

    Raises:
        Reject: it is no picture, a damaged one, or one of more than `MAX_PIXELS`.
    """
    try:
        picture = Image.open(io.BytesIO(data), formats=READABLE)
        if picture.width * picture.height > MAX_PIXELS:
            raise _too_large(field, f"it has {picture.width} x {picture.height} pixels")
        if for_size is not None:
            picture.draft(None, (2 * for_size, 2 * for_size))
        picture.load()
    except UnidentifiedImageError:
        raise Reject(f"'{field}' is not a picture: its {len(data)} bytes are none of {', '.join(READABLE)}") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _too_large(field, "this one says that it has far more") from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise Reject(f"'{field}' is damaged: {str(error).strip() or type(error).__name__}") from None
    return picture


def _too_large(field: str, what: str) -> Reject:
    return Reject(f"'{field}' is too large: at most {MAX_PIXELS // 1_000_000} megapixels are read, and {what}")


def upright(picture: Image.Image) -> Image.Image:
    """Turn the picture as its camera says that it was held."""
    return ImageOps.exif_transpose(picture)


def eight_bits(picture: Image.Image) -> Image.Image:
    """Give the picture 8 bits a channel: grey (L, LA) or colour (RGB, RGBA).

    Raises:
        Reject: its numbers have no fixed white, so that there is no right way to do so (modes I and F).
    """
    match picture.mode:
        case "L" | "LA" | "RGB" | "RGBA":
            return picture
        case "1":
            return picture.convert("L")
        case "La":
            return picture.convert("LA")
        case "P" | "PA" | "RGBa" | "RGBX":
            return picture.convert("RGBA" if picture.has_transparency_data else "RGB")
        case "I;16" | "I;16L" | "I;16B" | "I;16N":
            return Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
        case "I" | "F":
            raise Reject(f"a picture of mode {picture.mode} cannot be used: only those of 8 or 16 bits a channel can")
        case _:
            return picture.convert("RGB")


def on_white(picture: Image.Image) -> Image.Image:
    """Put the picture, in RGB, on white paper where it is transparent."""
    picture = eight_bits(picture)
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    paper = Image.new("RGBA", picture.size, "white")
    return Image.alpha_composite(paper, picture.convert("RGBA")).convert("RGB")


def reduce(picture: Image.Image, width: int, max_height: int) -> Image.Image:
    """Reduce the picture to a width, in proportion. It is never enlarged, nor higher than ``max_height``."""
    reduced = eight_bits(picture).copy()
    reduced.thumbnail((width, max_height), Image.Resampling.LANCZOS, reducing_gap=3.0)
    return reduced


def encode(picture: Image.Image, format: Format, quality: int = 85) -> bytes:  # noqa: A002 - the word of the trade
    """Write a picture; ``quality`` (1 to 95) is that of JPEG and WebP."""
    if format is Format.JPEG:
        picture = on_white(picture)
    out = io.BytesIO()
    if format is Format.PNG:
        picture.save(out, "PNG", optimize=False)
    else:
        picture.save(out, format.value, quality=quality)
    return out.getvalue()
