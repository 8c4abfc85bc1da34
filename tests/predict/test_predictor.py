import io
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from swin_transformer_pytorch.backbone.config import SwinConfig
from swin_transformer_pytorch.data.images.decode import ImageError
from swin_transformer_pytorch.models.classification import SwinClassifier
from swin_transformer_pytorch.optimize import optimize_for_inference
from swin_transformer_pytorch.predict import Predictor, predict_files
from swin_transformer_pytorch.results import Classification
from swin_transformer_pytorch.weights.preprocessing import Preprocessing

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


class ColourModel(nn.Module):
    """Knows an image's colour: its logits are the channels' means. What it saw is remembered."""

    task = "classification"
    preprocessing = Preprocessing(image_size=8, resize_size=8, mean=(0.0,) * 3, std=(0.1,) * 3)
    num_classes = 3

    def __init__(self, classes=("red", "green", "blue")):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.classes = classes
        self.batches = []

    def forward(self, images):
        assert not self.training
        assert not torch.is_grad_enabled()
        self.batches.append(len(images))
        return images.mean(dim=(2, 3)) * self.scale


@pytest.fixture
def predictor():
    return Predictor(ColourModel(), device="cpu")


def picture(name, size=(12, 10)):
    return Image.new("RGB", size, COLOURS[name])


@pytest.fixture
def photos(tmp_path):
    (tmp_path / "more").mkdir()
    for name, place in (("red", "a.png"), ("green", "b.jpg"), ("blue", "more/c.png")):
        picture(name).save(tmp_path / place)
    return tmp_path


def test_an_image_in_every_form(predictor, tmp_path):
    image = picture("green")
    path = tmp_path / "green.png"
    image.save(path)
    array = np.asarray(image)
    tensor = torch.from_numpy(array.copy()).permute(2, 0, 1)
    forms = [path, str(path), path.read_bytes(), io.BytesIO(path.read_bytes()).getbuffer(), image, array, tensor]
    for form in [*forms, tensor / 255]:
        result = predictor(form)
        assert isinstance(result, Classification)
        assert result.names == ("green", "red", "blue")
        assert result.labels == (1, 0, 2)
        assert result.scores[0] > 0.99
        assert sum(result.scores) == pytest.approx(1.0)
    assert predictor(np.full((9, 9), 200, dtype=np.uint8)).scores == pytest.approx((1 / 3,) * 3)


def test_a_list_goes_through_in_batches(predictor):
    model = predictor.model
    results = Predictor(model, device="cpu", batch_size=2)([picture(name) for name in (*COLOURS, "red", "red")])
    assert [result.names[0] for result in results] == ["red", "green", "blue", "red", "red"]
    assert model.batches == [2, 2, 1]
    assert predictor([]) == []
    assert len(predictor((picture("red"), picture("blue")))) == 2


def test_top_k_and_missing_names():
    predictor = Predictor(ColourModel(classes=None), device="cpu", top_k=2)
    assert predictor(picture("blue")).names[0] == "class 2"
    assert len(predictor(picture("blue")).labels) == 2
    with pytest.raises(ValueError, match="top_k=0"):
        Predictor(ColourModel(), top_k=0)


def test_it_stays_in_evaluation_mode(predictor):
    predictor.model.train()
    predictor(picture("red"))
    assert not predictor.model.training


def test_half_precision_models_are_fed_their_own_type(predictor):
    predictor.model.bfloat16()
    assert predictor(picture("red")).names[0] == "red"


def test_models_that_cannot_be_used_say_why():
    model = ColourModel()
    model.preprocessing = None
    with pytest.raises(ValueError, match=r"set model\.preprocessing"):
        Predictor(model)
    with pytest.raises(ValueError, match="task None"):
        Predictor(nn.Linear(1, 1))
    headless = ColourModel()
    headless.num_classes = 0
    with pytest.raises(ValueError, match="no head"):
        Predictor(headless)


def test_bad_input_is_an_image_error(predictor):
    for bad in (b"", 3, None, torch.rand(2, 3, 8, 8), {"image": 1}):
        with pytest.raises(ImageError):
            predictor(bad)


BAD = (b"", b"not an image", "gone.png", 3, None, torch.rand(2, 3, 8, 8))


@given(st.lists(st.sampled_from([*COLOURS, *range(len(BAD))]), max_size=9), st.integers(1, 4))
def test_a_bad_image_loses_no_other_where_errors_are_returned(drawn, batch_size):
    predictor = Predictor(ColourModel(), device="cpu", batch_size=batch_size, on_error="return")
    images = [picture(one) if isinstance(one, str) else BAD[one] for one in drawn]
    results = predictor(images)
    assert len(results) == len(images)
    for one, image, result in zip(drawn, images, results, strict=True):
        if isinstance(one, str):
            assert result.names[0] == one
            continue
        with pytest.raises(ImageError) as raised:
            Predictor(predictor.model, device="cpu")(image)
        assert isinstance(result, ImageError) and str(result) == str(raised.value) == str(predictor(image))
    if not all(isinstance(one, str) for one in drawn):
        with pytest.raises(ImageError):
            Predictor(predictor.model, device="cpu", batch_size=batch_size)(images)


@pytest.mark.parametrize("value", ["ignore", "", None, True])
def test_another_way_with_errors_is_refused(value):
    with pytest.raises(ValueError, match="on_error=.*use 'raise' or 'return'"):
        Predictor(ColourModel(), on_error=value)


@pytest.mark.parametrize("image", ["gone.png", np.zeros((9, 9, 3), np.uint8)])
def test_features_of_an_image_alone_are_not_those_of_its_parts(predictor, image):
    with pytest.raises(ValueError, match=r"takes a list of images, not a (str|ndarray); put it into one"):
        predictor.features(image)


def test_a_model_that_does_not_say_what_its_head_takes_has_no_features(predictor):
    with pytest.raises(ValueError, match="this ColourModel gives answers alone"):
        predictor.features([picture("red")])


class TestFiles:
    def results(self, predictor, *patterns, batch_size=2):
        return dict(predict_files(predictor, patterns, batch_size=batch_size))

    def test_files_folders_and_globs_each_once_and_in_order(self, predictor, photos):
        results = list(predict_files(predictor, [photos / "b.jpg", photos, f"{photos}/**/*.png"]))
        assert [path.removeprefix(str(photos))[1:] for path, _ in results] == ["b.jpg", "a.png", "more/c.png"]
        assert [result.names[0] for _, result in results] == ["green", "red", "blue"]

    @pytest.mark.parametrize("batch_size", [1, 2, 3, 50])
    def test_one_bad_file_loses_no_other(self, predictor, photos, batch_size):
        (photos / "aa.png").write_bytes(b"not an image")
        (photos / "empty.jpg").write_bytes(b"")
        results = self.results(predictor, photos, batch_size=batch_size)
        assert [path.rpartition("/")[2] for path in results] == ["a.png", "aa.png", "b.jpg", "empty.jpg", "c.png"]
        good = [result.names[0] for result in results.values() if isinstance(result, Classification)]
        assert good == ["red", "green", "blue"]
        bad = {path.rpartition("/")[2]: str(error) for path, error in results.items() if isinstance(error, ImageError)}
        assert set(bad) == {"aa.png", "empty.jpg"}
        assert all(name in message for name, message in bad.items())

    @pytest.mark.parametrize("batch_size", [1, 2, 3, 50])
    def test_what_is_skipped_changes_no_other_batch(self, predictor, photos, batch_size):
        """Every subset of the images can be there already, and a pattern that is given twice counts once."""
        patterns = (photos, photos / "gone.png", f"{photos}/*.bmp", f"{photos}/*.bmp")
        whole = list(predict_files(predictor, patterns, batch_size))
        names = [path for path, _ in whole]
        assert len(names) == len(set(names)) == 5
        for chosen in range(2 ** len(names)):
            done = {name for index, name in enumerate(names) if chosen >> index & 1}
            predictor.model.batches.clear()
            rest = list(predict_files(predictor, patterns, batch_size, skip=done.__contains__))
            assert [(path, str(result)) for path, result in rest] == [
                (path, str(result)) for path, result in whole if path not in done
            ]
            batches = [names[start : start + batch_size] for start in range(0, 5, batch_size)]
            images = [sum(name in names[:3] for name in batch) for batch in batches if set(batch) - done]
            assert predictor.model.batches == [count for count in images if count]

    def test_files_known_to_be_no_images_are_left_out(self, predictor, photos):
        (photos / "link.png").symlink_to(photos / "b.jpg")
        results = predict_files(predictor, [photos], known=[os.path.realpath(photos / "b.jpg")])
        assert [path.rpartition("/")[2] for path, _ in results] == ["a.png", "c.png"]

    def test_what_matches_nothing_is_reported(self, predictor, photos):
        (photos / "none").mkdir()
        for pattern, message in (
            ("*.bmp", "matches no images"),
            ("gone.png", "does not exist"),
            ("none", "without images"),
        ):
            ((path, error),) = predict_files(predictor, [photos / pattern])
            assert isinstance(error, ImageError)
            assert message in str(error)
            assert path == str(photos / pattern)

    def test_a_name_with_the_signs_of_a_glob(self, predictor, photos):
        picture("blue").save(photos / "d[1].png")
        assert [one.names[0] for one in self.results(predictor, photos / "d[1].png").values()] == ["blue"]

    def test_a_file_named_outright_needs_no_ending(self, predictor, photos):
        (photos / "a.png").rename(photos / "a")
        assert [one.names[0] for one in self.results(predictor, photos / "a").values()] == ["red"]

    def test_results_come_as_they_are_made(self, predictor, photos):
        results = predict_files(predictor, [photos], batch_size=1)
        next(results)
        assert predictor.model.batches == [1]
        with pytest.raises(ValueError, match="batch_size=0"):
            next(predict_files(predictor, [photos], batch_size=0))


class TestSwin:
    """The real thing, small."""

    @pytest.fixture
    def model(self):
        torch.manual_seed(0)
        config = SwinConfig(in_channels=1, patch_size=2, embed_dim=16, depths=(2, 2), num_heads=(2, 4), window_size=4)
        preprocessing = Preprocessing(image_size=28, resize_size=28, mean=(0.286,), std=(0.353,))
        model = SwinClassifier(config, num_classes=10, preprocessing=preprocessing)
        nn.init.normal_(model.head.weight)
        return model

    def test_alone_and_in_a_batch_it_gives_the_same(self, model):
        rng = np.random.default_rng(0)
        images = [rng.integers(0, 256, (size, 33), dtype=np.uint8) for size in (28, 40, 90, 31, 1)]
        predictor = Predictor(model, device="cpu", top_k=10)
        for image, together in zip(images, predictor(images), strict=True):
            alone = predictor(image)
            assert alone.labels == together.labels
            assert alone.scores == pytest.approx(together.scores, abs=1e-4)

    @pytest.mark.parametrize("form", ["as it is", "optimised", "multi_label", "bfloat16"])
    def test_features_are_what_the_head_takes(self, model, form):
        model.multi_label = form == "multi_label"
        model = optimize_for_inference(model.eval()) if form == "optimised" else model
        model = model.bfloat16() if form == "bfloat16" else model
        rng = np.random.default_rng(0)
        images = [rng.integers(0, 256, (size, 33), dtype=np.uint8) for size in (28, 40, 90, 31, 1)]
        predictor = Predictor(model, device="cpu", batch_size=2)
        found = predictor.features(images)
        assert (found.shape, found.dtype) == ((5, 32), np.float32)
        batch = torch.stack([predictor.prepare(image) for image in images]).to(next(model.parameters()).dtype)
        with torch.inference_mode():
            expected = model.forward_head(model.forward_features(batch), pre_logits=True).float().numpy()
        np.testing.assert_allclose(found, expected, atol=2e-2 if form == "bfloat16" else 1e-4)
        assert predictor.features([]).shape == (0, 32)
        with pytest.raises(ImageError, match="gone"):
            Predictor(model, device="cpu", on_error="return").features([images[0], "gone.png"])

    def test_a_checkpoint_needs_nothing_else(self, model, tmp_path):
        from swin_transformer_pytorch.weights.files import save_checkpoint

        path = tmp_path / "mine.safetensors"
        save_checkpoint(path, model.state_dict(), model.metadata())
        image = np.random.default_rng(0).integers(0, 256, (28, 28), dtype=np.uint8)
        loaded = Predictor(path, device="cpu")(image)
        assert loaded.labels == Predictor(model, device="cpu")(image).labels

    def test_an_unknown_name_is_an_error(self):
        with pytest.raises(ValueError, match="swin_tiny_patch4_window7_244"):
            Predictor("swin_tiny_patch4_window7_244")


def test_files_that_are_nearly_black_by_their_white_level_are_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for index in range(3):
        values = np.random.default_rng(index).integers(0, 1024, (28, 28)).astype(np.uint16)
        Image.fromarray(values).save(tmp_path / f"{index}.png")
    assert len(list(predict_files(Predictor("fashion", device="cpu"), [tmp_path], batch_size=1))) == 3
    (message,) = [message for message in caplog.messages if "16 bits" in message]
    assert "values of at most 1023" in message
