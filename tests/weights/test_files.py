import argparse
import io
import json
import os
import pickle
import stat
import subprocess
import sys
import types
import zipfile

import pytest
import safetensors.torch
import torch

from swin_transformer_pytorch.weights.files import CheckpointError, read_checkpoint, save_checkpoint

TENSORS = {"norm.weight": torch.arange(4.0), "norm.bias": torch.full((4,), float("nan"))}
METADATA = {
    "format": "swin-transformer-pytorch",
    "format_version": 1,
    "classes": ["a", "ü"],
    "config": {"depths": [2, 2]},
}


def same(first, second):
    return first.keys() == second.keys() and all(
        torch.equal(first[key].nan_to_num(7), second[key].nan_to_num(7)) for key in first
    )


@pytest.mark.parametrize("ending", ["safetensors", "pth", "pt", "bin"])
@pytest.mark.parametrize("metadata", [METADATA, None])
def test_what_is_saved_is_read(tmp_path, ending, metadata):
    path = tmp_path / f"model.{ending}"
    save_checkpoint(path, TENSORS, metadata)
    file = read_checkpoint(path)
    assert same(file.state_dict, TENSORS)
    assert file.metadata == metadata
    assert os.listdir(tmp_path) == [path.name]
    assert stat.S_IMODE(path.stat().st_mode) & 0o400


def test_views_and_shared_memory_are_saved(tmp_path):
    weight = torch.randn(4, 6)
    tensors = {"a": weight, "b": weight, "c": weight.t(), "d": torch.nn.Parameter(weight[:2])}
    save_checkpoint(tmp_path / "m.safetensors", tensors)
    assert same(read_checkpoint(tmp_path / "m.safetensors").state_dict, {k: v.detach() for k, v in tensors.items()})


def test_torch_file_has_the_container_that_the_format_is_read_from(tmp_path):
    official = {"layers.0.blocks.0.norm1.weight": torch.ones(2)}
    save_checkpoint(tmp_path / "a.pth", official)
    assert torch.load(tmp_path / "a.pth", weights_only=True).keys() == {"model"}
    save_checkpoint(tmp_path / "b.pth", {"features.1.0.attn.qkv.weight": torch.ones(2)})
    assert torch.load(tmp_path / "b.pth", weights_only=True).keys() == {"features.1.0.attn.qkv.weight"}


def test_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "m.pth"
    save_checkpoint(path, TENSORS)
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(CheckpointError, match=r"m\.pth cannot be written: No space left"):
        save_checkpoint(path, {"a": torch.ones(1)})
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["m.pth"]


@pytest.mark.parametrize(("name", "said"), [("m.onnx", "must end in .safetensors"), ("no/m.pth", "there is no folder")])
def test_impossible_target(tmp_path, name, said):
    with pytest.raises(CheckpointError, match=said):
        save_checkpoint(tmp_path / name, TENSORS)


@pytest.mark.parametrize("container", ["model", "state_dict", "model_state", "module"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
def test_containers_and_wrappers_are_taken_off(tmp_path, container, prefix):
    content = {container: {prefix + key: value for key, value in TENSORS.items()}, "epoch": 3, "optimizer": {"lr": 0.1}}
    torch.save(content, tmp_path / "c.pth")
    assert same(read_checkpoint(tmp_path / "c.pth").state_dict, TENSORS)


def test_older_torch_file_format(tmp_path):
    torch.save(TENSORS, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert same(read_checkpoint(tmp_path / "old.pth").state_dict, TENSORS)


def test_training_checkpoint_of_ours(tmp_path):
    averaged = {key: value + 1 for key, value in TENSORS.items()}
    content = {"state_dict": {"model." + key: value for key, value in TENSORS.items()}, "swin": METADATA, "epoch": 1}
    torch.save(content, tmp_path / "last.ckpt")
    file = read_checkpoint(tmp_path / "last.ckpt")
    assert same(file.state_dict, TENSORS)
    assert file.metadata == METADATA
    torch.save(content | {"ema_state_dict": averaged}, tmp_path / "last.ckpt")
    assert same(read_checkpoint(tmp_path / "last.ckpt").state_dict, averaged)


def test_training_settings_of_other_code_are_read_as_nothing(tmp_path, monkeypatch):
    """The official checkpoints hold a yacs configuration, torchvision's an argparse one; neither is imported or run."""
    yacs = types.ModuleType("yacs.config")

    class CfgNode(dict):
        pass

    CfgNode.__module__, CfgNode.__qualname__, yacs.CfgNode = "yacs.config", "CfgNode", CfgNode
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "yacs", types.ModuleType("yacs"))
        patch.setitem(sys.modules, "yacs.config", yacs)
        config = CfgNode(MODEL=CfgNode(TYPE="swin"))
        config.__dict__["__immutable__"] = True
        torch.save({"model": TENSORS, "config": config, "args": argparse.Namespace(lr=1)}, tmp_path / "c.pth")
    assert same(read_checkpoint(tmp_path / "c.pth").state_dict, TENSORS)
    assert "yacs.config" not in sys.modules


class Malicious:
    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return (os.system, (self.command,))


@pytest.mark.parametrize("zipped", [True, False])
def test_no_code_of_a_pickle_runs(tmp_path, zipped):
    path, trace = tmp_path / "evil.pth", tmp_path / "ran"
    content = {"model": TENSORS, "x": Malicious(f"touch {trace}")}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=r"evil\.pth is refused: it asks for posix\.system"):
        read_checkpoint(path)
    assert not trace.exists()
    # It would have run indeed; in a process of its own, for this one has threads of many libraries.
    subprocess.run([sys.executable, "-c", "import sys, torch; torch.load(sys.argv[1], weights_only=False)", path])
    assert trace.exists()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_pickle_is_no_way_round(tmp_path, protocol):
    path, trace = tmp_path / "evil.pkl", tmp_path / "ran"
    path.write_bytes(pickle.dumps(Malicious(f"touch {trace}"), protocol))
    with pytest.raises(CheckpointError, match=r"evil\.pkl"):
        read_checkpoint(path)
    assert not trace.exists()


def test_whole_modules_are_refused(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pth")
    with pytest.raises(
        CheckpointError,
        match=r"module\.pth is refused: it asks for torch\.nn\.modules\.linear\.Linear.*save its state dict",
    ):
        read_checkpoint(tmp_path / "module.pth")


def zip_of_text():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("readme.txt", "hello")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"\n <!DOCTYPE html><html><body>404</body></html>", "is a web page"),
        (b"<html></html>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 5\n", "Git LFS pointer"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "neither safetensors nor a torch file"),
        (b"just some words", "neither safetensors nor a torch file"),
        (zip_of_text(), "damaged or cut short"),
        (b"\x80\x04N.", "holds a NoneType, not a state dict"),
        (b"\x80\x04N", "damaged or cut short"),
        ((10**6).to_bytes(8, "little") + b"{" + bytes(99), "damaged or cut short"),
        ((2).to_bytes(8, "little") + b"{}", "no tensors"),
    ],
)
def test_what_is_no_checkpoint_says_what_it_is(tmp_path, content, said):
    path = tmp_path / "file.pth"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=said) as error:
        read_checkpoint(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("ending", ["safetensors", "pth"])
@pytest.mark.parametrize("kept", [0.02, 0.3, 0.9, 0.999])
def test_cut_files(tmp_path, ending, kept):
    path = tmp_path / f"m.{ending}"
    save_checkpoint(path, {f"w{i}": torch.randn(100, 10) for i in range(10)})
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(CheckpointError, match=r"damaged or cut short.*fetch it again"):
        read_checkpoint(path)


def test_missing_and_folder(tmp_path):
    with pytest.raises(CheckpointError, match=r"gone\.pth does not exist"):
        read_checkpoint(tmp_path / "gone.pth")
    with pytest.raises(CheckpointError, match="is a folder: name the checkpoint file in it"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([TENSORS], "holds a list, not a state dict"),
        (torch.ones(3), "holds a Tensor, not a state dict"),
        ({"norm.weight": torch.ones(1), "lr": 0.1}, r"not named tensors \(lr\)"),
        ({"model": {}}, "no tensors"),
        ({"model": TENSORS, "swin": "text"}, "'swin' entry that is not a model's description"),
    ],
)
def test_torch_files_of_something_else(tmp_path, content, said):
    torch.save(content, tmp_path / "m.pth")
    with pytest.raises(CheckpointError, match=said):
        read_checkpoint(tmp_path / "m.pth")


def test_broken_description_in_safetensors(tmp_path):
    safetensors.torch.save_file(TENSORS, tmp_path / "m.safetensors", metadata={"swin": "{not json"})
    with pytest.raises(CheckpointError, match=r"m\.safetensors is damaged"):
        read_checkpoint(tmp_path / "m.safetensors")
    safetensors.torch.save_file(TENSORS, tmp_path / "m.safetensors", metadata={"swin": json.dumps([1])})
    with pytest.raises(CheckpointError, match="not a model's description"):
        read_checkpoint(tmp_path / "m.safetensors")
