"""Frames of videos, made here: how many, when, which way up, and what is said of files that are not whole."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from swin_transformer_pytorch.data.errors import ImageError
from swin_transformer_pytorch.data.images.decode import read_image
from swin_transformer_pytorch.data.images.video import Video, VideoError, _upright

av = pytest.importorskip("av", reason="needs [video]")

RATE, COUNT = 25, 200


def write_video(path: Path, count: int = COUNT, codec: str = "mpeg4", noise: int = 1) -> Path:
    """Frames that are as bright as their number, and noise."""
    random = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=RATE)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        for index in range(count):
            frame = av.VideoFrame.from_ndarray(index + random.integers(0, noise, (32, 48, 3), np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("video") / "clip.mp4")


def read(video: Video) -> tuple[list[int], str]:
    """The frames' numbers, and the error that ended them."""
    indices: list[int] = []
    error = ""
    try:
        for frame in video:
            indices.append(frame.index)
    except VideoError as raised:
        error = str(raised)
    return indices, error


@pytest.mark.parametrize(("name", "codec"), [("clip.mp4", "mpeg4"), ("clip.webm", "libvpx"), ("clip.avi", "mpeg4")])
def test_each_frame_comes_once_in_order_with_its_time(tmp_path: Path, name: str, codec: str) -> None:
    video = Video(write_video(tmp_path / name, 60, codec))
    for _ in range(2):  # each iteration begins anew
        frames = list(video)
        assert [frame.index for frame in frames] == list(range(60)) and video.num_frames == 60
        np.testing.assert_allclose([frame.seconds for frame in frames], np.arange(60) / RATE, atol=6e-4)
        assert {frame.image.shape for frame in frames} == {(32, 48, 3)}
        means = [frame.image.mean() for frame in frames]
        np.testing.assert_allclose(means, np.arange(60), atol=6)
    assert video.damaged == 0


@pytest.mark.parametrize(("every", "seconds"), [(1, None), (7, None), (1, 2.0), (50, 4.0), (1, 1e9)])
def test_some_frames_alone(clip: Path, every: int, seconds: float | None) -> None:
    end = COUNT if seconds is None else min(round(seconds * RATE), COUNT)
    assert read(Video(clip, every=every, seconds=seconds)) == (list(range(0, end, every)), "")


@pytest.mark.parametrize(("rotation", "turns"), [(0, 0), (90, 1), (-90, 3), (180, 2), (-180, 2), (89.6, 1)])
def test_a_frame_is_turned_as_it_was_held(rotation: float, turns: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
    frame = SimpleNamespace(rotation=rotation, to_ndarray=lambda format: pixels)
    np.testing.assert_array_equal(_upright(frame), np.rot90(pixels, turns))


def test_a_file_that_was_cut_short_gives_its_frames_and_then_an_error(clip: Path, tmp_path: Path) -> None:
    whole = write_video(tmp_path / "whole.webm", codec="libvpx", noise=50).read_bytes()
    (tmp_path / "cut.webm").write_bytes(whole[: len(whole) // 2])
    indices, error = read(Video(tmp_path / "cut.webm"))
    assert 20 < len(indices) < COUNT and indices == list(range(len(indices)))
    assert f"breaks off after {indices[-1] / RATE:.1f} of 8.0 s" in error


@given(data=st.data())
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damage_is_an_error_or_counted_and_nothing_else(clip: Path, tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(clip.read_bytes())
    for _ in range(data.draw(st.integers(1, 30))):
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    (tmp_path / "bad.mp4").write_bytes(content)
    indices, _ = read(Video(tmp_path / "bad.mp4", seconds=20.0))
    assert indices == list(range(len(indices)))


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("none.mp4", None, "does not exist; check the path"),
        ("text.mp4", b"hello" * 100, "cannot be read as a video: Invalid data"),
        ("empty.mp4", b"", "cannot be read as a video"),
        (".", None, "is a folder; give a video file in it"),
    ],
)
def test_what_is_no_video_is_one_error(tmp_path: Path, name: str, content: bytes | None, text: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(VideoError, match=text):
        list(Video(tmp_path / name))


def test_sound_alone_is_one_error(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), layout="mono")
        frame.rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(VideoError, match="has no pictures"):
        list(Video(tmp_path / "a.wav"))


@pytest.mark.parametrize("values", [{"every": 0}, {"seconds": 0.0}, {"seconds": -1.0}])
def test_impossible_values_are_refused_at_once(values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(values))):
        Video("clip.mp4", **values)  # type: ignore[arg-type]


def test_a_camera_that_is_not_there_is_one_error() -> None:
    video = Video("camera:987")
    assert video.is_live and not Video("clip.mp4").is_live
    with pytest.raises(VideoError, match="camera:987 cannot be read as a video"):
        list(video)


def test_who_takes_a_video_for_a_picture_is_told(clip: Path) -> None:
    with pytest.raises(ImageError, match="`swin video` takes videos"):
        read_image(clip)
