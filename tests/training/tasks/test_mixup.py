"""Mixup and CutMix: images and targets are mixed in the same proportion."""

import numpy as np
import torch

from swin_transformer_pytorch.data.classification.augmentation import Augmentation
from swin_transformer_pytorch.training.tasks.classification.mixup import cut_box, mix

# Image i is the constant i, so that a mixed image says what went into it.
IMAGES = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 1, 8, 8)
TARGETS = torch.eye(4)


def mixing(mixup: float, cutmix: float, probability: float = 1.0) -> Augmentation:
    return Augmentation(mixup=mixup, cutmix=cutmix, mixup_prob=probability)


def test_images_and_targets_are_mixed_alike() -> None:
    own, other = torch.arange(4.0), torch.arange(4.0).flip(0)
    for seed in range(20):
        for augmentation in (mixing(0.8, 0), mixing(0, 1.0), mixing(0.8, 1.0)):
            images, targets = mix(IMAGES, TARGETS, augmentation, np.random.default_rng(seed))
            torch.testing.assert_close(targets.sum(dim=1), torch.ones(4))
            kept = targets.diagonal()
            torch.testing.assert_close(images.mean(dim=(1, 2, 3)), own * kept + other * (1 - kept))


def test_cutmix_pastes_and_mixup_blends() -> None:
    pasted, _ = mix(IMAGES, TARGETS, mixing(0, 1.0), np.random.default_rng(3))
    assert set(pasted[0].unique().tolist()) <= {0.0, 3.0}
    blended, _ = mix(IMAGES, TARGETS, mixing(1.0, 0), np.random.default_rng(3))
    assert len(blended[0].unique()) == 1
    assert 0 < blended[0, 0, 0, 0] < 3


def test_the_batch_stays_where_mixing_is_off_or_does_not_happen() -> None:
    for augmentation in (mixing(0, 0), mixing(0.8, 1.0, probability=0.0)):
        images, targets = mix(IMAGES, TARGETS, augmentation, np.random.default_rng(0))
        assert images is IMAGES
        assert targets is TARGETS


def test_the_given_batch_is_unchanged_and_the_generator_decides() -> None:
    before = IMAGES.clone()
    first, _ = mix(IMAGES, TARGETS, mixing(0.8, 1.0), np.random.default_rng(5))
    again, _ = mix(IMAGES, TARGETS, mixing(0.8, 1.0), np.random.default_rng(5))
    assert torch.equal(IMAGES, before)
    assert torch.equal(first, again)


def test_boxes_lie_within_the_image_and_are_no_larger_than_asked() -> None:
    generator = np.random.default_rng(0)
    for _ in range(200):
        keep = generator.random()
        top, bottom, left, right = cut_box(9, 14, keep, generator)
        assert 0 <= top <= bottom <= 9
        assert 0 <= left <= right <= 14
        assert (bottom - top) * (right - left) <= (1 - keep) * 9 * 14 + 1e-9
