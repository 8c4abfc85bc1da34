"""Results of a video's frames are those of its frames; what is made ahead comes in order and ends."""

import gc
import time
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

from swin_transformer_pytorch.data.images.video import Frame, VideoError
from swin_transformer_pytorch.predict import Predictor
from swin_transformer_pytorch.predict.video import ahead, predict_video


class MadeVideo:
    """Frames of noise, of which it is known how many are alive."""

    is_live = False

    def __init__(self, count: int, error: Exception | None = None) -> None:
        self.count, self.error = count, error
        self.alive: weakref.WeakSet[Frame] = weakref.WeakSet()
        self.most = 0

    def __iter__(self) -> Iterator[Frame]:
        for index in range(self.count):
            pixels = np.random.default_rng(index).integers(0, 256, (40, 56, 3), np.uint8)
            frame = Frame(index=index, seconds=index / 10, image=pixels)
            self.alive.add(frame)
            self.most = max(self.most, len(self.alive))
            yield frame
        if self.error is not None:
            raise self.error


@pytest.mark.parametrize("weights", ["fashion", "scenes_detection", "scenes_segmentation", "scenes_panoptic"])
@pytest.mark.parametrize("batch_size", [None, 3])
def test_a_frame_has_the_result_that_it_has_as_an_image(weights: str, batch_size: int | None) -> None:
    predictor = Predictor(weights, device="cpu")
    found = list(predict_video(predictor, MadeVideo(7), batch_size))  # type: ignore[arg-type]
    assert [frame.index for frame, _ in found] == list(range(7))
    for frame, result in found:
        assert type(result) is type(predictor(Image.fromarray(frame.image)))
        assert str(result) == str(predictor(frame.image))


def test_an_error_comes_after_the_results_of_all_frames_before_it() -> None:
    predictor = Predictor("fashion", device="cpu")
    results = predict_video(predictor, MadeVideo(5, VideoError("cut short")), 2)  # type: ignore[arg-type]
    assert [next(results)[0].index for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(VideoError, match="cut short"):
        next(results)


def test_no_more_than_a_few_frames_are_held_however_long_the_video_is() -> None:
    video = MadeVideo(150)
    for _ in predict_video(Predictor("fashion", device="cpu"), video, 4):  # type: ignore[arg-type]
        pass
    gc.collect()
    assert video.most <= 4 * 4


@pytest.mark.parametrize("count", [1, 3, 50])
def test_items_made_ahead_are_the_same(count: int) -> None:
    assert list(ahead(iter(range(20)), count)) == list(range(20))
    assert list(ahead(iter(()), count)) == []

    def broken() -> Iterator[int]:
        yield 1
        raise KeyError("no more")

    items = ahead(broken(), count)
    assert next(items) == 1
    with pytest.raises(KeyError, match="no more"):
        next(items)


def test_no_more_than_so_many_items_are_made_ahead_and_none_once_it_is_closed() -> None:
    made: list[int] = []

    def items() -> Iterator[Any]:
        for index in range(100):
            made.append(index)
            yield index

    waiting = ahead(items(), 3)
    assert next(waiting) == 0
    time.sleep(0.2)
    assert 1 <= len(made) <= 5
    waiting.close()  # type: ignore[attr-defined]
    count = len(made)
    time.sleep(0.1)
    assert len(made) == count
