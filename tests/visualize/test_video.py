"""Videos of pictures, read back."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from swin_transformer_pytorch.data.images.video import Video
from swin_transformer_pytorch.visualize.video import VideoWriter

av = pytest.importorskip("av", reason="needs [video]")


def picture(value: int, size: tuple[int, int] = (83, 61)) -> Image.Image:
    """A square of a colour in one of another, by a number."""
    pixels = np.zeros((*size[::-1], 3), np.uint8)
    pixels[:] = (value, 60, 200)
    pixels[10:30, 10:30] = (20, 220, value)
    return Image.fromarray(pixels)


def test_pictures_come_back_at_their_times_in_their_colours(tmp_path: Path) -> None:
    times = [0.0, 0.04, 0.08, 0.5, 0.5, 2.0]  # two at once: the second a tick later
    with VideoWriter(tmp_path / "new" / "a.webm") as writer:
        for index, seconds in enumerate(times):
            writer.add(picture(40 * index), seconds)
    frames = list(Video(tmp_path / "new" / "a.webm"))
    assert [frame.seconds for frame in frames] == [0.0, 0.04, 0.08, 0.5, 0.501, 2.0]
    for index, frame in enumerate(frames):
        assert frame.image.shape == (60, 82, 3)
        np.testing.assert_allclose(frame.image[45, 60], (40 * index, 60, 200), atol=14)
        np.testing.assert_allclose(frame.image[20, 20], (20, 220, 40 * index), atol=14)
    with av.open(str(tmp_path / "new" / "a.webm")) as container:
        assert "vp9" in container.streams.video[0].codec_context.name


def test_a_picture_of_another_size_is_resized_to_that_of_the_first(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "a.webm") as writer:
        for index, size in enumerate([(80, 60), (160, 120), (40, 60)]):
            writer.add(picture(100, size), index / 10)
    assert [frame.image.shape for frame in Video(tmp_path / "a.webm")] == [(60, 80, 3)] * 3


def test_an_error_leaves_the_file_that_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.webm"
    path.write_bytes(b"before")
    with pytest.raises(AttributeError), VideoWriter(path) as writer:  # noqa: PT012
        for one in (picture(1), None):
            writer.add(one, 0.0)  # type: ignore[arg-type]
    assert path.read_bytes() == b"before" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["a.mp4", "a", "a.webm.avi"])
def test_another_ending_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="written as .webm"):
        VideoWriter(tmp_path / name)
