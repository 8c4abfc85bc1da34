"""Validation images on several devices: each image once, and all devices take the same steps."""

from typing import Any

import pytest

from swin_transformer_pytorch.training import load_recipe
from swin_transformer_pytorch.training.tasks.classification.prepare import prepare as prepare_classification
from swin_transformer_pytorch.training.tasks.detection.prepare import prepare as prepare_detection
from swin_transformer_pytorch.training.tasks.panoptic.prepare import prepare as prepare_panoptic
from swin_transformer_pytorch.training.tasks.segmentation.prepare import prepare as prepare_segmentation

SMALL = {"embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "window_size": 4}
SCENES = {"data.num_scenes": 4, "data.num_val_scenes": 5, "data.scale": None, "data.num_workers": 0}
RECIPES: dict[str, tuple[Any, str, dict[str, Any]]] = {
    "classification": (prepare_classification, "demo_classification", {"model.config": SMALL}),
    "detection": (
        prepare_detection,
        "scenes_detection",
        {**SCENES, "data.kind": "scenes_sample", "model.config": {"backbone": SMALL, "fpn_dim": 8, "fc_dim": 8}},
    ),
    "segmentation": (
        prepare_segmentation,
        "scenes_segmentation",
        {
            **SCENES,
            "data.kind": "scenes_sample",
            "model.config": {"backbone": SMALL, "decode_dim": 8, "auxiliary_dim": 8, "auxiliary_index": 0},
        },
    ),
    "panoptic": (
        prepare_panoptic,
        "scenes_panoptic",
        {
            **SCENES,
            "data.kind": "scenes_sample",
            "model.config": {"backbone": SMALL, "dim": 32, "encoder_layers": 1, "decoder_layers": 1},
        },
    ),
}


class First:
    """The first few of a data set."""

    def __init__(self, samples: Any, count: int) -> None:
        self.samples, self.count = samples, count
        self.classes, self.labels = samples.classes, getattr(samples, "labels", None)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Any:
        return self.samples[index]


@pytest.mark.parametrize("task", RECIPES)
@pytest.mark.parametrize(("images", "ranks"), [(2, 3), (5, 2), (5, 64)])
def test_each_rank_has_a_batch_though_there_be_fewer_images(
    task: str, images: int, ranks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare, name, values = RECIPES[task]
    recipe = load_recipe(name, {**values, "data.batch_size": 4, "trainer.device": "cpu", "model.weights": None})
    module, data = prepare(recipe, "cpu")
    module.eval().begin_validation()
    seen = []
    for rank in range(ranks):
        monkeypatch.setattr(data, "rank_and_world_size", lambda rank=rank: (rank, ranks))
        loader = data.evaluated(First(data.validation_samples, images))
        assert len(loader) == 1
        for number, batch in enumerate(loader):
            module.validation_step(batch, number)
        seen += [loader.dataset.indices[place] for places in loader.batch_sampler for place in places]
    assert sorted(seen) == list(range(images))
    assert not module.unusable.problems
