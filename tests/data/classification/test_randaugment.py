import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import auto_augment

from swin_transformer_pytorch.data.classification.augmentation import RandAugmentPolicy
from swin_transformer_pytorch.data.classification.randaugment import OPERATIONS, Canvas, RandAugment

FILL = (124, 116, 104)
TIMM_NAMES = {
    "autocontrast": "AutoContrast",
    "equalize": "Equalize",
    "invert": "Invert",
    "rotate": "Rotate",
    "posterize": "PosterizeIncreasing",
    "solarize": "SolarizeIncreasing",
    "solarize_add": "SolarizeAdd",
    "color": "ColorIncreasing",
    "contrast": "ContrastIncreasing",
    "brightness": "BrightnessIncreasing",
    "sharpness": "SharpnessIncreasing",
    "shear_x": "ShearX",
    "shear_y": "ShearY",
    "translate_x": "TranslateXRel",
    "translate_y": "TranslateYRel",
}


@pytest.fixture
def image():
    rows, columns = np.mgrid[:37, :53]
    noise = np.random.default_rng(0).integers(0, 40, (37, 53, 3))
    return Image.fromarray((np.stack([rows * 5, columns * 4, rows + columns], axis=-1) + noise).astype(np.uint8))


def test_the_operations_are_timms_increasing_set():
    assert list(TIMM_NAMES) == list(OPERATIONS)
    assert list(TIMM_NAMES.values()) == auto_augment._RAND_INCREASING_TRANSFORMS


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("magnitude", [0.0, 4.3, 9.0, 9.7])
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_each_operation_is_timms_to_the_bit(name, magnitude, sign, image, monkeypatch):
    monkeypatch.setattr(auto_augment, "_randomly_negate", lambda value: sign * value)
    operation = auto_augment.AugmentOp(
        TIMM_NAMES[name],
        prob=1.0,
        magnitude=magnitude,
        hparams={"interpolation": Image.Resampling.BICUBIC, "img_mean": FILL},
    )
    canvas = Canvas(resample=Image.Resampling.BICUBIC, fill=FILL)
    ours = OPERATIONS[name](image, magnitude / 10, sign, canvas)
    np.testing.assert_array_equal(np.asarray(ours), np.asarray(operation(image)))


@pytest.mark.parametrize("name", OPERATIONS)
def test_each_operation_takes_grey_and_full_strength(name, image):
    canvas = Canvas(resample=Image.Resampling.BICUBIC, fill=(70,))
    result = OPERATIONS[name](image.convert("L"), 1.0, 1.0, canvas)
    assert result.mode == "L"
    assert result.size == image.size


def test_operations_are_applied_with_their_probability(image):
    torch.manual_seed(0)
    policy = RandAugmentPolicy(num_ops=1, probability=0.3)
    augment = RandAugment(policy, fill=FILL, resample=Image.Resampling.BICUBIC)
    changed = sum(augment(image) is not image for _ in range(500))
    assert 110 < changed < 190
