"""Images of any number of channels, in NPY files and TIFFs, and what of such a file cannot be used."""

import io
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from swin_transformer_pytorch.data.classification.folder import ImageFolder
from swin_transformer_pytorch.data.classification.transforms import EvaluationTransform
from swin_transformer_pytorch.data.errors import DataError, ImageError
from swin_transformer_pytorch.data.images.band_headers import find_bands
from swin_transformer_pytorch.data.images.bands import likely_white_level, read_pixels
from swin_transformer_pytorch.data.images.files import find_inputs
from swin_transformer_pytorch.data.images.pixels import as_picture
from swin_transformer_pytorch.extras import MissingExtraError
from swin_transformer_pytorch.weights.preprocessing import Preprocessing

Array = NDArray[Any]


def noise(*shape: int, dtype: str = "uint8") -> Array:
    values = np.random.default_rng(0).random(shape)
    top = {"f": 1, "u": 2 ** (8 * np.dtype(dtype).itemsize) - 1}[np.dtype(dtype).kind]
    return (values * top).astype(dtype)


def npy(array: Array, version: tuple[int, int] = (1, 0)) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, version)
    return stream.getvalue()


def tiff(bands: Array, *, planar: bool = False, photometric: int = 1, extra: tuple[int, ...] = ()) -> bytes:
    """An uncompressed TIFF of bands (C, H, W), written by hand."""
    count, height, width = bands.shape
    data = (bands if planar else bands.transpose(1, 2, 0)).astype(bands.dtype.newbyteorder("<")).tobytes()
    each = len(data) // count if planar else len(data)
    strips = list(range(8, 8 + len(data), each))
    bits, kind = 8 * bands.dtype.itemsize, {"u": 1, "f": 3}[bands.dtype.kind]
    tags: dict[int, tuple[int, ...]] = {
        256: (width,),
        257: (height,),
        258: (bits,) * count,
        259: (1,),
        262: (photometric,),
        273: tuple(strips),
        277: (count,),
        278: (height,),
        279: (each,) * len(strips),
        284: (2 if planar else 1,),
        339: (kind,) * count,
    } | ({338: extra} if extra else {})
    start = 8 + len(data)
    place, entries, further = start + 2 + 12 * len(tags) + 4, b"", b""
    for tag, values in sorted(tags.items()):
        packed = struct.pack(f"<{len(values)}I", *values)
        value = packed if len(values) == 1 else struct.pack("<I", place + len(further))
        further += packed if len(values) > 1 else b""
        entries += struct.pack("<HHI", tag, 4, len(values)) + value
    return b"II*\0" + struct.pack("<I", start) + data + struct.pack("<H", len(tags)) + entries + bytes(4) + further


def floats(pixels: Image.Image | torch.Tensor) -> Array:
    assert isinstance(pixels, torch.Tensor)
    return (pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels).numpy()


@pytest.mark.parametrize(
    ("dtype", "white"), [("uint8", 255), ("<u2", 65535), (">u2", 65535), ("float32", 1), (">f4", 1), ("float64", 1)]
)
@pytest.mark.parametrize("change", [np.array, np.asfortranarray, lambda array: np.moveaxis(array, 0, -1)])
@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.filterwarnings("ignore:Stored array in format")
def test_arrays_of_every_type_and_order_are_read(
    dtype: str, white: int, change: Callable[[Array], Array], version: tuple[int, int]
) -> None:
    bands = noise(5, 9, 12, dtype=dtype)
    found = read_pixels(npy(change(bands), version), 5)
    np.testing.assert_allclose(floats(found), bands.astype(np.float64) / white, atol=1e-6)


@given(
    channels=st.sampled_from([2, 4, 5, 6]), sides=st.tuples(st.integers(1, 9), st.integers(1, 9)), last=st.booleans()
)
def test_the_channels_are_the_axis_that_is_shorter_than_both_sides(
    channels: int, sides: tuple[int, int], last: bool
) -> None:
    bands = noise(channels, *sides)
    content = npy(np.moveaxis(bands, 0, -1) if last else bands)
    if channels < min(sides):
        np.testing.assert_array_equal(read_pixels(content, channels), bands)
        named = "(height, width, channels)" if last else "(channels, height, width)"
        assert find_bands(content) == (channels, f"in NPY files, {named}")
    else:
        with pytest.raises(ImageError, match="no axis is known .*fewer channels|channels and the model takes"):
            read_pixels(content, channels)


BROKEN: dict[str, tuple[bytes, int, str]] = {
    "four axes": (npy(noise(2, 3, 9, 9)), 3, r"shape \(2, 3, 9, 9\)"),
    "one axis": (npy(noise(9)), 1, "no axis is known"),
    "no pixels": (npy(noise(0, 9)), 1, r"shape \(0, 9\)"),
    "objects": (npy(np.array([[None, {}]] * 2)), 1, "holds object"),
    "signed": (npy(np.zeros((9, 9), np.int16)), 1, r"holds int16.*uint16, or floats in \[0, 1\]"),
    "32 bits": (npy(np.zeros((9, 9), np.uint32)), 1, "holds uint32"),
    "beyond 1": (npy(np.full((9, 9), 1.5)), 1, "floats from 1.5 to 1.5; save them in"),
    "below 0": (npy(np.full((9, 9), -0.5)), 1, "floats from -0.5"),
    "no number": (npy(np.full((9, 9), np.nan)), 1, "floats from nan"),
    "cut short": (npy(noise(5, 9, 9))[:-1], 5, "damaged or cut short"),
    "cut in its header": (npy(noise(5, 9, 9))[:20], 5, "damaged or cut short"),
    "a header that is no dictionary": (npy(noise(5, 9, 9)).replace(b"{", b"["), 5, "damaged"),
    "other channels": (npy(noise(5, 9, 9)), 3, "has 5 channels and the model takes 3"),
    "alpha or infrared": (npy(noise(4, 9, 9)), 3, "has 4 channels and the model takes 3"),
    "too many pixels": (
        npy(noise(5, 90, 90)),
        5,
        "has 90 x 90 pixels of 5 channels, more than 2,000.*--data.max_pixels",
    ),
    "too many channels": (npy(noise(40, 41, 41)), 40, "has 41 x 41 pixels of 40 channels, more than 2,000"),
    "a picture": (b"P5 2 2 255 1234", 5, "is read as grey or RGB, and cannot give 5 channels; .*npy"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_cannot_be_used_is_an_image_error_that_names_the_file_and_the_fix(name: str, tmp_path: Path) -> None:
    content, channels, message = BROKEN[name]
    path = tmp_path / "a.npy"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=message) as caught:
        read_pixels(path, channels, max_pixels=2000)
    assert str(path) in str(caught.value)


def test_grey_and_rgb_arrays_are_what_pictures_of_the_same_pixels_are(tmp_path: Path) -> None:
    pixels = noise(30, 40, 3)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    Image.fromarray(pixels[:, :, 0]).save(tmp_path / "grey.png")
    np.save(tmp_path / "a.npy", pixels)
    np.save(tmp_path / "grey.npy", pixels[:, :, 0])
    for channels in (1, 3):
        size = Preprocessing(image_size=16, resize_size=18, mean=(0.5,) * channels, std=(0.5,) * channels)
        transform = EvaluationTransform(size)
        for name in ("a", "grey"):
            array, picture = (read_pixels(tmp_path / f"{name}.{end}", channels) for end in ("npy", "png"))
            assert torch.equal(transform(array), transform(picture)), (channels, name)


def test_bands_to_look_at_are_the_first_three_or_one() -> None:
    bands = noise(5, 9, 12)
    seen = [np.asarray(as_picture(read_pixels(npy(bands[:count]), count))) for count in (1, 2, 3, 5)]
    assert [picture.shape for picture in seen] == [(9, 12), (9, 12), (9, 12, 3), (9, 12, 3)]
    np.testing.assert_array_equal(seen[-1].transpose(2, 0, 1), bands[:3])
    whole = as_picture(read_pixels(npy(bands / 255), 5))
    np.testing.assert_array_equal(np.asarray(whole), seen[-1])


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (tiff(noise(5, 9, 12)), 5),
        (tiff(noise(5, 9, 12), planar=True), 5),
        (tiff(noise(4, 9, 12), photometric=2, extra=(0,)), 4),  # RGB and infrared
        (tiff(noise(4, 9, 12), photometric=2, extra=(2,)), None),  # RGB and alpha
        (tiff(noise(5, 9, 12), photometric=2, extra=(2, 0)), 4),
        (tiff(noise(2, 9, 12), extra=(0,)), 2),
        (tiff(noise(2, 9, 12), extra=(1,)), None),
        (tiff(noise(3, 9, 12), photometric=2), None),
        (tiff(noise(1, 9, 12)), None),
        (tiff(noise(4, 9, 12), photometric=5), None),  # inks
        (tiff(noise(5, 9, 12))[:200], None),
        (b"II*\0", None),
        (b"no image", None),
    ],
)
def test_which_tiffs_have_bands_is_told_by_their_header(content: bytes, found: int | None) -> None:
    assert find_bands(content) == (found and (found, "in TIFF files"))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("planar", [False, True])
def test_bands_of_tiffs_are_read(dtype: str, planar: bool) -> None:
    pytest.importorskip("tifffile")
    bands = noise(5, 9, 12, dtype=dtype)
    assert floats(read_pixels(tiff(bands, planar=planar), 5)).shape == (5, 9, 12)
    white = {"uint8": 255, "uint16": 65535, "float32": 1}[dtype]
    np.testing.assert_allclose(floats(read_pixels(tiff(bands, planar=planar), None)), bands / white, atol=1e-6)
    with pytest.raises(ImageError, match="has 5 channels and the model takes 4"):
        read_pixels(tiff(bands, planar=planar), 4)
    with pytest.raises(ImageError, match="damaged"):
        read_pixels(tiff(bands, planar=planar)[:60], 5)
    with pytest.raises(ImageError, match="12 x 9 pixels of 5 channels, more than 100"):
        read_pixels(tiff(bands, planar=planar), 5, max_pixels=100)


def test_pages_of_tiffs_are_bands() -> None:
    tifffile = pytest.importorskip("tifffile")
    bands, stream = noise(5, 9, 12), io.BytesIO()
    tifffile.imwrite(stream, bands, photometric="minisblack")
    np.testing.assert_array_equal(read_pixels(stream.getvalue(), 5), bands)
    tifffile.imwrite(again := io.BytesIO(), noise(2, 5, 9, 12), photometric="minisblack")
    with pytest.raises(ImageError, match="has the axes .*save one image"):
        read_pixels(again.getvalue(), 5)


def test_without_tifffile_one_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tifffile", None)
    with pytest.raises(MissingExtraError, match=r"'tifffile': pip install 'swin-transformer-pytorch\[tiff\]'"):
        read_pixels(tiff(noise(5, 9, 12)), 5)
    assert isinstance(read_pixels(tiff(noise(3, 9, 12), photometric=2), 3), Image.Image)


def test_arrays_count_where_there_are_no_pictures(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("b.npy", "a.NPY", ".hidden.npy", "note.txt"):
        (tmp_path / name).touch()
    assert [Path(path).name for path in find_inputs(tmp_path)] == ["a.NPY", "b.npy"]
    assert not caplog.messages
    (tmp_path / "c.png").touch()
    assert [Path(path).name for path in find_inputs(tmp_path)] == ["c.png"]
    assert [message for message in caplog.messages if "2 arrays" in message and "a.NPY" in message]


def test_arrays_of_one_class_beside_pictures_of_another_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / name / "1.png")
        np.save(tmp_path / name / "2.npy", noise(3, 8, 8))
    assert len(ImageFolder(tmp_path)) == 2
    assert [message.partition(", such")[0] for message in caplog.messages] == [f"{tmp_path}: 2 arrays"]
    (tmp_path / "dog" / "1.png").unlink()
    with pytest.raises(DataError, match="dog holds no images"):
        ImageFolder(tmp_path)


@pytest.mark.parametrize("white", [255, 1023, 4095, 16383, 65535])
def test_sixteen_bits_are_scaled_by_their_white_level(white: int) -> None:
    levels = np.linspace(0, white, 30).round().astype(np.uint16).reshape(5, 6)
    found = read_pixels(npy(levels), 1, white_level=white)
    np.testing.assert_allclose(floats(found)[0], levels / white, atol=1e-6)
    if white < 65535:
        with pytest.raises(ImageError, match=f"up to {white:,}, above the white level of {white - 1:,}; .*white_level"):
            read_pixels(npy(levels), 1, white_level=white - 1)
    for eight in (noise(5, 6), noise(5, 6, dtype="float32")):  # know their white themselves
        assert torch.equal(*(as_tensor(read_pixels(npy(eight), 1, white_level=level)) for level in (white, None)))


def as_tensor(pixels: Image.Image | torch.Tensor) -> torch.Tensor:
    assert isinstance(pixels, torch.Tensor)
    return pixels


def sixteen(top: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.array([[0, 1], [top // 2, top]], dtype=np.uint16)).save(stream, "PNG")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("files", "likely"),
    [
        ([sixteen(4095)], 4095),
        ([sixteen(900), sixteen(1023), npy(np.full((9, 9), 1000, np.uint16))], 1023),
        ([sixteen(200)], 255),
        ([sixteen(4096), sixteen(1000)], 16383),
        ([sixteen(16384), sixteen(1000)], None),
        ([sixteen(4095), npy(noise(9, 9))], None),
        ([sixteen(4095), tiff(noise(3, 9, 9), photometric=2)], None),
        ([sixteen(4095), b"damaged"], None),
        ([npy(np.full((5, 9, 9), 4000, np.uint16))], 4095),
        ([], None),
    ],
)
def test_a_white_level_is_likely_where_all_files_leave_the_upper_bits_empty(
    files: list[bytes], likely: int | None
) -> None:
    assert likely_white_level(files) == likely
