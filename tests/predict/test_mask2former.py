"""A Mask2Former in `Predictor` and `swin predict`: one answer of each kind, at the image's size."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from swin_transformer_pytorch.cli import main
from swin_transformer_pytorch.data.transforms import create_transform
from swin_transformer_pytorch.models.build import build
from swin_transformer_pytorch.models.description import ModelDescription
from swin_transformer_pytorch.models.mask2former import Mask2Former
from swin_transformer_pytorch.models.mask2former_config import Answers, Mask2FormerConfig
from swin_transformer_pytorch.models.panoptic_inference import instances, panoptic, semantic
from swin_transformer_pytorch.models.query_masks import query_masks
from swin_transformer_pytorch.models.saving import save_model
from swin_transformer_pytorch.models.segmentation_inference import RATIOS
from swin_transformer_pytorch.ops.padding import pad_batch
from swin_transformer_pytorch.predict import Predictor
from swin_transformer_pytorch.predict.every_answer import EveryAnswerPredictor
from swin_transformer_pytorch.results import Detections, PanopticSegmentation, SegmentationMap
from swin_transformer_pytorch.weights.preprocessing import DensePreprocessing

NAMES = ("cat", "road", "sky")
CONFIG = Mask2FormerConfig(
    num_classes=3, num_queries=6, dim=64, attention_heads=4, encoder_dim=16, encoder_layers=1, feedforward_dim=16
).replace(embed_dim=8, depths=(1, 1, 2, 1), num_heads=(1, 1, 2, 2), window_size=3, drop_path_rate=0.0)


def model(answers: Answers) -> Mask2Former:
    """Its queries are sure of their classes, and their masks are of all signs."""
    torch.manual_seed(3)
    things = (0,) if answers == "panoptic" else None
    made = build(
        ModelDescription(
            config=CONFIG.replace(answers=answers, things=things, overlap_threshold=0.1),
            classes=NAMES,
            palette=None if answers == "instance" else ((250, 0, 0), (0, 250, 0), (0, 0, 250)),
            preprocessing=DensePreprocessing.coco(),
        )
    )
    assert isinstance(made, Mask2Former)
    predictor = made.sem_seg_head.predictor
    with torch.no_grad():
        predictor.class_embed.weight.mul_(40)
        predictor.class_embed.bias.copy_(torch.tensor([5.0, 5, 5, -9]))
        predictor.query_feat.weight.mul_(5)
        predictor.mask_embed.layers[2].weight.mul_(20)
    return made.eval()


def photo(height: int, width: int) -> Image.Image:
    generator = np.random.default_rng(height)
    return Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8))


def queries(predictor: Predictor, image: Image.Image) -> Any:
    prepared = predictor.prepare(image)
    return query_masks(predictor.model, [prepared.pixels], [prepared.original_size])[0]  # type: ignore[arg-type]


def test_segments_are_the_rules_of_the_authors() -> None:
    predictor = Predictor(model("panoptic"), device="cpu")
    images = [photo(50, 71), photo(64, 40)]
    results = predictor(images)
    for image, result in zip(images, results, strict=True):
        assert isinstance(result, PanopticSegmentation) and result.names == NAMES
        assert result.image_size == (image.height, image.width) and len(result) > 0
        assert result == predictor(image)
        expected = panoptic(queries(predictor, image), (0,), least_share=0.1)
        assert np.array_equal(result.segment_ids, expected.segment_ids.numpy())
        assert [one.label for one in result.segments] == expected.labels.tolist()
        assert all(one.is_thing == (one.label == 0) for one in result.segments)


def test_objects_have_masks_of_the_image() -> None:
    image, everything = photo(50, 71), Predictor(model("instance"), device="cpu")
    result = everything(image)
    assert isinstance(result, Detections) and len(result) == 18  # six queries, three classes
    expected = instances(queries(everything, image))
    assert np.array_equal(result.masks, expected.masks.numpy())
    assert result.scores.tolist() == expected.scores.tolist() and result.labels.tolist() == expected.labels.tolist()
    least = float(np.median(result.scores))
    some = Predictor(model("instance"), device="cpu", score_threshold=least)(image)
    assert len(some) == (result.scores >= least).sum() < len(result)


def test_classes_of_pixels() -> None:
    image, predictor = photo(50, 71), Predictor(model("semantic"), device="cpu")
    result = predictor(image)
    assert isinstance(result, SegmentationMap) and result.palette is not None
    assert np.array_equal(result.labels, semantic(queries(predictor, image)).numpy())


def test_every_answer_is_of_one_look() -> None:
    image, predictor = photo(50, 71), Predictor(model("panoptic"), device="cpu")
    everything = EveryAnswerPredictor(predictor)
    calls: list[object] = []
    hook = predictor.model.register_forward_hook(lambda *given: calls.append(given))
    (answer,) = everything.predict_prepared([everything.prepare(image)])
    hook.remove()
    one = queries(predictor, image)
    assert len(calls) == 1 and everything.batch_size == predictor.batch_size
    assert np.array_equal(answer.panoptic.segment_ids, panoptic(one, (0,), least_share=0.1).segment_ids.numpy())
    objects = instances(one, (0,))
    assert answer.instance.scores.tolist() == objects.scores.tolist() and set(answer.instance.labels) == {0}
    assert np.array_equal(answer.instance.masks, objects.masks.numpy())
    assert np.array_equal(answer.semantic.labels, semantic(one, resized="masks").numpy())
    assert answer.semantic.palette == answer.panoptic.palette
    with pytest.raises(ValueError, match="for segmentation has one kind of answer"):
        EveryAnswerPredictor(Predictor(model("semantic"), device="cpu"))


@pytest.mark.parametrize("options", [{"flip": True}, {"multi_scale": True, "flip": True}])
def test_classes_of_pixels_from_several_views(options: dict[str, bool]) -> None:
    """The authors' way: each view's sums at its own padded size, cut, resized, mirrored back, and averaged."""
    made = model("semantic")
    made.preprocessing = DensePreprocessing(scale=(96, 48), antialias=True)
    torch.manual_seed(13)
    classes = made.sem_seg_head.predictor.class_embed
    with torch.no_grad():
        classes.weight.normal_(std=2)
        classes.bias.copy_(torch.tensor([0.0, 0, 0, -30]))
    image, sums = photo(50, 71), []
    for ratio in RATIOS if "multi_scale" in options else (1.0,):
        transform = create_transform(dataclasses.replace(made.preprocessing, scale=(int(96 * ratio), int(48 * ratio))))
        pixels = transform(image).pixels
        for turned in [pixels, pixels.flip(2)] if "flip" in options else [pixels]:
            padded = pad_batch([turned], 32)
            with torch.no_grad():
                given = made(padded)
            masks = F.interpolate(given.mask_logits, size=padded.shape[2:], mode="bilinear").sigmoid()
            scores = torch.einsum("bqc,bqhw->bchw", given.class_logits.softmax(2)[:, :, :-1], masks)
            scores = scores[:, :, : pixels.shape[1], : pixels.shape[2]]
            scores = F.interpolate(scores, size=(50, 71), mode="bilinear")[0]
            sums.append(scores if turned is pixels else scores.flip(2))
    expected = torch.stack(sums).mean(dim=0).argmax(dim=0).numpy()
    result = Predictor(made, device="cpu", **options)(image)
    assert len(np.unique(expected)) > 1 and (result.labels == expected).mean() > 0.999, "but for ties"
    assert not np.array_equal(result.labels, Predictor(made, device="cpu")(image).labels)


@pytest.mark.parametrize(
    ("answers", "options", "message"),
    [
        ("semantic", {"mode": "slide"}, r"mode='slide' .*Mask2Former, which looks at whole images"),
        (
            "panoptic",
            {"flip": True},
            "flip=True .*panoptic by a Mask2Former, whose views' queries are not each other's",
        ),
        ("instance", {"multi_scale": True}, "multi_scale=True .*detection by a Mask2Former"),
        ("panoptic", {"score_threshold": 0.5}, "score_threshold=0.5 .*panoptic"),
        ("semantic", {"score_threshold": 0.5}, "score_threshold=0.5 .*segmentation"),
    ],
)
def test_options_that_would_change_nothing_are_errors(answers: Answers, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Predictor(model(answers), **options)


def test_the_command_writes_rows_pictures_and_cocos_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_model(model("panoptic"), tmp_path / "model.safetensors")
    (tmp_path / "images").mkdir()
    photo(50, 71).save(tmp_path / "images" / "one.png")
    photo(40, 40).save(tmp_path / "images" / "two.png")
    command = ["predict", str(tmp_path / "images"), "--weights", str(tmp_path / "model.safetensors"), "--device", "cpu"]
    files = {name: str(tmp_path / name) for name in ("rows.jsonl", "pictures", "ids")}
    outputs = ["--output", files["rows.jsonl"], "--pictures", files["pictures"], "--labels", files["ids"]]
    assert main([*command, *outputs]) == 0
    assert "segments" in capsys.readouterr().out
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert [Path(row["path"]).name for row in rows] == ["one.png", "two.png"]
    for row in rows:
        saved = PanopticSegmentation.read_coco(row["label_map"])
        assert row["segments"] == saved.to_dict()["segments"] and len(saved) > 0
        with Image.open(row["picture"]) as picture:
            assert min(picture.size) >= 40
