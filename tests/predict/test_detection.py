"""Objects in images of any size, each as the image gets them alone."""

import dataclasses

import numpy as np
import pytest
import torch

from swin_transformer_pytorch.data.errors import ImageError
from swin_transformer_pytorch.data.images.dense_transforms import DenseTransform
from swin_transformer_pytorch.models.detection_inference import detect_multi_scale
from swin_transformer_pytorch.ops.padding import pad_batch
from swin_transformer_pytorch.ops.regions.masks import paste_masks
from swin_transformer_pytorch.predict import Predictor, predict_files
from swin_transformer_pytorch.predict.detection import SCALES
from swin_transformer_pytorch.results import Detections


def assert_same(one: Detections, other: Detections) -> None:
    """Up to rounding: a batch's products are added up in another order."""
    assert one.names == other.names
    assert one.image_size == other.image_size
    np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)
    np.testing.assert_allclose(one.boxes_xyxy, other.boxes_xyxy, atol=1e-2)


def test_a_result_is_the_model_s_on_the_prepared_image(detector, images):
    result = Predictor(detector, device="cpu")(images[0])
    prepared = DenseTransform(detector.preprocessing)(images[0])
    batch = pad_batch([prepared.pixels], 32)
    assert batch.shape[2:] == (64, 96)
    (expected,) = detector.eval()(batch, [prepared.image_size], [prepared.scale_factor])
    assert len(result) == len(expected) == 8
    np.testing.assert_array_equal(result.boxes_xyxy, expected.boxes_xyxy)
    np.testing.assert_array_equal(result.scores, expected.scores)
    assert result.names == tuple(detector.classes[label] for label in expected.labels)
    assert result.image_size == (70, 90)
    np.testing.assert_array_equal(result.masks, paste_masks(expected.masks, expected.boxes_xyxy, (70, 90)))
    assert (result.boxes_xyxy <= np.array([90, 70, 90, 70])).all()


@pytest.mark.parametrize("batch_size", [2, 5])
def test_images_of_any_size_get_what_they_get_alone(detector, images, batch_size):
    predictor = Predictor(detector, device="cpu", batch_size=batch_size)
    for image, together in zip(images, predictor(images), strict=True):
        assert_same(together, predictor(image))
        assert together.image_size == image.size[::-1]


def test_only_images_of_one_padded_size_share_a_batch(detector, images, monkeypatch):
    shapes = []
    detector.register_forward_hook(lambda model, inputs, output: shapes.append(tuple(inputs[0].shape)))
    Predictor(detector, device="cpu", batch_size=5)(images)
    assert shapes == [(3, 3, 64, 96), (1, 3, 96, 64), (1, 3, 96, 64)] or shapes == [(3, 3, 64, 96), (2, 3, 96, 64)]


def test_a_score_threshold_may_leave_nothing(detector, images):
    all_of_them = Predictor(detector, device="cpu")(images[0])
    threshold = float(all_of_them.scores[3])
    assert Predictor(detector, device="cpu", score_threshold=threshold)(images[0]) == all_of_them.above(threshold)
    nothing = Predictor(detector, device="cpu", score_threshold=1.0)(images)
    assert [len(result) for result in nothing] == [0] * 5
    assert nothing[0].masks.shape == (0, 70, 90)


def test_several_sizes_and_mirror_images(detector, images):
    result = Predictor(detector, device="cpu", multi_scale=True, flip=True)(images[4])
    scales = [(int(100 * ratio), int(64 * ratio)) for ratio in SCALES]
    transforms = [DenseTransform(dataclasses.replace(detector.preprocessing, scale=scale)) for scale in scales]
    views = [transform(images[4]) for transform in transforms]
    expected = detect_multi_scale(
        detector.eval(), [view.pixels for view in views], [view.scale_factor for view in views], flip=True
    )
    np.testing.assert_array_equal(result.scores, expected.scores)
    np.testing.assert_array_equal(result.boxes_xyxy, expected.boxes_xyxy)


def test_models_without_names_number_their_classes(detector, images):
    detector.classes = None
    result = Predictor(detector, device="cpu")(images[0])
    assert result.names == tuple(f"class {label}" for label in result.labels)


def test_a_bad_file_loses_no_other(detector, images, tmp_path):
    images[0].save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no image")
    images[3].save(tmp_path / "c.png")
    results = [result for _, result in predict_files(Predictor(detector, device="cpu"), [tmp_path])]
    assert [type(result) for result in results] == [Detections, ImageError, Detections]
    assert results[2].image_size == (90, 70)


def test_options_of_other_tasks_are_refused(detector, segmenter):
    for model, options, message in (
        (segmenter, {"score_threshold": 0.5}, "score_threshold=0.5 cannot be used .* for segmentation"),
    ):
        with pytest.raises(ValueError, match=message):
            Predictor(model, device="cpu", **options)


def test_it_needs_preprocessing(detector):
    detector.preprocessing = None
    with pytest.raises(ValueError, match=r"DensePreprocessing\.coco\(\)"):
        Predictor(detector, device="cpu")


def test_predictions_leave_the_model_as_it_was(detector, images):
    before = {name: value.clone() for name, value in detector.state_dict().items()}
    Predictor(detector, device="cpu", flip=True)(images[0])
    assert all(torch.equal(value, before[name]) for name, value in detector.state_dict().items())
