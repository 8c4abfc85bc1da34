import pytest
import torch

from swin_transformer_pytorch.backbone.config import SwinConfig
from swin_transformer_pytorch.models.backbone import SwinBackbone
from swin_transformer_pytorch.models.classification import SwinClassifier
from swin_transformer_pytorch.weights.formats import (
    FORMATS,
    FormatError,
    convert_state_dict,
    detect_format,
    to_official,
)

CONVERTED = [name for name in FORMATS if name != "seed"]
SHAPE = {"embed_dim": 8, "depths": (2, 1, 1), "num_heads": (1, 2, 4), "window_size": 4}
V1, V2 = SwinConfig(version=1, **SHAPE), SwinConfig(version=2, **SHAPE)
SEED = {"stage1.patch_partition.linear.weight": torch.zeros(8, 48), "mlp_head.1.bias": torch.zeros(3)}


def random_state_dict(model):
    generator = torch.Generator().manual_seed(0)
    return {key: torch.randn(value.shape, generator=generator) for key, value in model.state_dict().items()}


def classifier(config=V1):
    return random_state_dict(SwinClassifier(config, num_classes=3))


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("config", [V1, V2], ids=["v1", "v2"])
@pytest.mark.parametrize("through", CONVERTED)
@pytest.mark.parametrize("then", CONVERTED)
def test_round_trip_gives_identical_tensors(config, through, then):
    start = classifier(config)
    there = convert_state_dict(start, to=through, window_size=4)
    assert detect_format(there) == through
    further = convert_state_dict(there, to=then, window_size=4)
    assert detect_format(further) == then
    assert same(convert_state_dict(further, to="official"), start)
    # The other way round: what that format held comes back too, its derived buffers included.
    assert same(convert_state_dict(further, to=through, window_size=4), there)


@pytest.mark.parametrize("to", ["official", "transformers", "openmmlab"])
def test_dense_backbone_round_trip(to):
    start = random_state_dict(SwinBackbone(V1, out_indices=(0, 1, 2)))
    assert same(convert_state_dict(convert_state_dict(start, to=to), to="official"), start)


@pytest.mark.parametrize("to", ["timm", "torchvision"])
def test_dense_norms_have_no_place_in_classification_libraries(to):
    start = random_state_dict(SwinBackbone(V1, out_indices=(2,)))
    with pytest.raises(FormatError, match=r"no place.*norm2\.bias, norm2\.weight"):
        convert_state_dict(start, to=to)


def test_the_input_is_left_alone():
    start = classifier()
    before = {key: value.clone() for key, value in start.items()}
    for to in CONVERTED:
        for tensor in convert_state_dict(start, to=to).values():
            assert isinstance(tensor, torch.Tensor)
    assert same(start, before)


def test_official_reader_drops_derived_buffers():
    start = classifier(V2)
    buffers = {
        "layers.0.blocks.1.attn_mask": torch.zeros(4, 16, 16),
        "layers.0.blocks.0.attn.relative_position_index": torch.zeros(16, 16, dtype=torch.int64),
        "layers.0.blocks.0.attn.relative_coords_table": torch.zeros(1, 7, 7, 2),
    }
    assert same(convert_state_dict({**start, **buffers}, to="official"), start)


def test_window_of_v2_is_taken_from_stored_coordinates():
    start = classifier(V2)
    stored = {
        "layers.0.blocks.0.attn.relative_coords_table": torch.zeros(1, 7, 7, 2),
        "layers.2.blocks.0.attn.relative_coords_table": torch.zeros(1, 3, 3, 2),
    }
    assert same(
        convert_state_dict({**start, **stored}, to="torchvision"),
        convert_state_dict(start, "torchvision", window_size=4),
    )


def test_window_that_cannot_be_known_must_be_given():
    with pytest.raises(FormatError, match="give window_size"):
        convert_state_dict(classifier(V2), to="torchvision")
    with pytest.raises(FormatError, match="21 offsets.*give window_size"):
        convert_state_dict(classifier(V1.replace(window_size=(2, 4))), to="torchvision")


def test_simmim_prefix_and_its_old_name_of_the_bias_network():
    start = random_state_dict(SwinClassifier(V2, num_classes=0))
    pretrained = {"encoder." + key.replace("cpb_mlp", "rpe_mlp"): value for key, value in start.items()}
    pretrained |= {"encoder.mask_token": torch.ones(1, 1, 8), "decoder.0.weight": torch.ones(3072, 32, 1, 1)}
    named = to_official(pretrained)
    assert same(named, start | {"mask_token": torch.ones(1, 1, 8), "decoder.0.weight": torch.ones(3072, 32, 1, 1)})
    # transformers has the masked model too; the others have no place for its parts.
    written = convert_state_dict(convert_state_dict(named, "transformers"), "official")
    assert same(
        written, {key if key.startswith("decoder.") else f"encoder.{key}": value for key, value in named.items()}
    )
    assert same(to_official(written), named)
    for to in ("timm", "openmmlab"):
        assert same(convert_state_dict(named, to=to), convert_state_dict(start, to=to))


def test_older_names_of_transformers_v1():
    start = classifier()
    older = {
        key.replace(".attention.relative_position_bias.", ".attention.self.")
        .replace(".attention.q_proj.", ".attention.self.query.")
        .replace(".attention.k_proj.", ".attention.self.key.")
        .replace(".attention.v_proj.", ".attention.self.value.")
        .replace(".attention.o_proj.", ".attention.output.dense.")
        .replace(".mlp.fc1.", ".intermediate.dense.")
        .replace(".mlp.fc2.", ".output.dense."): value
        for key, value in convert_state_dict(start, to="transformers").items()
    }
    older["swin.encoder.layers.0.blocks.0.attention.self.relative_position_index"] = torch.zeros(16, 16)
    assert same(convert_state_dict(older, to="official"), start)


def test_v2_bias_in_one_piece_is_split():
    start = classifier(V2)
    fused = convert_state_dict(start, to="torchvision", window_size=4)
    bias = fused["features.1.0.attn.qkv.bias"]
    assert torch.equal(bias[8:16], torch.zeros(8))
    fused["features.1.0.attn.qkv.bias"] = torch.cat([bias[:8], torch.full((8,), 7.0), bias[16:]])
    assert same(convert_state_dict(fused, to="official"), start)


def test_seed_is_another_architecture():
    assert detect_format(SEED) == "seed"
    assert same(convert_state_dict(SEED, to="seed"), SEED)
    with pytest.raises(FormatError, match=r"'seed' does not convert to 'timm'.*compat"):
        convert_state_dict(SEED, to="timm")
    with pytest.raises(FormatError, match="'official' does not convert to 'seed'"):
        convert_state_dict(classifier(), to="seed")


def test_one_stage_is_official_without_timms_head():
    single = SwinConfig(embed_dim=8, depths=(1,), num_heads=(1,), window_size=4)
    start = random_state_dict(SwinClassifier(single, num_classes=3))
    assert detect_format(start) == "official"
    assert detect_format(convert_state_dict(start, to="timm")) == "timm"


@pytest.mark.parametrize("state_dict", [{}, {"conv1.weight": torch.zeros(1)}, {"cls_token": torch.zeros(1, 1, 8)}])
def test_unknown_keys_are_shown(state_dict):
    with pytest.raises(FormatError, match=f"known format.*{next(iter(state_dict), 'none')}"):
        detect_format(state_dict)


def test_unknown_key_among_known_ones():
    with pytest.raises(FormatError, match="absolute_pos_embed"):
        convert_state_dict(classifier() | {"absolute_pos_embed": torch.zeros(1)}, to="timm")


@pytest.mark.parametrize("arguments", [{"to": "keras"}, {"to": "timm", "source": "keras"}])
def test_unknown_format_lists_the_known(arguments):
    with pytest.raises(FormatError, match="'keras' is not a format.*official, timm"):
        convert_state_dict(classifier(), **arguments)
