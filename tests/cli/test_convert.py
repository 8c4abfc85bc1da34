"""`swin convert`: there and back through files, and what it refuses."""

from __future__ import annotations

import pytest
import torch

from swin_transformer_pytorch.weights.files import read_checkpoint
from swin_transformer_pytorch.weights.formats import detect_format


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


def test_official_to_official_keeps_the_description(swin, checkpoint, tmp_path) -> None:
    target = tmp_path / "copy.pth"
    assert "kept" in swin("convert", checkpoint, "--to", "official", target).out
    assert read_checkpoint(target).metadata == read_checkpoint(checkpoint).metadata


def test_says_that_other_formats_have_no_place_for_the_description(swin, checkpoint, tmp_path) -> None:
    target = tmp_path / "timm.safetensors"
    assert "left out" in swin("convert", checkpoint, "--to", "timm", target).out
    assert read_checkpoint(target).metadata is None


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
