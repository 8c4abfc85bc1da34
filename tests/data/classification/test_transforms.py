import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn
from torchvision import transforms
from torchvision.transforms import InterpolationMode

from swin_transformer_pytorch.data.classification.augmentation import Augmentation
from swin_transformer_pytorch.data.classification.transforms import TrainingTransform
from swin_transformer_pytorch.data.images.decode import ImageError
from swin_transformer_pytorch.data.transforms import create_transform
from swin_transformer_pytorch.weights.preprocessing import Preprocessing

GREY = Preprocessing(image_size=28, resize_size=28, mean=(0.286,), std=(0.353,))


def noise(height, width, channels=3, seed=0):
    shape = (height, width) if channels == 1 else (height, width, channels)
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


def torchvisions(preprocessing):
    """The same preprocessing by torchvision's first transforms, as the official code composes them."""
    mode = InterpolationMode(preprocessing.interpolation)
    size = preprocessing.resize_size
    return transforms.Compose(
        [
            transforms.Resize(size, interpolation=mode),
            transforms.CenterCrop(preprocessing.image_size),
            transforms.ToTensor(),
            transforms.Normalize(preprocessing.mean, preprocessing.std),
        ]
    )


@settings(max_examples=40)
@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    interpolation=st.sampled_from(["bicubic", "bilinear", "nearest"]),
    resize=st.sampled_from([64, 73, 80, (64, 64), (64, 48)]),
)
def test_evaluation_is_torchvisions_to_the_bit(height, width, interpolation, resize):
    image_size = resize if isinstance(resize, tuple) else (64, 56)
    preprocessing = Preprocessing(image_size=image_size, resize_size=resize, interpolation=interpolation)
    image = noise(height, width)
    ours = create_transform(preprocessing)(image)
    assert torch.equal(ours, torchvisions(preprocessing)(image))


@pytest.mark.parametrize("size", [(375, 500), (500, 333), (224, 224), (1200, 801), (30, 40)])
def test_imagenet_preprocessing_is_torchvisions_to_the_bit(size):
    for preprocessing in (Preprocessing.imagenet(224), Preprocessing.imagenet(224, resize_size=232)):
        image = noise(*size)
        assert torch.equal(create_transform(preprocessing)(image), torchvisions(preprocessing)(image))


def test_8_bit_pixels_give_the_same_in_every_form():
    transform = create_transform(Preprocessing.imagenet(32))
    image = noise(50, 41)
    array = np.asarray(image)
    expected = transform(image)
    assert torch.equal(transform(array), expected)
    assert torch.equal(transform(array[::-1][::-1]), expected)  # negative strides in between
    assert torch.equal(transform(torch.from_numpy(array.copy()).permute(2, 0, 1)), expected)


def test_a_float_tensor_gives_nearly_the_same():
    rows, columns = np.mgrid[:90, :120]
    image = Image.fromarray(np.stack([rows * 2, columns * 2, rows + columns], axis=-1).astype(np.uint8))
    floats = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1) / 255
    for interpolation in ("bicubic", "bilinear", "nearest"):
        preprocessing = Preprocessing(image_size=32, resize_size=36, interpolation=interpolation, std=(1.0, 1.0, 1.0))
        transform = create_transform(preprocessing)
        # PIL rounds to 8 bits once for each direction.
        tolerance = 2.5 / 255 if interpolation != "nearest" else 9 / 255  # pixel centres are chosen differently
        torch.testing.assert_close(transform(floats), transform(image), atol=tolerance, rtol=0)


def test_a_float_tensor_never_leaves_its_range():
    step = torch.zeros(3, 40, 40)
    step[:, :, 20:] = 1.0
    preprocessing = Preprocessing(image_size=32, resize_size=64, mean=(0.0,) * 3, std=(1.0,) * 3)
    result = create_transform(preprocessing)(step)
    assert result.min() >= 0
    assert result.max() <= 1


def test_grey_models_take_colour_and_the_other_way_round():
    image = noise(28, 28)
    grey_model, colour_model = create_transform(GREY), create_transform(Preprocessing.imagenet(28))
    assert torch.equal(grey_model(image), grey_model(image.convert("L")))
    grey = noise(28, 28, channels=1)
    assert torch.equal(colour_model(grey), colour_model(grey.convert("RGB")))
    array = np.asarray(grey)
    for form in (array, array[..., None], torch.from_numpy(array.copy()), torch.from_numpy(array.copy())[None]):
        assert torch.equal(grey_model(form), grey_model(grey))
    floats = torch.from_numpy(array.copy())[None] / 255
    torch.testing.assert_close(grey_model(floats.expand(3, -1, -1)), grey_model(grey), atol=1e-2, rtol=0)
    assert torch.equal(colour_model(floats)[0], colour_model(floats.expand(3, -1, -1))[0])


def test_transparency_in_tensors_is_laid_over_white():
    transform = create_transform(Preprocessing(image_size=4, resize_size=4, mean=(0.0,) * 3, std=(1.0,) * 3))
    floats = torch.zeros(4, 4, 4)  # black, wholly transparent
    assert torch.equal(transform(floats), torch.ones(3, 4, 4))
    assert torch.equal(transform(floats.to(torch.uint8)), torch.ones(3, 4, 4))
    assert torch.equal(transform(np.zeros((4, 4, 4), dtype=np.uint8)), torch.ones(3, 4, 4))


def test_other_numbers_of_channels_come_as_tensors():
    preprocessing = Preprocessing(image_size=16, resize_size=20, mean=(0.5,) * 5, std=(0.5,) * 5)
    transform = create_transform(preprocessing)
    assert transform(torch.rand(5, 30, 25)).shape == (5, 16, 16)
    eight_bits = torch.randint(256, (5, 30, 25), dtype=torch.uint8)
    torch.testing.assert_close(transform(eight_bits), transform(eight_bits / 255))
    with pytest.raises(ImageError, match="5 channels"):
        transform(noise(30, 25))
    with pytest.raises(ValueError, match="auto_augment"):
        create_transform(preprocessing, train=True)
    train = create_transform(preprocessing, train=True, augment=Augmentation(auto_augment=None, color_jitter=0))
    assert train(torch.rand(5, 30, 25)).shape == (5, 16, 16)


@pytest.mark.parametrize("shape", [(1, 20000), (20000, 1), (1, 1)])
def test_strips_and_single_pixels(shape):
    """A strip's resized image would have more than a thousand million pixels; only the middle of it is made."""
    height, width = shape
    transform = create_transform(Preprocessing(image_size=224, resize_size=256, mean=(0.0,) * 3, std=(1.0,) * 3))
    image = Image.new("RGB", (width, height), (255, 0, 51))
    expected = torch.tensor([1.0, 0.0, 0.2]).view(3, 1, 1).expand(3, 224, 224)
    torch.testing.assert_close(transform(image), expected)
    floats = torch.tensor([1.0, 0.0, 0.2]).view(3, 1, 1).expand(3, height, width)
    torch.testing.assert_close(transform(floats), expected)


def test_the_middle_of_a_strip_is_what_the_whole_would_give(monkeypatch):
    image = noise(9, 300)
    transform = create_transform(Preprocessing.imagenet(48))
    whole = transform(image)
    monkeypatch.setattr("swin_transformer_pytorch.data.classification.transforms._MAX_RESIZED_PIXELS", 1000)
    # The whole's longer side is rounded down to pixels, so that places differ by parts of one.
    assert (transform(image) - whole).abs().mean() < 0.05
    assert not torch.equal(transform(image), torch.zeros_like(whole))


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (torch.rand(3, 8, 8) * 255, "divide 0 to 255 by 255"),
        (torch.full((3, 8, 8), torch.nan), "nan"),
        (torch.randn(3, 8, 8), "before any normalisation"),
        (torch.zeros(3, 8, 8, dtype=torch.int64), "int64"),
        (torch.rand(2, 8, 8), "2 channels"),
        (torch.rand(8), r"not \(8,\)"),
        (torch.rand(2, 3, 8, 8), r"list\(images\)"),
        (torch.rand(3, 0, 8), "not"),
        (np.zeros((8, 8, 3)), "float64"),
        (np.zeros((3, 8, 8), dtype=np.uint8), "channels first"),
        (np.zeros((8, 8, 2), dtype=np.uint8), "2 channels"),
        (np.zeros((8,), dtype=np.uint8), "is none"),
        ("photo.jpg", "cannot be a str"),
    ],
)
def test_what_is_no_image_is_said(image, message):
    with pytest.raises(ImageError, match=message):
        create_transform(Preprocessing.imagenet(8))(image)


def test_a_model_brings_its_preprocessing():
    model = nn.Linear(1, 1)
    with pytest.raises(ValueError, match=r"set model\.preprocessing = Preprocessing\.imagenet"):
        create_transform(model)
    model.preprocessing = None
    with pytest.raises(ValueError, match="Linear does not say"):
        create_transform(model)
    model.preprocessing = GREY
    assert create_transform(model).preprocessing is GREY
    with pytest.raises(ValueError, match="train=True"):
        create_transform(model, augment=Augmentation())


class TestTraining:
    def test_without_random_changes_it_is_evaluation(self):
        image = noise(50, 70)
        train = create_transform(Preprocessing.imagenet(32), train=True, augment=Augmentation.none())
        assert torch.equal(train(image), create_transform(Preprocessing.imagenet(32))(image))

    def test_the_recipes_default_is_random_and_repeatable(self):
        transform = create_transform(Preprocessing.imagenet(32), train=True)
        image = noise(50, 70)
        torch.manual_seed(3)
        first = [transform(image) for _ in range(8)]
        torch.manual_seed(3)
        again = [transform(image) for _ in range(8)]
        assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
        assert not torch.equal(first[0], first[1])
        assert all(one.shape == (3, 32, 32) and one.isfinite().all() for one in first)

    @pytest.mark.parametrize("size", [(70, 100), (300, 60), (1, 20000), (41, 50)])
    def test_an_image_that_pil_would_not_crop_is_shrunk_first(self, monkeypatch, size):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)
        monkeypatch.setattr("swin_transformer_pytorch.data.classification.transforms._MAX_CROPPED_PIXELS", 2000)
        transform = create_transform(Preprocessing.imagenet(32), train=True, augment=Augmentation(erase_prob=0))
        for image in (noise(*size, channels=3), noise(*size, channels=1)):
            assert transform(image).isfinite().all()

    def test_padded_crop_shows_every_place_with_zeros_around(self):
        augment = Augmentation(crop="pad", crop_padding=1, flip_prob=0, auto_augment=None, color_jitter=0, erase_prob=0)
        preprocessing = Preprocessing(image_size=3, resize_size=3, mean=(0.0,), std=(1.0,))
        transform = create_transform(preprocessing, train=True, augment=augment)
        image = np.full((3, 3), 255, dtype=np.uint8)
        torch.manual_seed(0)
        zeros = {(transform(image) == 0).sum().item() for _ in range(60)}
        assert zeros == {0, 3, 5}  # the centre, a side, a corner

    def test_flip_probability(self):
        augment = Augmentation(crop="none", flip_prob=0.25, auto_augment=None, color_jitter=0, erase_prob=0)
        transform = create_transform(GREY, train=True, augment=augment)
        image = noise(28, 28, channels=1)
        plain = create_transform(GREY)(image)
        torch.manual_seed(0)
        flips = 0
        for _ in range(400):
            result = transform(image)
            flipped = torch.equal(result, plain.flip(-1))
            assert flipped or torch.equal(result, plain)
            flips += flipped
        assert 70 < flips < 130

    def test_erasing_is_normal_noise_in_a_rectangle(self):
        augment = Augmentation(crop="none", flip_prob=0, auto_augment=None, color_jitter=0, erase_prob=1.0)
        transform = create_transform(GREY, train=True, augment=augment)
        image = np.zeros((28, 28), dtype=np.uint8)
        background = create_transform(GREY)(image)[0, 0, 0]
        torch.manual_seed(0)
        erased = [transform(image) for _ in range(50)]
        areas = [(one != background).float().mean().item() for one in erased]
        assert min(areas) > 0.01
        assert max(areas) < 0.36
        noise_values = torch.cat([one[one != background] for one in erased])
        assert abs(noise_values.mean()) < 0.05
        assert abs(noise_values.std() - 1) < 0.05

    def test_colour_jitter_only_without_randaugment(self):
        quiet = {"crop": "none", "flip_prob": 0.0, "erase_prob": 0.0, "color_jitter": 0.4}
        image = noise(28, 28)
        torch.manual_seed(0)
        jitter = create_transform(Preprocessing.imagenet(28), True, Augmentation(**quiet, auto_augment=None))
        assert not torch.equal(jitter(image), create_transform(Preprocessing.imagenet(28))(image))
        never = create_transform(Preprocessing.imagenet(28), True, Augmentation(**quiet, auto_augment="rand-p0-inc1"))
        expected = create_transform(Preprocessing(image_size=28, resize_size=32))(image)
        assert torch.equal(never(image), expected)

    def test_float_tensors_and_grey_images_pass_the_whole_recipe(self):
        torch.manual_seed(0)
        transform = TrainingTransform(GREY, Augmentation())
        for _ in range(20):
            assert transform(torch.rand(1, 40, 40)).isfinite().all()
            assert transform(noise(40, 30)).shape == (1, 28, 28)
