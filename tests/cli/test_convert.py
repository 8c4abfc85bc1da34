"""`swin convert`: there and back through files, and what it refuses."""

from __future__ import annotations

import pytest
import torch

from swin_transformer_pytorch.backbone.config import SwinConfig
from swin_transformer_pytorch.models.classification import SwinClassifier
from swin_transformer_pytorch.models.registry import create_model, load_model
from swin_transformer_pytorch.models.saving import save_model
from swin_transformer_pytorch.weights.files import read_checkpoint, save_checkpoint
from swin_transformer_pytorch.weights.formats import convert_state_dict, detect_format
from swin_transformer_pytorch.weights.preprocessing import Preprocessing


@pytest.mark.parametrize("fmt", ["timm", "torchvision", "transformers", "openmmlab"])
def test_there_and_back_gives_the_same_tensors(swin, checkpoint, tmp_path, fmt) -> None:
    there, back = tmp_path / "there.pth", tmp_path / "back.safetensors"
    outcome = swin("convert", checkpoint, "--to", fmt, there)
    assert outcome.code == 0
    assert f"official, {len(read_checkpoint(checkpoint).state_dict)} tensors" in outcome.out
    assert fmt in outcome.out
    assert detect_format(read_checkpoint(there).state_dict) == fmt
    assert swin("convert", there, "--to", "official", back).code == 0
    first, second = read_checkpoint(checkpoint).state_dict, read_checkpoint(back).state_dict
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_openmmlabs_classifiers_keep_their_class_names(swin, checkpoint, tmp_path) -> None:
    """There and back, beside the weights (`meta`), where mmpretrain has them too."""
    names = load_model(checkpoint).classes
    there, name = tmp_path / "there.pth", "swin_tiny_patch4_window7_224"
    assert swin("convert", checkpoint, "--to", "openmmlab", there).code == 0
    content = torch.load(there, weights_only=True)
    assert content["meta"] == {"CLASSES": names}
    config = load_model(checkpoint).config.to_dict()
    assert create_model(name, weights=there, **config).classes == names
    content["meta"] = {"dataset_meta": {"classes": list(names)}}
    torch.save(content, there)
    assert create_model(name, weights=there, **config).classes == names
    assert create_model(name, weights=there, num_classes=len(names) + 1, **config).classes is None


def test_official_to_official_keeps_the_description(swin, checkpoint, tmp_path) -> None:
    target = tmp_path / "copy.pth"
    assert "kept" in swin("convert", checkpoint, "--to", "official", target).out
    assert read_checkpoint(target).metadata == read_checkpoint(checkpoint).metadata


def test_says_that_other_formats_have_no_place_for_the_description(swin, checkpoint, tmp_path) -> None:
    target = tmp_path / "timm.safetensors"
    assert "left out" in swin("convert", checkpoint, "--to", "timm", target).out
    assert read_checkpoint(target).metadata is None


def test_writes_a_folder_for_transformers(swin, tmp_path) -> None:
    config = SwinConfig(embed_dim=8, depths=(1, 1), num_heads=(1, 2), window_size=4)
    model = SwinClassifier(config, num_classes=2, classes=("a", "b"), preprocessing=Preprocessing.imagenet(32, 36))
    source, folder, back = tmp_path / "m.pth", tmp_path / "folder", tmp_path / "back.safetensors"
    save_model(model, source)
    outcome = swin("convert", source, "--to", "transformers", folder)
    assert outcome.code == 0
    assert "config.json, model.safetensors, preprocessor_config.json" in outcome.out
    assert "transformers differs: its crop may lie one pixel" in outcome.out
    assert swin("convert", source, "--to", "transformers", folder).code == 2
    assert swin("convert", source, "--to", "transformers", folder, "--force").code == 0
    # And back to a file of ours.
    assert "kept" in swin("convert", folder, "--to", "official", back).out
    again = load_model(back)
    assert again.classes == ("a", "b") and again.preprocessing == model.preprocessing
    assert all(torch.equal(tensor, again.state_dict()[key]) for key, tensor in model.state_dict().items())
    # Of a file that does not describe its model, its name does.
    save_checkpoint(tmp_path / "bare.pth", model.state_dict())
    outcome = swin("convert", tmp_path / "bare.pth", "--to", "transformers", tmp_path / "bare")
    assert outcome.code == 2 and "does not say which model it is for" in outcome.err and "--model" in outcome.err
    outcome = swin("convert", source, "--to", "timm", tmp_path / "other")
    assert outcome.code == 2 and "only --to transformers writes" in outcome.err


def test_takes_the_raw_or_the_averaged_weights(swin, checkpoint, tmp_path) -> None:
    raw = load_model(checkpoint).state_dict()
    content = {"state_dict": raw, "state_dict_ema": {key: tensor + 1 for key, tensor in raw.items()}}
    torch.save(content, tmp_path / "both.pth")
    for which, more in (("raw", 0), ("averaged", 1)):
        outcome = swin(
            "convert", tmp_path / "both.pth", "--to", "official", tmp_path / f"{which}.pth", "--which", which
        )
        assert f"official, {which} weights" in outcome.out and "ones too: which=" in outcome.out
        found = read_checkpoint(tmp_path / f"{which}.pth").state_dict
        assert all(torch.equal(found[key], tensor + more) for key, tensor in raw.items())


def test_never_replaces_a_file_unasked(swin, checkpoint, tmp_path) -> None:
    target = tmp_path / "there.pth"
    target.write_text("precious")
    outcome = swin("convert", checkpoint, "--to", "timm", target)
    assert outcome.code == 2
    assert "--force" in outcome.err
    assert target.read_text() == "precious"
    assert swin("convert", checkpoint, "--to", "timm", target, "--force").code == 0
    assert detect_format(read_checkpoint(target).state_dict) == "timm"


def test_reads_an_address(swin, checkpoint, tmp_path) -> None:
    target = tmp_path / "there.pth"
    assert swin("convert", checkpoint.as_uri(), "--to", "timm", target).code == 0
    assert target.exists()


@pytest.mark.parametrize(
    ("content", "hint"),
    [(b"", "is empty"), (b"<!doctype html><html>", "web page"), (b"nonsense" * 40, "not a checkpoint")],
)
def test_refuses_what_is_no_checkpoint(swin, tmp_path, content, hint) -> None:
    source, target = tmp_path / "in.pth", tmp_path / "out.pth"
    source.write_bytes(content)
    outcome = swin("convert", source, "--to", "timm", target)
    assert outcome.code == 2
    assert str(source) in outcome.err
    assert hint in outcome.err
    assert not target.exists()


def test_a_seed_checkpoint_does_not_become_another(swin, checkpoint, tmp_path) -> None:
    outcome = swin("convert", checkpoint, "--to", "seed", tmp_path / "out.pth")
    assert outcome.code == 2
    assert "0.4.1" in outcome.err


@pytest.fixture
def segmenter(tmp_path):
    """A small random one as OpenMMLab stores it, index buffers included."""
    small = {"embed_dim": 8, "depths": (1, 1, 1, 1), "num_heads": (1, 1, 2, 2), "decode_dim": 8, "auxiliary_dim": 4}
    model = create_model("upernet_swin_tiny_patch4_window7_512x512", num_classes=2, **small)
    theirs = convert_state_dict(model.state_dict(), to="openmmlab")
    theirs["backbone.stages.0.blocks.0.attn.w_msa.relative_position_index"] = torch.zeros(49, 49, dtype=torch.int64)
    path = tmp_path / "mmseg.pth"
    torch.save({"meta": {"CLASSES": ("a", "b"), "PALETTE": [[1, 2, 3], [4, 5, 6]]}, "state_dict": theirs}, path)
    return path


@pytest.mark.parametrize("fmt", ["official", "transformers"])
def test_whole_segmenters_convert_and_say_what_is_left_out(swin, segmenter, tmp_path, fmt) -> None:
    there, back = tmp_path / "there.pth", tmp_path / "back.pth"
    outcome = swin("convert", segmenter, "--to", fmt, there)
    assert outcome.code == 0
    assert "openmmlab" in outcome.out and "left out 1 buffers" in outcome.out
    assert detect_format(read_checkpoint(there).state_dict) == fmt
    assert swin("convert", there, "--to", "openmmlab", back).code == 0
    first, second = read_checkpoint(segmenter).state_dict, read_checkpoint(back).state_dict
    assert first.keys() - second.keys() == {"backbone.stages.0.blocks.0.attn.w_msa.relative_position_index"}
    assert all(torch.equal(first[key], value) for key, value in second.items())
    if fmt == "official":
        assert read_checkpoint(back).classes == ("a", "b")
        assert read_checkpoint(back).palette == ((1, 2, 3), (4, 5, 6))


def test_a_description_of_a_dense_model_stays_with_the_official_names(swin, tmp_path) -> None:
    model = create_model("mask_rcnn_swin_tiny_patch4_window7", num_classes=2, embed_dim=8, num_heads=(1, 1, 2, 2))
    model.classes = ("a", "b")
    save_checkpoint(tmp_path / "m.safetensors", model.state_dict(), model.metadata())
    assert "kept" in swin("convert", tmp_path / "m.safetensors", "--to", "official", tmp_path / "m.pth").out
    file = read_checkpoint(tmp_path / "m.pth")
    assert file.metadata == model.metadata() and file.classes == ("a", "b")
    outcome = swin("convert", tmp_path / "m.pth", "--to", "timm", tmp_path / "timm.pth")
    assert outcome.code == 2 and "no place for a whole detector" in outcome.err
