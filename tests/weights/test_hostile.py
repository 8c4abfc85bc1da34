"""Files that were made to hurt, or that claim what cannot be: each is one clear error, at once and in little memory."""

import json
import re
import struct
import time
import zipfile

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from swin_transformer_pytorch.backbone.config import SwinConfig
from swin_transformer_pytorch.models.classification import SwinClassifier
from swin_transformer_pytorch.models.registry import load_model
from swin_transformer_pytorch.optimize import optimize_for_inference
from swin_transformer_pytorch.predict import Predictor
from swin_transformer_pytorch.weights.files import CheckpointError, read_checkpoint, save_checkpoint
from swin_transformer_pytorch.weights.finite import not_finite
from swin_transformer_pytorch.weights.formats import convert_state_dict
from swin_transformer_pytorch.weights.load import load_weights, open_checkpoint
from swin_transformer_pytorch.weights.preprocessing import Preprocessing

CONFIG = SwinConfig(embed_dim=8, depths=(1, 1), num_heads=(1, 2), window_size=4)
TENSORS = {"norm.weight": torch.ones(4)}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return SwinClassifier(CONFIG, num_classes=3, classes=("a", "b", "c"), preprocessing=Preprocessing.imagenet(32))


def one_short_error(path, said, read=read_checkpoint):
    """That reading it is one CheckpointError of at most a page, within seconds."""
    start = time.monotonic()
    with pytest.raises(CheckpointError, match=said) as error:
        read(path)
    assert path.name in str(error.value)
    assert len(str(error.value)) < 6000
    assert time.monotonic() - start < 10


def nested(depth, kind):
    value = kind()
    for _ in range(depth):
        value = {"model": value} if kind is dict else [value]
    return value


def test_a_dict_that_holds_itself_or_others_without_end(tmp_path):
    path = tmp_path / "m.pth"
    for key in ("model", "state_dict", "module"):
        loop = {"epoch": 1}
        loop[key] = loop
        torch.save(loop, path)
        one_short_error(path, "a dict in a dict")
    first, second = {}, {}
    first["model"], second["state_dict"] = second, first
    torch.save(first, path)
    one_short_error(path, "a dict in a dict")
    torch.save(nested(300, dict), path)
    one_short_error(path, "a dict in a dict")
    wrapped = {"model": {"state_dict": {"module": TENSORS}}}
    torch.save(wrapped, path)
    assert read_checkpoint(path).state_dict.keys() == TENSORS.keys()


def rewritten(path, to, change=lambda name, data: data, **options):
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(to, "w", **options) as new:
        for member in old.infolist():
            new.writestr(member.filename, change(member.filename, old.read(member)))
    return to


def test_a_small_file_that_unpacks_to_a_large_one_is_not_unpacked(tmp_path, monkeypatch):
    torch.save({"model": {"w": torch.zeros(30_000_000)}}, tmp_path / "large.pth")
    bomb = rewritten(tmp_path / "large.pth", tmp_path / "bomb.pth", compression=zipfile.ZIP_DEFLATED)
    assert bomb.stat().st_size < 1_000_000
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("it was unpacked"))
    one_short_error(bomb, r"is refused: it has [\d,]+ bytes and would unpack to 120,\d{3},\d{3}")


def test_a_compressed_file_of_honest_size_is_read(tmp_path):
    content = {"model": {"w": torch.randn(100, 100)}}
    torch.save(content, tmp_path / "m.pth")
    packed = rewritten(tmp_path / "m.pth", tmp_path / "packed.pth", compression=zipfile.ZIP_DEFLATED)
    assert torch.equal(read_checkpoint(packed).state_dict["w"], content["model"]["w"])


def test_a_tensor_that_claims_more_numbers_than_the_file_holds(tmp_path):
    path = tmp_path / "m.pth"
    torch.save({"w": torch.zeros(1).expand(1_000_000, 1_000_000)}, path)
    one_short_error(path, r"would unpack to 4,000,000,000,000")
    whole = torch.zeros(1_000_000)
    torch.save({f"w{i}": whole[:] for i in range(100)}, path)
    one_short_error(path, "would unpack to 400,000,000")
    torch.save({"model": {"w": torch.arange(1000.0)}}, path)
    count, claim = b"M" + struct.pack("<H", 1000), b"J" + struct.pack("<i", 2_000_000_000)
    more = rewritten(path, tmp_path / "more.pth", lambda name, data: data.replace(count, claim))
    one_short_error(more, "damaged or cut short")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.zeros(2, 2).to_sparse(),
        lambda: torch.quantize_per_tensor(torch.zeros(2), 1.0, 0, torch.qint8),
        lambda: torch.zeros(2, device="meta"),
    ],
    ids=["sparse", "quantized", "meta"],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_tensors_that_are_not_dense_are_named(tmp_path, make, zipped):
    torch.save({"odd.weight": make()}, tmp_path / "m.pth", _use_new_zipfile_serialization=zipped)
    one_short_error(tmp_path / "m.pth", r"not named tensors \(odd\.weight\)|damaged|refused")


@pytest.mark.parametrize("key", [10**600, ("a",) * 50_000, None, "k" * 1_000_000], ids=lambda key: type(key).__name__)
def test_keys_of_any_kind_and_size(tmp_path, key):
    torch.save({key: 1, **TENSORS}, tmp_path / "m.pth")
    one_short_error(tmp_path / "m.pth", r"not named tensors \((a (int|tuple|NoneType)|k{100})\)")


def test_200000_keys_make_a_short_message(model):
    one = torch.ones(1)
    more = {f"layers.0.extra{i}": one for i in range(200_000)}
    said = r"(?s)unexpected \(200000\):.*and 199,950 more"
    for state_dict, match in (({**model.state_dict(), **more}, said), ({"model": more}, r"\(200000 in all\)")):
        with pytest.raises(CheckpointError, match=match) as error:
            load_weights(model, state_dict)
        assert len(str(error.value)) < 6000


DEEP = json.loads("[" * 200 + "]" * 200)
LOOP: dict[str, object] = {}
LOOP["backbone"] = LOOP
ABSURD = [
    ("config.embed_dim", 10**9),
    ("config.embed_dim", 1e9),
    ("config.embed_dim", -8),
    ("config.embed_dim", 10**600),
    ("config.embed_dim", 10**5000),
    ("config.depths", [10**9, 10**9]),
    ("config.depths", [-1, 1]),
    ("config.depths", [1] * 100_000),
    ("config.num_heads", [0, 0]),
    ("config.window_size", [10**6, 10**18]),
    ("config.mlp_ratio", float("nan")),
    ("config.mlp_ratio", float("inf")),
    ("config.mlp_ratio", 1e300),
    ("config.drop_path_rate", float("nan")),
    ("config.embed_dim", "x" * 1_000_000),
    ("config.embed_dim", DEEP),
    ("config." + "y" * 100_000, 1),
    ("config", LOOP),
    ("config", DEEP),
    ("num_classes", 10**12),
    ("num_classes", -3),
    ("num_classes", 2**70),
    ("classes", ["x" * 1_000_000, "b", "c"]),
    ("classes", ["a"] * 200_000),
    ("preprocessing.mean", [float("nan")] * 3),
    ("preprocessing.mean", [10**400] * 3),
    ("preprocessing.std", [0.0] * 3),
    ("preprocessing.image_size", 10**18),
    ("preprocessing.image_size", [-1, 5]),
    ("preprocessing", DEEP),
    ("palette", [[10**400] * 3] * 3),
    ("palette", [[0, 0, float("nan")]] * 3),
    ("format_version", 10**600),
    ("format_version", "1" * 1_000_000),
    ("task", "t" * 1_000_000),
    ("name", DEEP),
    ("more", LOOP),
    ("more", torch.ones(3)),
]


@pytest.mark.parametrize(("where", "value"), ABSURD, ids=range(len(ABSURD)))
def test_absurd_descriptions(tmp_path, model, where, value):
    described = json.loads(json.dumps(model.metadata()))
    inner = described
    *path, last = where.split(".")
    for name in path:
        inner = inner[name]
    inner[last] = value
    torch.save({"model": model.state_dict(), "swin": described}, tmp_path / "m.pth")
    one_short_error(tmp_path / "m.pth", "description|describes|format_version", load_model)
    try:
        text = json.dumps(described)
    except (TypeError, ValueError, RecursionError):
        return  # not to be had in JSON
    safetensors.torch.save_file(model.state_dict(), tmp_path / "m.safetensors", metadata={"swin": text})
    one_short_error(tmp_path / "m.safetensors", "description|describes|format_version", load_model)


def test_json_too_deep_to_read(tmp_path):
    for text in (
        "[" * 100_000 + "]" * 100_000,
        '{"config": ' * 50_000 + "1" + "}" * 50_000,
        '{"n": ' + "1" * 5000 + "}",
    ):
        safetensors.torch.save_file(TENSORS, tmp_path / "m.safetensors", metadata={"swin": text})
        one_short_error(tmp_path / "m.safetensors", "damaged")


@settings(max_examples=150)
@given(data=st.data())
def test_mutated_files_load_right_or_are_named(tmp_path_factory, model, data):
    """Bits flipped, pieces cut out or doubled: an error of ours, or a model. (A tensor's own bits have no checksum.)"""
    folder = tmp_path_factory.mktemp("mutated")
    path = folder / f"m.{data.draw(st.sampled_from(['pth', 'safetensors']))}"
    save_checkpoint(path, model.state_dict(), model.metadata())
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        # Headers and the list at the end are a small part of the file, and the one that matters.
        size = len(content)
        place = data.draw(st.one_of(st.integers(0, 5000), st.integers(-5000, -1), st.integers(0, size - 1))) % size
        kind = data.draw(st.sampled_from(["flip", "cut", "double"]))
        if kind == "flip":
            content[place] ^= 1 << data.draw(st.integers(0, 7))
        else:
            piece = content[place : place + data.draw(st.integers(1, 300))]
            content[place : place + len(piece)] = b"" if kind == "cut" else piece * 2
    path.write_bytes(content)
    said = path.name
    try:
        load_model(path)
    except CheckpointError as error:
        said = str(error)
    assert path.name in said
    assert len(said) < 10_000


BAD = [float("nan"), float("inf"), float("-inf")]


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_weights_that_are_no_numbers_are_said_and_not_predicted_with(tmp_path, model, caplog, bad, ending):
    state_dict = {key: value.clone() for key, value in model.state_dict().items()}
    state_dict["layers.0.blocks.0.mlp.fc1.weight"][3, 2] = bad
    state_dict["head.bias"][:] = bad
    save_checkpoint(tmp_path / f"m.{ending}", state_dict, model.metadata())
    caplog.clear()
    damaged = load_model(tmp_path / f"m.{ending}")
    said = r"2 tensors hold NaN or infinite numbers.*(head\.bias|fc1\.weight), (head\.bias|layers.*fc1\.weight)"
    assert re.search(said, caplog.text)
    report = load_weights(damaged, tmp_path / f"m.{ending}")
    assert re.search(said, report.notes[-1])
    with pytest.raises(
        ValueError, match=r"weights are damaged: 2 .*layers\.0\.blocks\.0\.mlp\.fc1\.weight, head\.bias"
    ):
        Predictor(damaged, device="cpu")
    with pytest.raises(ValueError, match="weights are damaged"):
        Predictor(tmp_path / f"m.{ending}", device="cpu")
    Predictor(model, device="cpu")
    Predictor(optimize_for_inference(model), device="cpu")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_finite_numbers_of_any_size_are_finite(dtype):
    largest = torch.finfo(dtype).max
    tensors = {"large": torch.full((1000,), largest, dtype=dtype), "none": torch.ones(0, dtype=dtype)}
    tensors["both"] = torch.tensor([largest, largest, -largest, -largest], dtype=dtype)
    tensors["whole"] = torch.full((3,), 2**40)
    assert not_finite(tensors) == []
    tensors["zero"] = torch.tensor([float("inf"), float("-inf")], dtype=dtype)
    assert not_finite(tensors) == ["zero"]


def test_an_honest_description_is_read(tmp_path, model):
    described = {**model.metadata(), "note": "by hand", "made": 1_700_000_000, "scores": {"top1": float("nan")}}
    torch.save({"model": model.state_dict(), "swin": described}, tmp_path / "m.pth")
    assert open_checkpoint(tmp_path / "m.pth").num_classes == 3


@settings(max_examples=60)
@given(data=st.data())
def test_a_bit_of_a_torch_file_saved_by_hand_that_changed_is_found(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("flipped") / "m.pth"
    torch.save({"model": {"w": torch.rand(100)}}, path)
    with zipfile.ZipFile(path) as archive:
        member = data.draw(st.sampled_from(archive.infolist()))
        held = archive.read(member)
    content = bytearray(path.read_bytes())
    # Behind a member's own header of 30 bytes are its name and what aligns its content.
    name, extra = struct.unpack("<HH", content[member.header_offset + 26 : member.header_offset + 30])
    start = member.header_offset + 30 + name + extra
    assert content[start : start + len(held)] == held
    content[start + data.draw(st.integers(0, len(held) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    one_short_error(path, "is damaged .*CRC-32 has changed")


def test_a_torch_file_without_checksums_is_read(tmp_path):
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"model": TENSORS}, tmp_path / "m.pth")
    finally:
        torch.serialization.set_crc32_options(True)
    assert read_checkpoint(tmp_path / "m.pth").state_dict.keys() == TENSORS.keys()


V2 = CONFIG.replace(version=2)
COORDS = "layers.0.blocks.0.attn.relative_coords_table"
REDUCTION = "backbone.stages.0.downsample.reduction.weight"
Q_PROJ = "swin.encoder.layers.0.blocks.0.attention.q_proj"
# What torch would join with the key's and value's, as numbers of another kind or not at all.
UNLIKE = [torch.ones(8, 8, dtype=torch.int8), torch.ones(8, 8).half()]
UNLIKE += [torch.ones(shape) for shape in ((4, 8), (8,), (8, 8, 1))]
ODD = [
    (V2, "timm", {"layers.0.blocks.0.attn.qkv.bias": torch.zeros(())}),
    (CONFIG, "openmmlab", {REDUCTION: torch.zeros(())}),
    (CONFIG, "openmmlab", {REDUCTION: torch.zeros(6, 6)}),
    (CONFIG, "timm", {f"layers.{'9' * 5000}.downsample.norm.weight": torch.ones(8)}),
    (CONFIG, "timm", {f"layers.{'9' * 900}.downsample.norm.weight": torch.ones(8)}),
    (CONFIG, "torchvision", {f"features.{'9' * 5000}.norm.weight": torch.ones(8)}),
    *((V2, "official", {COORDS: torch.full((1, 7, 7, 2), number)}) for number in (float("nan"), 1e30)),
    *((V2, "official", {COORDS: torch.ones(shape)}) for shape in ((0, 7, 7, 2), (1, 7, 0, 2))),
    (V2, "official", {COORDS: torch.ones(1, 7, 7, 2, dtype=torch.bool)}),
    *((CONFIG, "transformers", {f"{Q_PROJ}.weight": tensor}) for tensor in UNLIKE),
    (CONFIG, "transformers", {f"{Q_PROJ}.bias": torch.ones(8, dtype=torch.int64)}),
]


@pytest.mark.parametrize(("config", "form", "change"), ODD, ids=range(len(ODD)))
def test_tensors_that_no_model_of_the_format_has(tmp_path, config, form, change):
    classifier = SwinClassifier(config, num_classes=3)
    named = convert_state_dict(classifier.state_dict(), form, window_size=4)
    torch.save({"model": {**named, **change}}, tmp_path / "m.pth")
    said = "no Swin model has|not named tensors|does not fit"
    one_short_error(tmp_path / "m.pth", said, lambda path: load_weights(classifier, path))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float8_e4m3fn, torch.float8_e5m2])
def test_numbers_that_the_models_type_does_not_hold_are_said(tmp_path, model, dtype, caplog):
    largest = torch.full_like(model.state_dict()["head.bias"], torch.finfo(dtype).max, dtype=dtype)
    grey = model.state_dict()["patch_embed.proj.weight"][:, :1].to(dtype)
    file = {**model.state_dict(), "head.bias": largest, "patch_embed.proj.weight": grey}
    report = load_weights(SwinClassifier(CONFIG, num_classes=3), file)
    assert [change.key for change in report.adapted] == ["patch_embed.proj.weight"]
    said = "1 tensors hold NaN or infinite numbers" in caplog.text
    assert said == (dtype == torch.float64) == any("infinite" in note for note in report.notes)
