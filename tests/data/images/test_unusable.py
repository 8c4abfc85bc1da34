"""The rule for images that cannot be used: named once, left out or replaced, counted, and too many are an error."""

import logging

import pytest

from swin_transformer_pytorch.data.errors import DataError, ImageError, SampleError
from swin_transformer_pytorch.data.images.unusable import ReplacedSamples, Unusable, item_or_problem


class Samples:
    """Ten numbers, some of which cannot be had."""

    def __init__(self, damaged: set[int], kind: type[ImageError] = ImageError) -> None:
        self.damaged = damaged
        self.kind = kind

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> int:
        if index in self.damaged:
            raise self.kind(f"image {index} is cut short")
        return index


@pytest.mark.parametrize("kind", [ImageError, SampleError])
def test_the_next_sample_stands_in_for_one_that_cannot_be_used(
    kind: type[ImageError], caplog: pytest.LogCaptureFixture
) -> None:
    samples = ReplacedSamples(Samples({1, 9}, kind))
    with caplog.at_level(logging.WARNING):
        assert [samples[index] for index in range(10)] == [0, 2, 2, 3, 4, 5, 6, 7, 8, 0]
        assert [samples[index] for index in (9, 1)] == [0, 2]
    assert [caplog.text.count(f"image {index} is cut short") for index in (1, 9)] == [1, 1]
    assert samples.summary() == "2 of 10 training images could not be used"
    samples.check()


def test_more_than_a_fifth_is_an_error_and_so_are_all() -> None:
    samples = ReplacedSamples(Samples({1, 2, 3}))
    assert samples[1] == 4
    with pytest.raises(DataError, match="3 of 10 training images could not be used, more than 20%"):
        samples.check()
    with pytest.raises(DataError, match="none of the 10"):
        ReplacedSamples(Samples(set(range(10))))[0]


def test_a_data_set_that_cannot_be_used_at_all_is_never_taken_for_one_image() -> None:
    def broken() -> int:
        raise DataError("the annotations are gone")

    with pytest.raises(DataError, match="gone"):
        item_or_problem(broken)


def test_what_is_left_out_is_said_once_and_counted() -> None:
    said: list[str] = []
    unusable = Unusable(10, "images", say=said.append)
    assert unusable.summary() == ""
    for _ in range(2):
        assert unusable.usable([1, "a is damaged", 2, "b is damaged"]) == [1, 2]
    assert said == ["a is damaged", "b is damaged"]
    assert unusable.summary() == "2 of 10 images could not be used"
    with pytest.raises(DataError, match="3 of 10 images could not be used"):
        unusable.usable(["c is damaged"])


def test_what_other_processes_have_met_counts_too_and_is_not_said_again(caplog: pytest.LogCaptureFixture) -> None:
    said: list[str] = []
    unusable = Unusable(10, "images", say=said.append)
    unusable.usable(["a is damaged"])
    unusable.add(["a is damaged", "b is damaged"])
    assert unusable.summary() == "2 of 10 images could not be used"
    unusable.usable(["b is damaged"])
    assert said == ["a is damaged"]
    with pytest.raises(DataError, match="3 of 10 images"):
        unusable.add(["c is damaged"])

    samples = ReplacedSamples(Samples({1, 5, 9}))
    samples.add([])
    assert samples.summary() == ""
    assert samples[1] == 2
    assert samples.unusable == [1]
    samples.add([1, 9])
    assert samples.summary() == "2 of 10 training images could not be used"
    assert samples[9] == 0
    assert "image 9" not in caplog.text
    with pytest.raises(DataError, match="3 of 10 training images"):
        samples.add([1, 5, 9])
