"""The image work of the example app, on real photographs: plain functions and handlers, no Kafka."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageFilter

from forebay import Reject
from imaging import analysis, pictures, sheet
from imaging.operations import (
    Captioned,
    ContactSheetRequest,
    DescribeRequest,
    ThumbnailRequest,
    app,
    contact_sheet,
    describe,
    thumbnail,
)
from imaging.photographs import PHOTOGRAPHS, Photograph
from imaging.pictures import Format

every_photograph = pytest.mark.parametrize("photograph", PHOTOGRAPHS, ids=lambda photograph: photograph.name)
COFFEE = next(photograph for photograph in PHOTOGRAPHS if photograph.name == "coffee")


def opened(data: bytes) -> Image.Image:
    picture = Image.open(io.BytesIO(data))
    picture.load()
    return picture


def saved(picture: Image.Image, format: str = "PNG", **options: object) -> bytes:  # noqa: A002
    out = io.BytesIO()
    picture.save(out, format, **options)
    return out.getvalue()


def png_header(width: int, height: int) -> bytes:
    """The start of a PNG that says it is this large; there is nothing in it."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    header = struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    return b"\x89PNG\r\n\x1a\n" + header + struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))


@every_photograph
def test_a_photograph_ships_with_scikit_image(photograph: Photograph) -> None:
    assert opened(photograph.read()).width >= 400


@every_photograph
def test_a_thumbnail_has_the_width_asked_for_and_the_proportions_of_its_photograph(photograph: Photograph) -> None:
    original = opened(photograph.read())

    made = thumbnail(ThumbnailRequest(photograph.read(), width=160))

    assert opened(made.image).size == (made.width, made.height)
    assert made.width == 160
    assert abs(made.height - 160 * original.height / original.width) <= 1


@pytest.mark.parametrize("format", Format)
def test_a_thumbnail_comes_in_the_format_asked_for(format: Format) -> None:  # noqa: A002
    made = thumbnail(ThumbnailRequest(COFFEE.read(), format=format))

    assert opened(made.image).format == format.value == made.format.value


def test_a_thumbnail_is_never_larger_than_its_picture() -> None:
    assert thumbnail(ThumbnailRequest(COFFEE.read(), width=2048)).width == 600


def test_a_thumbnail_stands_as_the_camera_was_held() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to see it
    lying = saved(opened(COFFEE.read()), "JPEG", exif=exif)

    made = thumbnail(ThumbnailRequest(lying, width=100))

    assert (made.width, made.height) == (100, 150)


@pytest.mark.parametrize("width", [-1, 0, 2049])
def test_a_width_out_of_range_is_rejected(width: int) -> None:
    with pytest.raises(Reject, match=f"'width' must be from 1 to 2048, not {width}"):
        thumbnail(ThumbnailRequest(COFFEE.read(), width=width))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not a picture"),
        (b"GIF, but not really", "not a picture"),
        (COFFEE.read()[:100_000], "damaged"),
        (COFFEE.read()[:20], "damaged"),
        (png_header(8_000, 8_000), "too large: at most 40 megapixels are read, and it has 8000 x 8000 pixels"),
        (png_header(11_000, 11_000), "too large"),
        (png_header(100_000, 100_000), "too large"),
    ],
    ids=["empty", "text", "cut off", "cut off early", "large", "larger", "bomb"],
)
def test_what_cannot_be_used_is_rejected_with_the_reason(data: bytes, reason: str) -> None:
    with pytest.raises(Reject, match=f"'image' is {reason}"):
        pictures.decode(data)


def test_a_picture_in_a_format_that_is_not_read_is_rejected() -> None:
    with pytest.raises(Reject, match="not a picture"):
        pictures.decode(saved(Image.new("RGB", (8, 8)), "PPM"))


@every_photograph
@pytest.mark.parametrize("bins", [1, 7, 16, 256])
def test_each_histogram_counts_every_pixel_once(photograph: Photograph, bins: int) -> None:
    original = opened(photograph.read())

    described = describe(DescribeRequest(photograph.read(), bins))

    assert (described.width, described.height, described.mode) == (*original.size, original.mode)
    assert [len(channel.histogram) for channel in described.channels] == [bins] * len(original.getbands())
    for channel in described.channels:
        assert sum(channel.histogram) == original.width * original.height


def test_a_histogram_puts_each_value_into_its_range() -> None:
    picture = Image.fromarray(np.array([[0, 63, 64, 127], [128, 191, 192, 255]], dtype=np.uint8))

    (channel,) = analysis.channels(picture, bins=4)

    assert channel.name == "grey"
    assert channel.histogram == [2, 2, 2, 2]
    assert channel.mean == 127.5


@every_photograph
def test_a_photograph_is_the_less_sharp_the_more_it_is_blurred(photograph: Photograph) -> None:
    picture = opened(photograph.read())

    measured = [analysis.sharpness(picture.filter(ImageFilter.GaussianBlur(radius))) for radius in (0, 1, 3)]

    assert measured[0] > measured[1] > measured[2] > 0


@pytest.mark.parametrize("size", [(1, 1), (2, 500)])
def test_a_picture_too_small_for_edges_has_no_sharpness(size: tuple[int, int]) -> None:
    assert analysis.sharpness(Image.new("RGB", size)) == 0


@pytest.mark.parametrize("bins", [0, 257])
def test_a_number_of_bins_out_of_range_is_rejected(bins: int) -> None:
    with pytest.raises(Reject, match=f"'bins' must be from 1 to 256, not {bins}"):
        describe(DescribeRequest(COFFEE.read(), bins))


@pytest.mark.parametrize(
    ("picture", "names"),
    [
        (lambda: opened(COFFEE.read()).quantize(64), ["red", "green", "blue"]),
        (lambda: opened(COFFEE.read()).convert("1"), ["grey"]),
        (lambda: opened(COFFEE.read()).convert("LA"), ["grey", "alpha"]),
        (lambda: opened(COFFEE.read()).convert("RGBA"), ["red", "green", "blue", "alpha"]),
        (lambda: opened(COFFEE.read()).convert("CMYK"), ["red", "green", "blue"]),
    ],
    ids=["palette", "black and white", "grey and alpha", "colour and alpha", "ink"],
)
def test_every_kind_of_picture_is_measured_in_eight_bits(picture: Callable[[], Image.Image], names: list[str]) -> None:
    measured = analysis.channels(picture(), bins=8)

    assert [channel.name for channel in measured] == names


def test_sixteen_bits_keep_their_upper_eight() -> None:
    deep = Image.fromarray(np.array([[0, 0x1234], [0x80FF, 0xFFFF]], dtype=np.uint16))

    assert np.asarray(pictures.eight_bits(pictures.decode(saved(deep)))).tolist() == [[0, 0x12], [0x80, 0xFF]]


def test_a_picture_without_a_fixed_white_is_rejected() -> None:
    with pytest.raises(Reject, match="mode F cannot be used"):
        describe(DescribeRequest(saved(Image.new("F", (8, 8)), "TIFF")))


def test_what_is_transparent_shows_white_paper() -> None:
    assert pictures.on_white(Image.new("RGBA", (1, 1), (255, 0, 0, 0))).getpixel((0, 0)) == (255, 255, 255)


def test_a_contact_sheet_has_the_size_of_its_print_and_the_same_pixels_each_time() -> None:
    request = ContactSheetRequest([Captioned(COFFEE.read(), "coffee " * 40)] * 4, columns=3, dpi=72)

    made = contact_sheet(request)

    assert opened(made.image).size == (made.width, made.height) == sheet.layout(4, 3, 72).size
    assert opened(made.image).info["dpi"] == (72, 72)
    assert contact_sheet(request).image == made.image


def test_photographs_fill_the_sheet_row_by_row_without_touching() -> None:
    plan = sheet.layout(5, columns=2, dpi=100)

    assert [(frame[0], frame[1]) for frame in plan.frames] == sorted(
        ((frame[0], frame[1]) for frame in plan.frames), key=lambda corner: (corner[1], corner[0])
    )
    assert len({frame[1] for frame in plan.frames}) == 3
    assert plan.frames[1][0] > plan.frames[0][2]
    assert plan.frames[2][1] >= plan.frames[0][3] + plan.caption
    assert plan.size[0] > plan.frames[1][2]
    assert plan.size[1] >= plan.frames[4][3] + plan.caption


@pytest.mark.parametrize("size", [(600, 400), (400, 600), (1, 5000), (10, 10)])
def test_a_photograph_is_centred_in_its_frame_in_its_proportions(size: tuple[int, int]) -> None:
    left, top, right, bottom = sheet.placed(size, (100, 100, 300, 300))

    assert max(right - left, bottom - top) == 200
    assert abs((left - 100) - (300 - right)) <= 1
    assert abs((top - 100) - (300 - bottom)) <= 1


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (ContactSheetRequest([]), "'number of photographs' must be from 1 to 60, not 0"),
        (ContactSheetRequest([Captioned(b"")] * 61), "not 61"),
        (ContactSheetRequest([Captioned(b"")], columns=0), "'columns' must be from 1 to 12, not 0"),
        (ContactSheetRequest([Captioned(b"")], dpi=1200), "'dpi' must be from 72 to 600, not 1200"),
        (ContactSheetRequest([Captioned(b"")] * 60, dpi=600), "more than 12 megapixels: ask for a lower 'dpi'"),
        (ContactSheetRequest([Captioned(COFFEE.read()), Captioned(b"x")], dpi=72), r"'photographs\[1\].image' is not"),
    ],
    ids=["none", "too many", "no columns", "too fine", "too many pixels", "no picture"],
)
def test_a_sheet_that_cannot_be_made_is_rejected_with_the_reason(request_: ContactSheetRequest, reason: str) -> None:
    with pytest.raises(Reject, match=reason):
        contact_sheet(request_)


def test_a_sheet_is_written_so_that_it_fits_into_one_message() -> None:
    drawn = opened(COFFEE.read())
    best = len(sheet.encode_within(drawn, 72, limit=1_000_000))

    assert len(sheet.encode_within(drawn, 72, limit=best - 1)) < best
    with pytest.raises(Reject, match="600 x 400 pixels does not fit into 100 bytes"):
        sheet.encode_within(drawn, 72, limit=100)


def test_the_three_operations_take_three_lanes() -> None:
    assert {operation.name: operation.tier for operation in app.operations.values()} == {
        "thumbnail": "interactive",
        "describe": "standard",
        "contact_sheet": "bulk",
    }
