"""What models say of their classes is what changes with the number of classes."""

import pytest
import torch

from swin_transformer_pytorch.models.registry import create_model

SMALL = {"embed_dim": 8, "depths": (1, 1), "num_heads": (1, 2), "window_size": 3}
DETECTOR = {**SMALL, "fpn_dim": 8, "fc_dim": 16}
MODELS = [
    ("swin_tiny_patch4_window7_224", SMALL, "num_classes", "head", {}),
    ("mask_rcnn_swin_tiny_patch4_window7", DETECTOR, "num_classes", "", {}),
    ("cascade_mask_rcnn_swin_tiny_patch4_window7", DETECTOR, "num_classes", "", {}),
    # One box for all classes, whose layer is named all the same: another file may have one for each.
    ("htc_swin_tiny_patch4_window7", DETECTOR, "num_classes", "", {"fc_reg"}),
    ("htc_swin_tiny_patch4_window7", DETECTOR, "num_semantic_classes", "semantic branch", {}),
    ("upernet_swin_tiny_patch4_window7_512x512", {**SMALL, "auxiliary_index": 1}, "num_classes", "", {}),
]


@pytest.mark.parametrize(("name", "sizes", "field", "of", "shared"), MODELS, ids=[f"{m[0]}-{m[2]}" for m in MODELS])
def test_the_named_parameters_change_with_the_classes_and_no_others(name, sizes, field, of, shared) -> None:
    with torch.device("meta"):
        few, many = (create_model(name, **sizes, **{field: number}) for number in (3, 5))
    group = next(group for group in few.class_parameters() if group.of == of)
    before, after = few.state_dict(), many.state_dict()
    assert {key for key in before if before[key].shape != after[key].shape} == {
        key for key in group.names if key.split(".")[-2] not in shared
    }
    assert len(before[group.names[0]]) - group.background == 3
    assert len(after[group.names[0]]) - group.background == 5


def test_a_model_without_a_head_names_none() -> None:
    with torch.device("meta"):
        assert create_model("swin_tiny_patch4_window7_224", num_classes=0, **SMALL).class_parameters() == ()
