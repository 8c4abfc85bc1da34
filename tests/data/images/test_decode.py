import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from swin_transformer_pytorch.data.images.decode import ImageError, read_image


def png(width, height, depth, colour_type, rows, chunks=b""):
    """A PNG written by hand: PIL does not write 16-bit colours."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
    return b"\x89PNG\r\n\x1a\n" + header + chunks + data + chunk(b"IEND", b"")


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def encoded(image, format, **options):
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


@pytest.fixture
def photo():
    """A smooth RGB image, 40 x 30."""
    rows, columns = np.mgrid[:30, :40]
    return Image.fromarray(np.stack([rows * 8, columns * 6, rows * 4 + columns * 3], axis=-1).astype(np.uint8))


def pixels(source, channels=3):
    return np.asarray(read_image(source, channels))


def test_path_string_and_bytes_give_the_same(photo, tmp_path):
    path = tmp_path / "photo.png"
    photo.save(path)
    for source in (path, str(path), path.read_bytes(), bytearray(path.read_bytes()), memoryview(path.read_bytes())):
        np.testing.assert_array_equal(pixels(source), np.asarray(photo))


def test_content_counts_not_the_name(photo, tmp_path):
    path = tmp_path / "really_a_png.jpg"
    path.write_bytes(encoded(photo, "PNG"))
    np.testing.assert_array_equal(pixels(path), np.asarray(photo))


def test_grey_is_luma_and_grey_becomes_rgb(photo):
    np.testing.assert_array_equal(pixels(photo, 1), np.asarray(photo.convert("L")))
    grey = photo.convert("L")
    np.testing.assert_array_equal(pixels(encoded(grey, "PNG")), np.stack([np.asarray(grey)] * 3, axis=-1))


def test_cmyk_becomes_rgb(photo):
    cmyk = encoded(photo.convert("CMYK"), "JPEG", quality=100)
    assert Image.open(io.BytesIO(cmyk)).mode == "CMYK"
    assert np.abs(pixels(cmyk).astype(int) - np.asarray(photo)).max() < 12


@pytest.mark.parametrize(("colour_type", "planes"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_16_bits_are_scaled_not_clipped(colour_type, planes):
    values = np.array([0, 256, 32768, 65535], dtype=">u2")
    content = np.repeat(values[:, None], planes, axis=1)
    if planes in (2, 4):
        content[:, -1] = 65535
    grey = pixels(png(4, 1, 16, colour_type, [content.tobytes()]), 1)
    np.testing.assert_array_equal(grey, [[0, 1, 128, 255]])


def test_16_bit_grey_with_a_transparent_value():
    transparent = chunk(b"tRNS", struct.pack(">H", 256))
    content = png(3, 1, 16, 0, [struct.pack(">HHH", 0, 256, 65535)], transparent)
    np.testing.assert_array_equal(pixels(content, 1), [[0, 255, 255]])


def test_16_bit_tiff():
    content = encoded(Image.fromarray(np.array([[0, 65535]], dtype=np.uint16)), "TIFF")
    np.testing.assert_array_equal(pixels(content, 1), [[0, 255]])


def test_float_tiff_in_0_to_1_and_beyond():
    tiff = encoded(Image.fromarray(np.array([[0.0, 0.5, 1.0]], dtype=np.float32)), "TIFF")
    np.testing.assert_array_equal(pixels(tiff, 1), [[0, 128, 255]])
    beyond = encoded(Image.fromarray(np.array([[0.0, 7.0]], dtype=np.float32)), "TIFF")
    with pytest.raises(ImageError, match="save it with 8 bits"):
        read_image(beyond)
    wide = encoded(Image.fromarray(np.array([[0, 10**6]], dtype=np.int32)), "TIFF")
    with pytest.raises(ImageError, match="save it with 8 bits"):
        read_image(wide)


def test_palette_with_and_without_transparency():
    image = Image.fromarray(np.array([[0, 1, 2]], dtype=np.uint8)).convert("P")
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    assert pixels(encoded(image, "PNG")).tolist() == [[[255, 0, 0], [0, 255, 0], [0, 0, 255]]]
    assert pixels(encoded(image, "PNG", transparency=1)).tolist() == [[[255, 0, 0], [255, 255, 255], [0, 0, 255]]]


def test_transparency_is_laid_over_white():
    rgba = Image.fromarray(np.array([[[0, 0, 0, 0], [0, 0, 0, 255], [255, 0, 0, 128]]], dtype=np.uint8))
    assert pixels(encoded(rgba, "PNG")).tolist() == [[[255, 255, 255], [0, 0, 0], [255, 127, 127]]]
    grey = rgba.convert("LA")
    assert pixels(encoded(grey, "PNG"), 1)[0, :2].tolist() == [255, 0]


def test_one_bit():
    image = Image.fromarray(np.array([[True, False]]))
    assert image.mode == "1"
    assert pixels(encoded(image, "PNG")).tolist() == [[[255] * 3, [0] * 3]]


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_an_animation_the_first_frame(format):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    options = {"lossless": True} if format == "WEBP" else {}
    content = encoded(frames[0], format, save_all=True, append_images=frames[1:], **options)
    assert Image.open(io.BytesIO(content)).n_frames == 2
    assert pixels(content)[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied(photo, orientation):
    """Each of the eight orientations, stored so that it turns back into the photo."""
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = photo.transpose(undo[orientation]) if orientation in undo else photo
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(stored, "PNG", exif=exif)
    np.testing.assert_array_equal(pixels(content), np.asarray(photo))
    # An image opened by the caller is turned as well.
    np.testing.assert_array_equal(pixels(Image.open(io.BytesIO(content))), np.asarray(photo))


def test_damaged_exif_does_not_matter_and_is_silent(photo):
    content = encoded(photo, "JPEG", exif=b"Exif\x00\x00II*\x00\x08\x00\x00\x00\xff\xff\x12\x01")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_image(content).size == photo.size


@pytest.mark.parametrize("size", [(1, 1), (1, 20000), (20000, 1)])
def test_single_pixels_and_strips(size):
    assert read_image(encoded(Image.new("RGB", size, "red"), "PNG")).size == size


def test_the_callers_image_is_left_alone(photo):
    result = read_image(photo)
    result.putpixel((0, 0), (1, 2, 3))
    assert photo.getpixel((0, 0)) == (0, 0, 0)
    assert result.mode == "RGB"


def broken(photo):
    """Name -> (content, what the message must hold)."""
    jpeg, whole_png = encoded(photo, "JPEG"), encoded(photo, "PNG")
    return {
        "empty.jpg": (b"", "empty"),
        "cut.jpg": (jpeg[: len(jpeg) // 2], "damaged or cut short"),
        "cut.png": (whole_png[: len(whole_png) // 2], "damaged or cut short"),
        "cut_early.png": (whole_png[:20], "damaged"),
        "cut.webp": (encoded(photo, "WEBP")[:60], "damaged"),
        "noise.png": (bytes(range(1, 255)) * 4, "save it as JPEG or PNG"),
        "text.jpg": (b"Dear Sir,\nplease find attached", "holds text"),
        "page.jpg": (b"<!DOCTYPE html><html><body>404</body></html>", "web page"),
        "drawing.png": (b'<?xml version="1.0"?><svg xmlns="x"/>', "SVG"),
        "paper.jpg": (b"%PDF-1.7\n%\xe2\xe3", "PDF"),
        "loop.eps": (
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n{} loop\n",
            "a drawing .EPS.*export it as PNG",
        ),
        "phone.heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 40, "HEIC"),
        "bomb.png": (png(60_000, 60_000, 8, 0, [b"\0"]), "60000 x 60000 pixels, more than 178,956,970, .*max_pixels"),
    }


@pytest.mark.parametrize("name", sorted(broken(Image.new("RGB", (40, 30)))))
def test_a_broken_file_is_one_error_that_names_it(name, photo, tmp_path):
    content, expected = broken(photo)[name]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ImageError, match=expected) as caught:
        read_image(path)
    assert str(path) in str(caught.value)
    if content:
        with pytest.raises(ImageError, match=f"{len(content)} bytes .*{expected}"):
            read_image(content)


# A photo has 1,200 pixels; PIL warns from its limit on, and refuses from twice that on.
@pytest.mark.parametrize(
    ("pils", "max_pixels", "ok"),
    [
        (1200, None, True),
        (600, None, True),
        (599, None, False),
        (None, None, True),
        (599, 1199, False),
        (599, 1200, True),
        (1, 1200, True),
        (None, 1199, False),
        (10_000, 1199, False),
        (10_000, 1200, True),
    ],
)
@pytest.mark.parametrize("format", ["PNG", "JPEG", "BMP", "GIF", "PPM", "TGA"])
def test_an_image_is_read_up_to_a_number_of_pixels(photo, monkeypatch, recwarn, tmp_path, format, pils, max_pixels, ok):
    path = tmp_path / "photo"
    photo.save(path, format)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", pils)
    for source in (path, path.read_bytes()):
        if ok:
            assert read_image(source, max_pixels=max_pixels).size == (40, 30)
        else:
            limit = f"{max_pixels or 2 * pils:,}"
            with pytest.raises(
                ImageError, match=rf"40 x 30 pixels, more than {limit}, .*--data\.max_pixels .*--max-pix"
            ):
                read_image(source, max_pixels=max_pixels)
    assert pils == Image.MAX_IMAGE_PIXELS and not recwarn.list


@pytest.mark.parametrize("format", ["TIFF", "WEBP"])
def test_a_format_that_keeps_pils_limit_says_so(photo, monkeypatch, format):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1)
    with pytest.raises(ImageError, match="too large for PIL in its format .*; save it as PNG or JPEG"):
        read_image(encoded(photo, format), max_pixels=1200)


def test_missing_file_folder_url_and_strange_types(tmp_path):
    with pytest.raises(ImageError, match=r"missing\.jpg does not exist"):
        read_image(tmp_path / "missing.jpg")
    with pytest.raises(ImageError, match="is a folder"):
        read_image(tmp_path)
    with pytest.raises(ImageError, match="download it first"):
        read_image("https://example.org/cat.jpg")
    with pytest.raises(ImageError, match="path is empty"):
        read_image("")
    with pytest.raises(ImageError, match="read from a int"):
        read_image(3)
    with pytest.raises(ImageError, match="RGB, 2 x 2.* cannot give 5 channels"):
        read_image(Image.new("RGB", (2, 2)), 5)


@pytest.mark.parametrize("size", [(1_000_001, 1), (1, 1_000_001), (3, 2_000_000)])
def test_a_side_of_more_than_a_million_pixels_is_refused(size):
    with pytest.raises(ImageError, match="a side of more than 1,000,000 pixels"):
        read_image(encoded(Image.new("1", size), "PNG"))
    with pytest.raises(ImageError, match="a side of more than 1,000,000 pixels"):
        read_image(Image.new("L", size))


@pytest.mark.parametrize("white", [255, 1023, 4095, 16383, 65535])
@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_a_white_level_scales_grey_of_16_bits(white, format):
    levels = np.linspace(0, white, 48).round().astype(np.uint16).reshape(6, 8)
    wide = Image.fromarray(levels)
    for source in (wide, encoded(wide, format)):
        found = np.asarray(read_image(source, 1, white_level=white))
        np.testing.assert_array_equal(found, np.floor(levels * 255.0 / white + 0.5))
        np.testing.assert_array_equal(pixels(source, 1), levels >> 8)  # as without one
        if white < 65535:
            with pytest.raises(ImageError, match=f"values up to {white:,}, above the white level of {white - 1:,}"):
                read_image(source, white_level=white - 1)


def test_a_white_level_leaves_8_bits_alone_and_is_not_to_be_had_for_16_bits_of_colour(photo):
    np.testing.assert_array_equal(np.asarray(read_image(encoded(photo, "PNG"), white_level=1023)), np.asarray(photo))
    deep = png(1, 1, 16, 2, [struct.pack(">3H", 1000, 2000, 4000)])
    assert pixels(deep).ravel().tolist() == [3, 7, 15]
    with pytest.raises(ImageError, match="16 bits of colour, of which PIL reads 8.*save it with 8 bits"):
        read_image(deep, white_level=4095)
