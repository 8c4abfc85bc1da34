"""The CPU kernels and decoders change how fast images are prepared, and nothing else."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Subset

from swin_transformer_pytorch.data.classification.augmentation import Augmentation
from swin_transformer_pytorch.data.classification.dataset import EvaluationDataset, TrainingDataset
from swin_transformer_pytorch.data.classification.folder import ImageFolder
from swin_transformer_pytorch.data.classification.randaugment import OPERATIONS, Canvas
from swin_transformer_pytorch.data.classification.transforms import EvaluationTransform, TrainingTransform
from swin_transformer_pytorch.data.errors import ImageError
from swin_transformer_pytorch.data.images import jpeg
from swin_transformer_pytorch.data.images.bands import read_pixels
from swin_transformer_pytorch.data.images.opened import OpenedImage, as_image
from swin_transformer_pytorch.data.transforms import create_transform
from swin_transformer_pytorch.evaluation.batches import stacked
from swin_transformer_pytorch.evaluation.classification import collate_usable
from swin_transformer_pytorch.ops.cpu import resample
from swin_transformer_pytorch.training.engine.sampling import collate_images
from swin_transformer_pytorch.weights.preprocessing import Preprocessing

needs_kernel = pytest.mark.skipif(resample.why_not() is not None, reason="needs the CPU kernels")

PREPROCESSING = {
    "bicubic": Preprocessing.imagenet(32),
    "bilinear, squeezed": Preprocessing(image_size=(24, 40), resize_size=(24, 40), interpolation="bilinear"),
    "nearest": Preprocessing(image_size=32, resize_size=36, interpolation="nearest"),
    "grey": Preprocessing(image_size=32, resize_size=40, mean=(0.4,), std=(0.2,)),
}
AUGMENTATION = {
    "recipe": Augmentation(auto_augment="rand-m9-mstd0.5-n4-p1-inc1"),
    "jitter": Augmentation(auto_augment=None),
    "plain": Augmentation(auto_augment=None, color_jitter=0, erase_prob=0.5),
    "padded": Augmentation(crop="pad"),
    "none": Augmentation.none(),
}


def photo(seed: int, size: tuple[int, int] = (90, 70)) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)


def encoded(image: Image.Image, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=90, **options)
    return file.getvalue()


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Switches kernels and decoders off."""

    def switch() -> None:
        monkeypatch.setattr(resample, "why_not", lambda: "the test has switched it off")
        monkeypatch.setattr(jpeg, "decoder", lambda: None)

    return switch


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(10):
        path = tmp_path / f"class{number % 2}" / f"{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(encoded(photo(number, (60 + 7 * number, 80 - 3 * number))))
    photo(99).save(tmp_path / "class0" / "other.png")
    return tmp_path


@needs_kernel
@pytest.mark.parametrize("name", PREPROCESSING)
class TestBothWays:
    def images(self, channels: int) -> list[Any]:
        shapes = ((90, 70), (33, 31), (7, 200), (300, 40))
        pictures = [photo(seed, size) for seed, size in enumerate(shapes)]
        files = [OpenedImage(encoded(picture), channels) for picture in pictures]
        exif = Image.Exif()
        exif[0x0112] = 6
        turned = OpenedImage(encoded(pictures[0], exif=exif), channels)
        return [*pictures, *files, turned, np.asarray(pictures[0]), torch.rand(3, 50, 60)]

    def test_evaluation(self, name: str, slow: Any) -> None:
        preprocessing = PREPROCESSING[name]
        transform = create_transform(preprocessing)
        found = [transform(image) for image in self.images(preprocessing.channels)]
        slow()
        for image, fast in zip(self.images(preprocessing.channels), found, strict=True):
            if not isinstance(image, torch.Tensor):
                assert torch.equal(transform(image), fast)

    @pytest.mark.parametrize("changes", AUGMENTATION)
    def test_training(self, name: str, changes: str, slow: Any) -> None:
        preprocessing = PREPROCESSING[name]
        transform = create_transform(preprocessing, train=True, augment=AUGMENTATION[changes])

        def all_of_them() -> list[tuple[torch.Tensor, float]]:
            torch.manual_seed(0)
            images = self.images(preprocessing.channels)[:-1]
            # What comes after says whether as much was drawn.
            return [(transform(image), torch.rand(()).item()) for image in images for _ in range(4)]

        found = all_of_them()
        slow()
        for (fast, after), (plain, later) in zip(found, all_of_them(), strict=True):
            assert torch.equal(fast, plain) and after == later


@needs_kernel
@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_give_arrays_what_they_give_pictures(name: str) -> None:
    canvas = Canvas(resample=Image.Resampling.BICUBIC, fill=(124, 116, 104))
    image = photo(3, (45, 37))
    for strength in (0.0, 0.31, 0.9, 1.0):
        for sign in (-1.0, 1.0):
            expected = OPERATIONS[name](image, strength, sign, canvas)
            geometric = name in ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
            found = OPERATIONS[name](np.asarray(image) if geometric else image, strength, sign, canvas)
            np.testing.assert_array_equal(np.asarray(as_image(found)), np.asarray(expected))


def test_rotations_are_pillows() -> None:
    canvas = Canvas(resample=Image.Resampling.BICUBIC, fill=(124, 116, 104))
    image = photo(4, (45, 38))
    for degrees in (0.0, 0.7, -13.0, 29.99, -30.0):
        expected = image.rotate(degrees, Image.Resampling.BICUBIC, fillcolor=canvas.fill)
        for form in (image, np.asarray(image)):
            np.testing.assert_array_equal(np.asarray(as_image(canvas.rotate(form, degrees))), np.asarray(expected))


class TestBatches:
    def test_images_of_a_batch_lie_one_after_the_other_and_are_not_copied(self, folder: Path) -> None:
        base = ImageFolder(folder, "train", val_fraction=0)
        training = TrainingDataset(base, create_transform(PREPROCESSING["bicubic"], train=True))
        items = training.__getitems__([4, 2, 7])
        images, labels = collate_images(items)
        assert images.data_ptr() == items[0][0].data_ptr() and labels.tolist() == [label for _, label in items]
        assert torch.equal(images, torch.stack([training[index][0] for index in (4, 2, 7)]))

    def test_others_are_copied(self) -> None:
        whole = torch.rand(4, 3, 2, 2)
        for images in (
            [whole[0], whole[2]],
            [whole[1], whole[0], whole[2], whole[3]],
            [whole[0].clone() for _ in range(3)],
            list(whole.transpose(2, 3)),
        ):
            found = stacked(images)
            assert torch.equal(found, torch.stack(images)) and found.data_ptr() != whole.data_ptr()
        assert stacked(list(whole)).data_ptr() == whole.data_ptr()

    @pytest.mark.parametrize("training", [True, False])
    def test_workers_make_the_same_batches(self, folder: Path, training: bool) -> None:
        base = ImageFolder(folder, "train", val_fraction=0)
        transform: Any = create_transform(PREPROCESSING["bicubic"], train=training)
        dataset: Any = (TrainingDataset if training else EvaluationDataset)(base, transform)
        collate: Any = collate_images if training else collate_usable
        batches = [
            [
                images
                for images, *_ in DataLoader(Subset(dataset, range(11)), 4, num_workers=workers, collate_fn=collate)
            ]
            for workers in (0, 2)
        ]
        assert [len(batch) for batch in batches[0]] == [4, 4, 3]
        assert all(torch.equal(one, other) for one, other in zip(*batches, strict=True))

    def test_a_file_that_breaks_off_is_found_while_it_is_decoded(self, folder: Path) -> None:
        base = ImageFolder(folder, "train", val_fraction=0)
        path = Path(base.paths[3])
        path.write_bytes(path.read_bytes()[:-200])
        training = TrainingDataset(base, create_transform(PREPROCESSING["bicubic"], train=True))
        images, labels = collate_images(training.__getitems__([2, 3]))
        assert training.samples.unusable == [3] and labels.tolist() == [base.label(2), base.label(4)]
        # The next image is changed as the broken one would have been.
        torch.manual_seed(1)
        assert torch.equal(images[1], training[3][0]) and not torch.equal(images[1], training[4][0])
        evaluated = EvaluationDataset(base, create_transform(PREPROCESSING["bicubic"]))
        batch, _, problems = collate_usable(evaluated.__getitems__([2, 3, 4]))
        assert batch is not None and len(batch) == 2 and path.name in problems[0]


class TestScaled:
    def test_large_files_are_drawn_alike_and_look_alike(self, tmp_path: Path) -> None:
        for number in range(4):
            path = tmp_path / f"class{number % 2}" / f"{number}.jpg"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(encoded(photo(number, (800, 600))))
        plain = Augmentation(auto_augment=None, color_jitter=0, erase_prob=0)
        for train in (True, False):
            batches = []
            for decoding in ("exact", "scaled"):
                base = ImageFolder(tmp_path, "train", val_fraction=0, decoding=decoding)
                transform: Any = create_transform(
                    PREPROCESSING["bicubic"], train=train, augment=plain if train else None
                )
                dataset: Any = (TrainingDataset if train else EvaluationDataset)(base, transform)
                batches.append(torch.stack([dataset[index][0] for index in range(4)]))
            assert not torch.equal(*batches)
            assert (batches[0] - batches[1]).abs().mean() < 0.02

    def test_the_part_keeps_the_folders_decoding(self, folder: Path) -> None:
        base = ImageFolder(folder, "train", val_fraction=0.2, decoding="scaled")
        assert base.part("val").decoding == "scaled"


@pytest.mark.parametrize("wanted", [1, 3, 4])
@pytest.mark.parametrize("opened_for_it", [True, False])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_arrays_are_scaled_as_they_were_read(tmp_path: Path, dtype: str, opened_for_it: bool, wanted: int) -> None:
    """Files of bands, opened for a model's channels or for their own, are what their pixels are by themselves."""
    given = wanted if opened_for_it else None
    top = {"uint8": 255, "uint16": 4095, "float32": 1.0}[dtype]
    bands = 4 if wanted == 4 else 3
    pixels = np.random.default_rng(0).uniform(0, 1, (40, 30, bands)) * top
    np.save(tmp_path / "bands.npy", pixels.astype(dtype))
    white = 4095 if dtype == "uint16" else None
    preprocessing = Preprocessing(
        image_size=(24, 24), resize_size=28, mean=(0.5,) * wanted, std=(0.25,) * wanted, white_level=white
    )

    def outcome(image: Any) -> Any:
        torch.manual_seed(0)
        augmentation = Augmentation(auto_augment=None, color_jitter=0)
        return [EvaluationTransform(preprocessing)(image), TrainingTransform(preprocessing, augmentation)(image)]

    try:
        expected = outcome(read_pixels(tmp_path / "bands.npy", given, white_level=white))
    except ImageError as error:
        with pytest.raises(ImageError, match=re.escape(str(error)[:30])):
            outcome(OpenedImage(tmp_path / "bands.npy", given, white_level=white))
        return
    got = outcome(OpenedImage(tmp_path / "bands.npy", given, white_level=white))
    assert all(torch.equal(one, other) for one, other in zip(got, expected, strict=True))
    assert -2.0 <= got[0].min() < got[0].max() <= 2.0
