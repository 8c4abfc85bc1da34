"""Masks of objects and of classes, as a Mask2Former learns them."""

import pytest
import torch

from swin_transformer_pytorch.data.mask_batches import collate_classes, collate_objects
from swin_transformer_pytorch.ops.regions.instances import InstanceTargets


def objects(*masks: torch.Tensor) -> InstanceTargets:
    height, width = masks[0].shape if masks else (40, 20)
    return InstanceTargets(
        boxes_xyxy=torch.zeros(len(masks), 4),
        labels=torch.arange(len(masks)) + 5,
        masks=torch.stack(masks) if masks else torch.zeros(0, height, width, dtype=torch.uint8),
    )


def test_each_object_is_a_mask_but_those_without_a_pixel() -> None:
    first, empty, last = torch.zeros(3, 30, 70, dtype=torch.uint8)
    first[2:9, 60:] = 1
    last[29, 69] = 1
    batch = collate_objects([(torch.ones(3, 30, 70), objects(first, empty, last)), (torch.ones(3, 40, 20), objects())])
    assert len(batch) == 2 and batch.images.shape == (2, 3, 64, 96)
    assert (batch.images[1, :, :40, :20] == 1).all() and batch.images[1].sum() == 3 * 40 * 20
    one, none = batch.targets
    assert one.labels.tolist() == [5, 7]
    assert torch.equal(one.masks, torch.stack([first, last]).bool())
    assert none.masks.shape == (0, 40, 20) and none.masks.dtype == torch.bool and len(none) == 0
    assert batch.to("meta").images.device.type == batch.to("meta").targets[0].masks.device.type == "meta"
    assert collate_objects([(torch.ones(3, 30, 70), objects(first))], size_divisor=1).images.shape == (1, 3, 30, 70)


def test_each_class_of_a_label_map_is_a_mask() -> None:
    labels = torch.tensor([[0, 0, 7], [255, 3, 7]], dtype=torch.uint8).repeat(4, 4)
    ignored = torch.full((8, 12), 255, dtype=torch.uint8)
    batch = collate_classes([(torch.ones(3, 8, 12), labels), (torch.ones(3, 8, 12), ignored)])
    one, none = batch.targets
    assert one.labels.tolist() == [0, 3, 7] and one.labels.dtype == torch.int64
    for label, mask in zip(one.labels, one.masks, strict=True):
        assert torch.equal(mask, labels == label)
    assert not one.masks[:, labels == 255].any()
    assert none.masks.shape == (0, 8, 12) and len(none) == 0
    assert batch.images.shape == (2, 3, 32, 32)


def test_a_batch_has_images() -> None:
    for collate in (collate_objects, collate_classes):
        with pytest.raises(ValueError, match="no images"):
            collate([])
