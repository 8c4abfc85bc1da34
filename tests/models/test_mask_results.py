"""A Mask2Former's answers with names, for users."""

import numpy as np
import torch

from swin_transformer_pytorch.models.mask_results import masks_to_detections, segments_to_panoptic
from swin_transformer_pytorch.models.panoptic_inference import MaskedInstances, instances, panoptic
from swin_transformer_pytorch.models.query_masks import QueryMasks
from swin_transformer_pytorch.rle import decode_mask

NAMES = ("sky", "dog", "grass")
COLOURS = ((0, 0, 255), (255, 0, 0), (0, 255, 0))


def stripes(*labels: int) -> QueryMasks:
    """A query a stripe of a few columns, of that class."""
    masks = torch.full((len(labels), 4, 4 * len(labels)), -9.0)
    classes = torch.full((len(labels), len(NAMES) + 1), -40.0)
    for query, label in enumerate(labels):
        masks[query, :, 4 * query : 4 * query + 4] = 9.0
        classes[query, label] = 0.0
    size = (16, 16 * len(labels))
    return QueryMasks(class_logits=classes, mask_logits=masks, padded_size=size, input_size=size, output_size=size)


def test_segments_have_names_and_colours() -> None:
    found = panoptic(stripes(0, 1, 0, 1), things=(1,))
    result = segments_to_panoptic(found, NAMES, COLOURS)
    assert result.counts() == {"dog": 2, "sky": 1} and result.palette == COLOURS
    assert [segment.is_thing for segment in result.segments] == [False, True, True]
    assert np.array_equal(result.segment_ids, found.segment_ids.numpy())
    assert result.mask("sky").sum() == found.areas[0]


def test_of_segments_that_share_an_id_the_first_says_what_it_is() -> None:
    image = stripes(0, 1, 0, 2)
    found = panoptic(image, things=(1, 2), policy="transformers")
    assert found.ids.tolist() == [1, 2, 1, 2]
    result = segments_to_panoptic(found, NAMES)
    assert [(segment.id, segment.label) for segment in result.segments] == [(1, 0), (2, 1)]


def test_an_image_without_segments() -> None:
    result = segments_to_panoptic(panoptic(stripes(3, 3), things=(1,)), NAMES)
    assert len(result) == 0 and not result.segment_ids.any() and result.image_size == (16, 32)


def test_objects_have_names_and_masks() -> None:
    found = instances(stripes(1, 2), max_detections=2)
    result = masks_to_detections(found, NAMES)
    assert sorted(result.names) == ["dog", "grass"]
    for index, mask in enumerate(found.masks.numpy()):
        assert np.array_equal(decode_mask(result.mask_rles[index], result.image_size), mask)
    assert masks_to_detections(found, None).names[0].startswith("class ")


def test_an_object_without_a_pixel_is_left_out() -> None:
    masks = torch.zeros(2, 3, 4, dtype=torch.bool)
    masks[1, 1, 2:] = True
    boxes = torch.tensor([[0.0, 0, 0, 0], [2, 1, 4, 2]])
    found = MaskedInstances(
        boxes_xyxy=boxes,
        scores=torch.tensor([0.9, 0.5]),
        labels=torch.tensor([0, 1]),
        masks=masks,
        queries=torch.tensor([0, 1]),
    )
    result = masks_to_detections(found, NAMES)
    assert result.names == ("dog",) and result.boxes_xyxy.tolist() == [[2, 1, 4, 2]]
