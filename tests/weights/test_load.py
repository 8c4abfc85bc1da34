import contextlib
import hashlib

import pytest
import torch

from swin_transformer_pytorch import compat
from swin_transformer_pytorch.backbone.config import SwinConfig
from swin_transformer_pytorch.models.backbone import SwinBackbone
from swin_transformer_pytorch.models.classification import SwinClassifier
from swin_transformer_pytorch.weights import checkpoint as checkpoint_module
from swin_transformer_pytorch.weights.catalog import CatalogError, find_record
from swin_transformer_pytorch.weights.files import CheckpointError, save_checkpoint
from swin_transformer_pytorch.weights.formats import convert_state_dict
from swin_transformer_pytorch.weights.load import load_weights, open_checkpoint
from swin_transformer_pytorch.weights.preprocessing import Preprocessing

SHAPE = {"embed_dim": 8, "depths": (2, 1), "num_heads": (1, 2), "window_size": 4}
V1, V2 = SwinConfig(version=1, **SHAPE), SwinConfig(version=2, **SHAPE)


def model_of(config=V1, num_classes=3, **arguments):
    model = SwinClassifier(config, num_classes=num_classes, **arguments)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    return model


def snapshot(model):
    return {key: value.clone() for key, value in model.state_dict().items()}


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


@contextlib.contextmanager
def left_as_it_was(model):
    before = snapshot(model)
    yield
    assert same(model.state_dict(), before)


@pytest.mark.parametrize("config", [V1, V2], ids=["v1", "v2"])
@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_our_own_file(tmp_path, config, ending):
    source, model = model_of(config), model_of(config)
    save_checkpoint(tmp_path / f"m.{ending}", source.state_dict(), source.metadata())
    report = load_weights(model, tmp_path / f"m.{ending}")
    assert same(model.state_dict(), source.state_dict())
    assert set(report.loaded) == source.state_dict().keys()
    assert report.format == "official"
    assert not (report.resized or report.sliced or report.dropped or report.fresh or report.adapted or report.notes)


def test_every_kind_of_source(tmp_path):
    source = model_of()
    path = tmp_path / "m.pth"
    save_checkpoint(path, source.state_dict())
    for given in (path, str(path), path.as_uri(), source.state_dict(), {"model": source.state_dict()}):
        model = model_of()
        load_weights(model, given)
        assert same(model.state_dict(), source.state_dict())


def test_parameters_keep_dtype_and_identity():
    model = model_of().half()
    parameters = list(model.parameters())
    load_weights(model, {key: value.double() for key, value in model_of().state_dict().items()})
    assert all(parameter.dtype == torch.float16 for parameter in model.parameters())
    assert all(a is b for a, b in zip(parameters, model.parameters(), strict=True))


def test_nan_is_a_number_like_another():
    source = model_of()
    with torch.no_grad():
        source.norm.bias.fill_(float("nan"))
    model = model_of()
    load_weights(model, source.state_dict())
    assert model.norm.bias.isnan().all()


def test_derived_buffers_are_dropped_and_reported():
    buffers = {
        "layers.0.blocks.1.attn_mask": torch.zeros(4, 16, 16),
        "layers.0.blocks.0.attn.relative_position_index": torch.zeros(16, 16, dtype=torch.int64),
    }
    report = load_weights(model_of(), model_of().state_dict() | buffers)
    assert {change.key for change in report.dropped} == buffers.keys()


def test_another_window_resizes_v1_tables():
    model = model_of(V1.replace(window_size=(6, 5)))
    report = load_weights(model, model_of().state_dict())
    assert len(report.resized) == 3
    assert "from window 4x4 to 6x5, bicubic" in report.resized[0].why


def test_oblong_window_of_our_file_is_known(tmp_path):
    source = model_of(V1.replace(window_size=(2, 3)))
    save_checkpoint(tmp_path / "m.pth", source.state_dict(), source.metadata())
    report = load_weights(model_of(), tmp_path / "m.pth")
    assert "from window 2x3 to 4x4" in report.resized[0].why
    with pytest.raises(CheckpointError, match=r"misshaped \(3\)"):
        load_weights(model_of(), source.state_dict())


def test_another_window_recomputes_v2(tmp_path):
    source = model_of(V2)
    save_checkpoint(tmp_path / "m.pth", convert_state_dict(source.state_dict(), "torchvision", window_size=4))
    report = load_weights(model_of(V2.replace(window_size=8, pretrained_window_sizes=(4, 4))), tmp_path / "m.pth")
    assert not report.resized
    assert "the bias is recomputed for another window, from 4x4 to 8x8" in report.notes


def test_weights_made_for_another_meaning_are_noted(tmp_path):
    source = model_of(V2.replace(pretrained_window_sizes=(4, 4)))
    save_checkpoint(tmp_path / "m.pth", source.state_dict(), source.metadata())
    report = load_weights(model_of(V2), tmp_path / "m.pth")
    assert report.notes == ("the weights were made with pretrained_window_sizes=(4, 4); the model has another",)


def test_windows_of_training_are_read_from_stored_coordinates():
    """As the official code stores them: the second stage's map was 2x2, so its window was 2 and not 4."""
    source = model_of(V2.replace(pretrained_window_sizes=(4, 2)))
    small = SwinClassifier(V2.replace(window_size=2), num_classes=3)
    tables = {
        "layers.0.blocks.0.attn.relative_coords_table": source.layers[0]
        .blocks[0]
        .attn.relative_coords.view(1, 7, 7, 2),
        "layers.1.blocks.0.attn.relative_coords_table": small.layers[1].blocks[0].attn.relative_coords.view(1, 3, 3, 2),
    }
    report = load_weights(model_of(V2), source.state_dict() | tables)
    assert report.notes == ("the bias was trained with pretrained_window_sizes=(4, 2); the model takes (4, 4)",)
    assert not load_weights(model_of(V2.replace(pretrained_window_sizes=(4, 2))), source.state_dict() | tables).notes


@pytest.mark.parametrize("format_", ["timm", "torchvision"])
def test_policy_of_the_source_is_noted(format_):
    converted = convert_state_dict(model_of().state_dict(), to=format_)
    assert any(format_ in note for note in load_weights(model_of(), converted).notes)
    dense = SwinBackbone(V1.replace(single_window="keep"), out_indices=(0, 1))
    assert not load_weights(dense, converted).notes


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_another_channel_count_adapts_the_first_convolution(channels):
    report = load_weights(model_of(V1.replace(in_channels=channels)), model_of().state_dict())
    assert [change.key for change in report.adapted] == ["patch_embed.proj.weight"]
    assert f"from 3 to {channels} input channels" in report.adapted[0].why


def test_channels_without_a_known_meaning_do_not_fit():
    with pytest.raises(CheckpointError, match=r"patch_embed\.proj\.weight: \(8, 5, 4, 4\) in the file, \(8, 3, 4, 4\)"):
        load_weights(model_of(), model_of(V1.replace(in_channels=5)).state_dict())


def test_another_class_count_leaves_the_head_fresh():
    source, model = model_of(num_classes=7), model_of()
    head = model.head.weight.clone()
    report = load_weights(model, source.state_dict())
    assert torch.equal(model.head.weight, head)
    assert {change.key for change in report.fresh} == {"head.weight", "head.bias"}
    assert "the file's head has 7 classes, the model's 3" in report.fresh[0].why


def test_head_of_22k_is_mapped_to_1k():
    source, model = model_of(num_classes=21841), model_of(num_classes=1000)
    report = load_weights(model, source.state_dict())
    assert torch.equal(model.head.bias[:2], source.head.bias[[359, 368]])
    assert {change.key for change in report.sliced} == {"head.weight", "head.bias"}


def test_head_without_use_is_dropped_and_missing_one_stays_fresh():
    report = load_weights(model_of(num_classes=0), model_of().state_dict())
    assert {change.key for change in report.dropped} == {"head.weight", "head.bias"}
    report = load_weights(model_of(), model_of(num_classes=0).state_dict())
    assert {change.key for change in report.fresh} == {"head.weight", "head.bias"}


def test_classifier_into_dense_backbone():
    report = load_weights(SwinBackbone(V1, out_indices=(1,)), model_of().state_dict())
    assert {change.key for change in report.dropped} == {"norm.weight", "norm.bias", "head.weight", "head.bias"}
    assert {change.key for change in report.fresh} == {"norm1.weight", "norm1.bias"}


def test_dense_backbone_into_a_classifier_does_not_fit():
    model = model_of()
    with left_as_it_was(model), pytest.raises(CheckpointError, match=r"missing \(2\):\n  norm\.weight"):
        load_weights(model, SwinBackbone(V1, out_indices=(1,)).state_dict())


def test_masked_pretraining():
    encoder = {f"encoder.{key}": value for key, value in model_of(num_classes=0).state_dict().items()}
    extra = {
        "encoder.mask_token": torch.ones(1, 1, 8),
        "decoder.0.weight": torch.ones(1),
        "decoder.0.bias": torch.ones(1),
    }
    report = load_weights(model_of(), encoder | extra)
    assert {change.key for change in report.dropped} == {"mask_token", "decoder.0.weight", "decoder.0.bias"}
    assert {change.key for change in report.fresh} == {"head.weight", "head.bias"}


def test_all_that_is_wrong_is_in_one_error_and_the_model_is_untouched():
    state_dict = model_of().state_dict()
    del state_dict["norm.weight"], state_dict["layers.0.downsample.reduction.weight"]
    state_dict |= {"absolute_pos_embed": torch.zeros(1, 4, 8), "layers.1.blocks.0.norm1.weight": torch.zeros(17)}
    model = model_of()
    with left_as_it_was(model), pytest.raises(CheckpointError) as error:
        load_weights(model, state_dict)
    message = str(error.value)
    assert "missing (2):\n  layers.0.downsample.reduction.weight\n  norm.weight" in message
    assert "unexpected (1):\n  absolute_pos_embed" in message
    assert "misshaped (1):\n  layers.1.blocks.0.norm1.weight: (17,) in the file, (16,) in the model" in message
    assert "left as it was" in message


def test_another_version_is_said_first():
    with pytest.raises(CheckpointError, match="It is Swin V2, and the model is V1: create a V2 model"):
        load_weights(model_of(), model_of(V2).state_dict())


def test_another_size_does_not_fit():
    with pytest.raises(CheckpointError, match=r"missing .*\n.*layers\.1\.blocks\.1"):
        load_weights(model_of(V1.replace(depths=(2, 2))), model_of().state_dict())
    with pytest.raises(CheckpointError, match=r"Of the model's \d+ tensors, 0 are missing and \d+ have another shape"):
        load_weights(model_of(V1.replace(embed_dim=16)), model_of().state_dict())


def test_unknown_keys_name_the_file(tmp_path):
    save_checkpoint(tmp_path / "resnet.safetensors", {"conv1.weight": torch.ones(1), "fc.bias": torch.ones(1)})
    model = model_of()
    with (
        left_as_it_was(model),
        pytest.raises(CheckpointError, match=r"resnet\.safetensors is not a Swin.*conv1\.weight"),
    ):
        load_weights(model, tmp_path / "resnet.safetensors")


def test_version_0_4_1_fits_its_own_model_alone():
    def seed():
        return compat.SwinTransformer(
            hidden_dim=8, layers=(2, 2, 2, 2), heads=(1, 2, 2, 2), head_dim=4, window_size=7, num_classes=3
        )

    source, model = seed(), seed()
    report = load_weights(model, source.state_dict())
    assert report.format == "seed"
    assert same(model.state_dict(), source.state_dict())
    with pytest.raises(CheckpointError, match=r"0\.4\.1, another architecture.*`compat`"):
        load_weights(model_of(), source.state_dict())


def test_model_on_the_meta_device():
    with torch.device("meta"):
        model = SwinClassifier(V1, num_classes=3)
    with pytest.raises(CheckpointError, match="meta device"):
        load_weights(model, model_of().state_dict())


def test_catalogue_tag_goes_through_its_record(tmp_path, monkeypatch):
    """With the addresses of the catalogue answered from a folder."""
    record = find_record("swin_tiny_patch4_window7_224", "in1k_torchvision")
    source = model_of(num_classes=1000)
    path = tmp_path / "swin_t.pth"
    save_checkpoint(path, convert_state_dict(source.state_dict(), "torchvision"))
    asked = []

    def fetch(address, *, sha256=None):
        asked.append((address, sha256))
        return path

    monkeypatch.setattr(checkpoint_module, "fetch", fetch)
    model = model_of(num_classes=1000, name=record.name)
    for given in ("in1k_torchvision", record.full_name, record):
        report = load_weights(model, given)
        assert report.source == record.full_name
        assert same(model.state_dict(), source.state_dict())
    assert asked == [(record.source, "704ceda3")] * 3
    checkpoint = open_checkpoint("in1k_torchvision", name=record.name)
    assert (checkpoint.num_classes, checkpoint.classes[0]) == (1000, "tench")
    assert checkpoint.preprocessing == record.preprocessing
    open_checkpoint("owner/repository")
    open_checkpoint("hf:owner/repository/file.bin")
    assert [address for address, _ in asked[-2:]] == ["hf:owner/repository", "hf:owner/repository/file.bin"]


def test_published_file_by_its_own_name_is_known(tmp_path):
    path = tmp_path / "swin_tiny_patch4_window7_224.pth"
    save_checkpoint(path, model_of(num_classes=1000).state_dict())
    checkpoint = open_checkpoint(path)
    assert checkpoint.record is find_record("swin_tiny_patch4_window7_224", "in1k")
    assert checkpoint.classes[1] == "goldfish"
    # A head of other classes is not ImageNet's, whatever the file's name.
    save_checkpoint(path, model_of().state_dict())
    assert open_checkpoint(path).classes is None


def test_description_of_our_file_is_known(tmp_path):
    source = model_of(classes=("a", "b", "c"), preprocessing=Preprocessing.imagenet(64))
    save_checkpoint(tmp_path / "m.safetensors", source.state_dict(), source.metadata())
    checkpoint = open_checkpoint(tmp_path / "m.safetensors")
    assert checkpoint.classes == ("a", "b", "c")
    assert checkpoint.preprocessing == Preprocessing.imagenet(64)


def test_description_that_cannot_be_built(tmp_path):
    source = model_of()
    save_checkpoint(tmp_path / "m.pth", source.state_dict(), {**source.metadata(), "config": {"depth": 3}})
    with pytest.raises(CheckpointError, match=r"m\.pth describes a model that cannot be built.*'depth'"):
        load_weights(model_of(), tmp_path / "m.pth")


def test_misspelt_sources():
    model = model_of(name="swin_tiny_patch4_window7_224")
    with pytest.raises(CatalogError, match=r"'in21k' is no catalogue tag.*tags of swin_tiny.*in22k"):
        load_weights(model, "in21k")
    for wrong, near in (("fashoin", "fashion"), ("scenes_detectoin", "scenes_detection"), ("in2k", "in22k")):
        with pytest.raises(CatalogError, match=rf"did you mean [^?]*{near}.*\? .*in the package: fashion, scenes_"):
            load_weights(model, wrong)
    with pytest.raises(CatalogError) as error:
        load_weights(model_of(), "zzz")
    assert "did you mean" not in str(error.value) and "tags of" not in str(error.value)
    with pytest.raises(CatalogError, match="no weights 'in21k' of swin_tiny_patch4_window7_224"):
        load_weights(model, "swin_tiny_patch4_window7_224.in21k")
    for missing in ("swin_tiny_patch4_window7_224.pth", "runs/best.ckpt", "/nowhere/model.safetensors"):
        with pytest.raises(CheckpointError, match="does not exist"):
            load_weights(model, missing)


def test_url_with_a_wrong_hash(tmp_path):
    save_checkpoint(tmp_path / "m.pth", model_of().state_dict())
    digest = hashlib.sha256((tmp_path / "m.pth").read_bytes()).hexdigest()[:8]
    right, wrong = tmp_path / f"m-{digest}.pth", tmp_path / "m-deadbeef.pth"
    (tmp_path / "m.pth").rename(right)
    if not digest.isdigit():
        load_weights(model_of(), right.as_uri())
    wrong.write_bytes(right.read_bytes())
    with pytest.raises(ValueError, match="not the file that was published"):
        load_weights(model_of(), wrong.as_uri())
