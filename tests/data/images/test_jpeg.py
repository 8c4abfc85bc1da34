"""JPEGs by another decoder are those of Pillow, and so are the files that it leaves to Pillow."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from swin_transformer_pytorch.data.errors import ImageError
from swin_transformer_pytorch.data.images import jpeg, opened
from swin_transformer_pytorch.data.images.decode import read_image
from swin_transformer_pytorch.data.images.opened import OpenedImage, as_whole

RNG = np.random.default_rng(0)


def picture(size: tuple[int, int] = (61, 47), mode: str = "RGB") -> Image.Image:
    noise = Image.fromarray(RNG.integers(0, 256, (9, 11, 3), dtype=np.uint8))
    return noise.resize(size, Image.Resampling.BICUBIC).convert(mode)


def encoded(image: Image.Image, format: str = "JPEG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def turned(number: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = number
    return encoded(picture(), exif=exif)


def adobe(transform: int) -> bytes:
    data = encoded(picture())
    return data[:2] + b"\xff\xee" + struct.pack(">H5sHHHB", 14, b"Adobe", 100, 0, 0, transform) + data[2:]


FILES = {
    **{f"subsampling {n}, {q}": encoded(picture(), quality=q, subsampling=n) for n in (0, 1, 2) for q in (40, 95)},
    "progressive": encoded(picture(), progressive=True),
    "grey": encoded(picture(mode="L")),
    "cmyk": encoded(picture(mode="CMYK")),
    "restarts": encoded(picture(), restart_marker_rows=1),
    "one pixel": encoded(picture((1, 1))),
    "a strip": encoded(picture((3, 400))),
    "junk behind": encoded(picture()) + b"\x00garbage\xff\xd8\xff",
    "a comment": encoded(picture(), comment=b"a picture"),
    "adobe, usual": adobe(1),
    "adobe, rgb": adobe(0),
    **{f"turned {number}": turned(number) for number in range(10)},
    "png": encoded(picture(), "PNG"),
    "palette": encoded(picture().quantize(16), "PNG"),
    "alpha": encoded(picture(mode="RGBA"), "PNG"),
    "16 bits": encoded(Image.fromarray(RNG.integers(0, 65536, (9, 8), dtype=np.uint16)), "PNG"),
    "bmp": encoded(picture(), "BMP"),
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", FILES)
def test_every_file_has_pillows_pixels(name: str, channels: int, tmp_path: Path) -> None:
    expected = np.asarray(read_image(FILES[name], channels))
    path = tmp_path / "image"
    path.write_bytes(FILES[name])
    for source in (FILES[name], bytearray(FILES[name]), memoryview(FILES[name]), path, str(path)):
        image = OpenedImage(source, channels)
        found = np.asarray(as_whole(image.pixels()))
        assert image.size == expected.shape[:2]
        np.testing.assert_array_equal(found, expected)


def test_usual_files_are_taken_and_others_left() -> None:
    left = {name for name, data in FILES.items() if jpeg.read_header(data) is None}
    assert left == {"cmyk", "adobe, rgb", "png", "palette", "alpha", "16 bits", "bmp"}
    assert jpeg.read_header(FILES["turned 6"]) == jpeg.JpegHeader(size=(47, 61), components=3, orientation=6)
    assert jpeg.read_header(FILES["turned 9"]) == jpeg.JpegHeader(size=(47, 61), components=3, orientation=1)


def test_damaged_files_are_judged_as_pillow_judges_them() -> None:
    whole = encoded(picture((160, 120)), quality=90)
    cases = [whole[:length] for length in (2, 3, 4, 20, 100, 163, 400, len(whole) // 2, len(whole) - 2, len(whole) - 1)]
    for seed in range(120):
        rng = np.random.default_rng(seed)
        data = bytearray(whole)
        for place in rng.integers(163, len(data), 3):
            data[place] = rng.integers(256)
        cases.append(bytes(data))
    verdicts = set()
    for data in cases:
        answers: list[Any] = []
        for read in (read_image, lambda data: as_whole(OpenedImage(data, 3).pixels())):
            try:
                answers.append(np.asarray(read(data)))
            except ImageError as error:
                answers.append(str(error))
        verdicts.add(type(answers[0]))
        np.testing.assert_array_equal(*answers)
    assert len(verdicts) == 2, "some can be read, some cannot"


@pytest.mark.parametrize("make", [jpeg._simplejpeg, jpeg._torchcodec, jpeg._torchvision])
def test_each_library_agrees(make: Any) -> None:
    try:
        decode = make()
    except ImportError as error:
        pytest.skip(str(error))
    assert jpeg._agrees(jpeg.Decoder(name="it", decode=decode))


def test_a_library_with_other_numbers_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    brighter = {
        name: lambda: lambda data, components: np.asarray(Image.open(io.BytesIO(data))) | 1
        for name in ("_simplejpeg", "_torchcodec", "_torchvision")
    }
    for name, make in brighter.items():
        monkeypatch.setattr(jpeg, name, make)
    jpeg.decoder.cache_clear()
    try:
        assert jpeg.decoder() is None
        found = as_whole(OpenedImage(FILES["turned 6"], 3).pixels())
        np.testing.assert_array_equal(np.asarray(found), np.asarray(read_image(FILES["turned 6"])))
    finally:
        jpeg.decoder.cache_clear()


class TestScaled:
    LARGE = encoded(picture((900, 700)), quality=90)

    @pytest.mark.parametrize(("enough", "scale"), [(1.0, 1), (0.26, 1), (0.25, 2), (0.13, 2), (0.12, 4), (0.01, 8)])
    def test_the_smallest_that_is_enough_is_taken(self, enough: float, scale: int) -> None:
        image = OpenedImage(self.LARGE, 3, decoding="scaled")
        assert image.size == (700, 900)
        pixels = image.pixels(enough)
        assert opened.size_of(pixels) == (-(-700 // scale), -(-900 // scale))

    def test_what_is_not_scaled_is_exact(self) -> None:
        exact = np.asarray(read_image(self.LARGE))
        np.testing.assert_array_equal(as_whole(OpenedImage(self.LARGE, 3).pixels(0.1)), exact)
        np.testing.assert_array_equal(as_whole(OpenedImage(self.LARGE, 3, decoding="scaled").pixels(0.3)), exact)

    def test_it_is_turned_and_resembles_the_whole(self) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6
        large = encoded(picture((400, 640)), exif=exif)
        image = OpenedImage(large, 3, decoding="scaled")
        assert image.size == (400, 640)
        small = np.asarray(as_whole(image.pixels(0.125))).astype(int)
        whole = np.asarray(read_image(large).resize((160, 100), Image.Resampling.BOX)).astype(int)
        assert small.shape == whole.shape and np.abs(small - whole).mean() < 2


def test_larger_files_than_allowed_are_refused_unread() -> None:
    with pytest.raises(ImageError, match="more than 100"):
        OpenedImage(FILES["progressive"], 3, max_pixels=100)


def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    for name, content in (("empty.jpg", b""), ("text.jpg", b"hello"), ("cut.jpg", FILES["progressive"][:300])):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ImageError, match=name):
            OpenedImage(tmp_path / name, 3).pixels()
    with pytest.raises(ImageError, match="does not exist"):
        OpenedImage(tmp_path / "none.jpg", 3)
    with pytest.raises(ImageError, match="is a folder"):
        OpenedImage(tmp_path, 3)
