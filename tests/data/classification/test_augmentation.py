import subprocess
import sys

import pytest

from swin_transformer_pytorch.data.classification.augmentation import Augmentation, RandAugmentPolicy


def test_the_official_policy_is_read():
    policy = RandAugmentPolicy.parse("rand-m9-mstd0.5-inc1")
    assert policy == RandAugmentPolicy(num_ops=2, magnitude=9.0, magnitude_std=0.5, probability=0.5)
    assert RandAugmentPolicy.parse("rand-m7-n3-p0.25-inc1").num_ops == 3


@pytest.mark.parametrize(
    "policy",
    ["rand-m9-mstd0.5", "augmix-m3-inc1", "rand-m9-w2-inc1", "rand-m11-inc1", "rand-p1.5-inc1", "", "rand-inc0"],
)
def test_other_policies_are_refused_by_name(policy):
    with pytest.raises(ValueError, match="auto_augment="):
        Augmentation(auto_augment=policy)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("crop", "centre"),
        ("crop_scale", (0.5, 0.2)),
        ("crop_scale", (0.0, 1.0)),
        ("crop_scale", (0.1, 1.5)),
        ("crop_ratio", (1.0,)),
        ("crop_padding", -1),
        ("flip_prob", 1.5),
        ("erase_prob", -0.1),
        ("color_jitter", -1.0),
        ("mixup", -0.5),
    ],
)
def test_impossible_values_name_the_field(field, value):
    with pytest.raises(ValueError, match=f"{field}="):
        Augmentation(**{field: value})


def test_lists_from_yaml_become_pairs():
    assert Augmentation(crop_scale=[0.2, 1.0]).crop_scale == (0.2, 1.0)


def test_none_turns_everything_off():
    none = Augmentation.none()
    assert none.crop == "none"
    assert none.auto_augment is None
    assert not any((none.flip_prob, none.color_jitter, none.erase_prob, none.mixup, none.cutmix))


def test_no_torch_is_imported():
    imports = "import sys, swin_transformer_pytorch.data.classification.augmentation, swin_transformer_pytorch.results"
    code = f"{imports}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
