"""The app: three operations of very different length, on the three lanes of the queue."""

from __future__ import annotations

from dataclasses import dataclass

from forebay import Forebay, Reject
from imaging import analysis, pictures, sheet
from imaging.analysis import Channel
from imaging.pictures import Format

app = Forebay("imaging")

MAX_SIDE = 2048
MAX_PHOTOGRAPHS = 60
MAX_SHEET_PIXELS = 12_000_000
MAX_SHEET_BYTES = 900_000
"""A reply is one Kafka message, and a cluster's default limit for those is 1 MiB."""


@dataclass
class ThumbnailRequest:
    """A picture to make small.

    Attributes:
        image: the picture's file: JPEG, PNG, WebP, GIF, TIFF or BMP, up to 40 megapixels.
        width: of the thumbnail, in pixels, 1 to 2048. Smaller pictures are not enlarged.
        format: of the thumbnail.
    """

    image: bytes
    width: int = 160
    format: Format = Format.PNG


@dataclass
class Thumbnail:
    """A picture, made small.

    Attributes:
        image: the thumbnail's file.
        format: of that file.
        width: in pixels.
        height: in pixels; the picture's proportions are kept.
    """

    image: bytes
    format: Format
    width: int
    height: int


# A thread, not the event loop: decoding and resampling are CPU work, and a few milliseconds of it would hold up the
# fetch, send and commit of every other job. Not a process either: Pillow lets go of the interpreter lock while it
# works, so threads run side by side, and handing the picture to a process would cost about as much as the thumbnail.
@app.operation(tier="interactive", deadline=2.0)
def thumbnail(request: ThumbnailRequest) -> Thumbnail:
    """Reduce a picture to a given width. Takes milliseconds."""
    _within("width", request.width, 1, MAX_SIDE)
    picture = pictures.upright(pictures.decode(request.image, for_size=request.width))
    small = pictures.reduce(picture, request.width, MAX_SIDE)
    return Thumbnail(pictures.encode(small, request.format), request.format, small.width, small.height)


@dataclass
class DescribeRequest:
    """A picture to measure.

    Attributes:
        image: the picture's file: JPEG, PNG, WebP, GIF, TIFF or BMP, up to 40 megapixels.
        bins: ranges of brightness in each histogram, 1 to 256.
    """

    image: bytes
    bins: int = 16


@dataclass
class Description:
    """A picture, in numbers.

    Attributes:
        format: of the file.
        mode: how Pillow calls the file's pixels, such as RGB, L (grey) or P (palette).
        width: in pixels, as the file has it.
        height: in pixels, as the file has it.
        sharpness: variance of the Laplacian: a blurred copy of a picture has less than the picture.
        channels: a histogram for each.
    """

    format: str
    mode: str
    width: int
    height: int
    sharpness: float
    channels: list[Channel]


# A thread, for the same reasons; it is longer work than a thumbnail, so it waits in a lane of its own.
@app.operation(tier="standard", deadline=10.0)
def describe(request: DescribeRequest) -> Description:
    """Measure a picture: size, sharpness and a histogram of every channel. Takes tens of milliseconds."""
    _within("bins", request.bins, 1, 256)
    picture = pictures.decode(request.image)
    return Description(
        format=picture.format or "",
        mode=picture.mode,
        width=picture.width,
        height=picture.height,
        sharpness=round(analysis.sharpness(picture), 2),
        channels=analysis.channels(picture, request.bins),
    )


@dataclass
class Captioned:
    """A photograph for a contact sheet.

    Attributes:
        image: the photograph's file: JPEG, PNG, WebP, GIF, TIFF or BMP, up to 40 megapixels.
        caption: a line under it.
    """

    image: bytes
    caption: str = ""


@dataclass
class ContactSheetRequest:
    """Photographs to arrange on a sheet.

    Attributes:
        photographs: 1 to 60, in order.
        columns: photographs in a row, 1 to 12.
        dpi: dots an inch of the print, 72 to 600. A frame is 55 mm wide.
    """

    photographs: list[Captioned]
    columns: int = 3
    dpi: int = 300


@dataclass
class ContactSheet:
    """A sheet, ready for print.

    Attributes:
        image: a JPEG that says how many dots an inch it has.
        width: in pixels.
        height: in pixels.
    """

    image: bytes
    width: int
    height: int


# A process: seconds of work, which a thread could not be made to stop at the deadline.
@app.operation(tier="bulk", deadline=60.0, cpu=True)
def contact_sheet(request: ContactSheetRequest) -> ContactSheet:
    """Arrange photographs on a sheet at print quality. Takes seconds."""
    _within("number of photographs", len(request.photographs), 1, MAX_PHOTOGRAPHS)
    _within("columns", request.columns, 1, 12)
    _within("dpi", request.dpi, 72, 600)
    plan = sheet.layout(len(request.photographs), request.columns, request.dpi)
    if plan.size[0] * plan.size[1] > MAX_SHEET_PIXELS:
        raise Reject(
            f"the sheet would have {plan.size[0]} x {plan.size[1]} pixels, more than {MAX_SHEET_PIXELS // 1_000_000} "
            "megapixels: ask for a lower 'dpi' or fewer photographs"
        )
    photographs = (
        pictures.upright(pictures.decode(each.image, field=f"photographs[{index}].image"))
        for index, each in enumerate(request.photographs)
    )
    drawn = sheet.render(photographs, [each.caption for each in request.photographs], request.columns, request.dpi)
    return ContactSheet(sheet.encode_within(drawn, request.dpi, MAX_SHEET_BYTES), drawn.width, drawn.height)


def _within(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise Reject(f"'{name}' must be from {low} to {high}, not {value}")
