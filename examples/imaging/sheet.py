"""Contact sheets: many photographs on one page, for print."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from forebay import Reject
from imaging.pictures import on_white

FRAME_MM = 55.0
MARGIN_MM = 6.0
CAPTION_MM = 6.0
OVERSAMPLING = 3
"""Photographs are rendered at three times the print's resolution, sharpened there and then reduced, so that edges come
out smooth and without halos. It is nine times the work."""

_LINEAR = np.where(
    np.arange(256) <= 0.04045 * 255,
    np.arange(256) / 255 / 12.92,
    ((np.arange(256) / 255 + 0.055) / 1.055) ** 2.4,
).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Layout:
    """Where everything goes on a sheet, in pixels.

    Attributes:
        size: width and height of the sheet.
        frames: left, top, right and bottom of the square that each photograph is centred in.
        caption: height of the strip under a frame.
    """

    size: tuple[int, int]
    frames: tuple[tuple[int, int, int, int], ...]
    caption: int


def layout(count: int, columns: int, dpi: int) -> Layout:
    """Arrange ``count`` photographs in rows of ``columns``, for a print of ``dpi`` dots an inch."""
    frame, margin, caption = (round(mm / 25.4 * dpi) for mm in (FRAME_MM, MARGIN_MM, CAPTION_MM))
    columns = min(columns, count)
    rows = -(-count // columns)
    frames = []
    for index in range(count):
        row, column = divmod(index, columns)
        left = margin + column * (frame + margin)
        top = margin + row * (frame + caption + margin)
        frames.append((left, top, left + frame, top + frame))
    size = (margin + columns * (frame + margin), margin + rows * (frame + caption + margin))
    return Layout(size, tuple(frames), caption)


def placed(size: tuple[int, int], frame: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    """Fit a photograph of this size into a frame, centred: the box that it takes."""
    left, top, right, bottom = frame
    scale = min((right - left) / size[0], (bottom - top) / size[1])
    width, height = max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
    x, y = left + (right - left - width) // 2, top + (bottom - top - height) // 2
    return (x, y, x + width, y + height)


def render(photographs: Iterable[Image.Image], captions: Sequence[str], columns: int, dpi: int) -> Image.Image:
    """Draw the sheet. It takes seconds at print resolution, and the same input always gives the same pixels.

    Args:
        photographs: as many as there are captions. They are asked for one at a time and let go at once, so a generator
            that unpacks them keeps only one in memory.
        captions: a line for each.
        columns: photographs in a row.
        dpi: dots an inch.
    """
    plan = layout(len(captions), columns, dpi)
    sheet = Image.new("RGB", plan.size, "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=max(8, round(plan.caption * 0.55)))
    for photograph, caption, frame in zip(photographs, captions, plan.frames, strict=True):
        left, top, right, bottom = placed(photograph.size, frame)
        sheet.paste(_print_quality(on_white(photograph), (right - left, bottom - top)), (left, top))
        middle = ((frame[0] + frame[2]) // 2, frame[3] + plan.caption // 2)
        draw.text(middle, _fitted(caption, font, frame[2] - frame[0]), fill="black", font=font, anchor="mm")
    return sheet


def _print_quality(photograph: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Resample in linear light, so that fine detail keeps its brightness, and sharpen for print."""
    fine = (size[0] * OVERSAMPLING, size[1] * OVERSAMPLING)
    bands = [
        Image.fromarray(_LINEAR[np.asarray(band)]).resize(fine, Image.Resampling.LANCZOS) for band in photograph.split()
    ]
    enlarged = Image.merge("RGB", [Image.fromarray(_to_srgb(np.asarray(band))) for band in bands])
    return enlarged.filter(ImageFilter.UnsharpMask(radius=2 * OVERSAMPLING, percent=60, threshold=2)).reduce(
        OVERSAMPLING
    )


def _to_srgb(linear: NDArray[np.float32]) -> NDArray[np.uint8]:
    linear = np.clip(linear, 0.0, 1.0)
    curve = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** np.float32(1 / 2.4) - 0.055)
    rounded: NDArray[np.uint8] = np.rint(curve * 255).astype(np.uint8)
    return rounded


def _fitted(caption: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """Cut the caption, with an ellipsis, where it is wider than its frame."""
    if font.getlength(caption) <= width:
        return caption
    while caption and font.getlength(caption + "…") > width:
        caption = caption[:-1]
    return caption + "…"


def encode_within(sheet: Image.Image, dpi: int, limit: int) -> bytes:
    """Write the sheet as the best JPEG that fits into ``limit`` bytes.

    Raises:
        Reject: none does.
    """
    for quality in (90, 82, 74, 66, 58, 50):
        out = io.BytesIO()
        sheet.save(out, "JPEG", quality=quality, dpi=(dpi, dpi), optimize=True)
        if out.tell() <= limit:
            return out.getvalue()
    raise Reject(
        f"a sheet of {sheet.width} x {sheet.height} pixels does not fit into {limit} bytes: ask for a lower 'dpi'"
    )
