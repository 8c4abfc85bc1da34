"""Mask2Former in its authors' layout, transformers' and OpenMMLab's."""

import dataclasses
import pickle

import pytest
import torch

from swin_transformer_pytorch.weights.catalog_mask2former import MASK2FORMER_RECORDS
from swin_transformer_pytorch.weights.files import read_checkpoint, save_checkpoint
from swin_transformer_pytorch.weights.formats import FormatError, convert_state_dict, detect_format, to_official
from swin_transformer_pytorch.weights.formats.dense import is_whole
from swin_transformer_pytorch.weights.load import Checkpoint, open_checkpoint
from swin_transformer_pytorch.weights.methods import method_of, num_classes_of

ENCODER_LAYERS, DECODER_LAYERS, CLASSES, QUERIES, DIM = 6, 9, 5, 7, 32
BACKBONE, COUNTERWEIGHT = "model.pixel_level_module.encoder.", "criterion.empty_weight"
UNUSED = {"backbone.norm.weight", "backbone.norm.bias"}

CONFIG = (
    *("feature_size", "mask_feature_size", "hidden_dim", "num_attention_heads", "encoder_feedforward_dim"),
    *("dim_feedforward", "num_queries", "encoder_layers", "decoder_layers", "id2label", "label2id"),
)


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def peer(embed_dim=8, depths=(2, 1, 1, 1), num_heads=(1, 2, 2, 4), window_size=3, **config):
    from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, SwinConfig

    stages = [f"stage{i}" for i in range(1, 5)]
    swin = {"depths": list(depths), "num_heads": list(num_heads), "window_size": window_size, "out_features": stages}
    return Mask2FormerForUniversalSegmentation(
        Mask2FormerConfig(backbone_config=SwinConfig(embed_dim=embed_dim, **swin), **config)
    ).eval()


@pytest.fixture(scope="module")
def theirs():
    """transformers' model, with random numbers in all that is trained."""
    model = peer(
        feature_size=DIM,
        mask_feature_size=DIM,
        hidden_dim=DIM,
        num_attention_heads=4,
        encoder_feedforward_dim=24,
        dim_feedforward=48,
        num_queries=QUERIES,
        num_labels=CLASSES,
        encoder_layers=ENCODER_LAYERS,
        decoder_layers=DECODER_LAYERS + 1,
    )
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".swin.layernorm." not in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return model


@pytest.fixture(scope="module")
def ours(theirs):
    return convert_state_dict(theirs.state_dict(), to="official")


def affine(*names):
    return [f"{name}.{kind}" for name in names for kind in ("weight", "bias")]


def attention(name):
    return [f"{name}.in_proj_weight", f"{name}.in_proj_bias", *affine(f"{name}.out_proj")]


def deformable(name):
    parts = ("sampling_offsets", "attention_weights", "value_proj", "output_proj")
    return affine(*(f"{name}.{part}" for part in parts))


def authors_heads():
    """Every name in the authors' heads, written out from their modules."""
    pixels, decoder = "sem_seg_head.pixel_decoder", "sem_seg_head.predictor"
    names = affine(*(f"{pixels}.input_proj.{level}.{part}" for level in range(3) for part in range(2)))
    names += [f"{pixels}.transformer.level_embed", *affine(f"{pixels}.mask_features")]
    for i in range(ENCODER_LAYERS):
        layer = f"{pixels}.transformer.encoder.layers.{i}"
        names += deformable(f"{layer}.self_attn")
        names += affine(*(f"{layer}.{part}" for part in ("norm1", "linear1", "linear2", "norm2")))
    for convolution in ("adapter_1", "layer_1"):
        names += [f"{pixels}.{convolution}.weight", *affine(f"{pixels}.{convolution}.norm")]
    names += [f"{decoder}.{table}.weight" for table in ("query_feat", "query_embed", "level_embed")]
    for i in range(DECODER_LAYERS):
        names += attention(f"{decoder}.transformer_self_attention_layers.{i}.self_attn")
        names += attention(f"{decoder}.transformer_cross_attention_layers.{i}.multihead_attn")
        layers = ("self_attention_layers", "cross_attention_layers", "ffn_layers")
        names += affine(*(f"{decoder}.transformer_{layer}.{i}.norm" for layer in layers))
        names += affine(*(f"{decoder}.transformer_ffn_layers.{i}.linear{j}" for j in (1, 2)))
    names += affine(f"{decoder}.decoder_norm", f"{decoder}.class_embed")
    return names + affine(*(f"{decoder}.mask_embed.layers.{i}" for i in range(3)))


def openmmlab_heads():
    """Every name in OpenMMLab's head, written out from its modules, in the order of `authors_heads`."""
    pixels, decoder = "panoptic_head.pixel_decoder", "panoptic_head.transformer_decoder"
    names = affine(*(f"{pixels}.input_convs.{level}.{part}" for level in range(3) for part in ("conv", "gn")))
    names += [f"{pixels}.level_encoding.weight", *affine(f"{pixels}.mask_feature")]
    for i in range(ENCODER_LAYERS):
        layer = f"{pixels}.encoder.layers.{i}"
        names += deformable(f"{layer}.self_attn")
        names += affine(*(f"{layer}.{part}" for part in ("norms.0", "ffn.layers.0.0", "ffn.layers.1", "norms.1")))
    for convolution in ("lateral_convs.0", "output_convs.0"):
        names += [f"{pixels}.{convolution}.conv.weight", *affine(f"{pixels}.{convolution}.gn")]
    names += [f"panoptic_head.{table}.weight" for table in ("query_feat", "query_embed", "level_embed")]
    for i in range(DECODER_LAYERS):
        layer = f"{decoder}.layers.{i}"
        names += attention(f"{layer}.self_attn.attn") + attention(f"{layer}.cross_attn.attn")
        names += affine(*(f"{layer}.norms.{norm}" for norm in (1, 0, 2)))
        names += affine(f"{layer}.ffn.layers.0.0", f"{layer}.ffn.layers.1")
    names += affine(f"{decoder}.post_norm", "panoptic_head.cls_embed")
    return names + affine(*(f"panoptic_head.mask_embed.{i}" for i in (0, 2, 4)))


def test_every_name_of_transformers_has_one_of_the_authors_and_back(theirs, ours):
    state_dict = theirs.state_dict()
    assert detect_format(state_dict) == "transformers"
    heads = [key for key in ours if not key.startswith("backbone.")]
    assert sorted(heads) == sorted(authors_heads())
    assert same(convert_state_dict(ours, to="transformers"), state_dict)
    # Query, key and value are apart in self-attention and in the backbone's 5 blocks; three names have no place here.
    assert len(state_dict) == len(ours) + 4 * (DECODER_LAYERS + 5) + 3
    assert set(to_official(state_dict)) - set(ours) == UNUSED


def test_its_strict_loading_takes_what_is_written_and_gives_the_same_answers(theirs, ours):
    other = peer(**{key: value for key, value in theirs.config.to_dict().items() if key in CONFIG})
    other.load_state_dict(convert_state_dict(ours, to="transformers"), strict=True)
    images = torch.randn(1, 3, 37, 61, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        first, second = theirs(images), other(images)
    assert torch.equal(first.class_queries_logits, second.class_queries_logits)
    assert torch.equal(first.masks_queries_logits, second.masks_queries_logits)


def test_query_key_and_value_are_joined_in_this_order(theirs, ours):
    layer = theirs.model.transformer_module.decoder.layers[3].self_attn
    name = "sem_seg_head.predictor.transformer_self_attention_layers.3.self_attn.in_proj_"
    apart = (layer.q_proj, layer.k_proj, layer.v_proj)
    assert torch.equal(ours[f"{name}weight"], torch.cat([part.weight for part in apart]))
    assert torch.equal(ours[f"{name}bias"], torch.cat([part.bias for part in apart]))


def test_its_saved_files_have_the_older_names_of_the_backbone(theirs, ours, tmp_path):
    theirs.save_pretrained(tmp_path)
    file = read_checkpoint(tmp_path / "model.safetensors")
    assert f"{BACKBONE}encoder.layers.0.blocks.0.attention.self.query.weight" in file.state_dict
    assert file.beside == ()
    assert same(convert_state_dict(file.state_dict, to="official"), ours)


def test_every_name_of_openmmlab_has_one_of_the_authors_and_back(ours):
    there = convert_state_dict(ours, to="openmmlab")
    assert detect_format(there) == "openmmlab"
    pairs = dict(zip(authors_heads(), openmmlab_heads(), strict=True))
    assert {key for key in there if not key.startswith("backbone.")} == set(pairs.values())
    assert all(torch.equal(there[name], ours[key]) for key, name in pairs.items())
    reduction = "downsample.reduction.weight"
    assert not torch.equal(there[f"backbone.stages.0.{reduction}"], ours[f"backbone.layers.0.{reduction}"])
    assert same(convert_state_dict(there, to="official"), ours)
    assert same(convert_state_dict(convert_state_dict(there, to="transformers"), to="openmmlab"), there)


def test_the_authors_older_names(ours):
    older = {
        key.replace("sem_seg_head.pixel_decoder.", "sem_seg_head.").replace(".query_feat.", ".static_query."): value
        for key, value in ours.items()
    }
    assert "sem_seg_head.adapter_1.norm.weight" in older and "sem_seg_head.predictor.static_query.weight" in older
    assert same(to_official(older), ours)


@pytest.mark.parametrize(
    ("depths", "embed_dim", "count", "millions"),
    [((2, 2, 6, 2), 96, 469, 47.4), ((2, 2, 18, 2), 128, 625, 106.9)],
    ids=["tiny", "base"],
)
def test_published_sizes_have_as_many_names_and_parameters(depths, embed_dim, count, millions):
    heads = [embed_dim // 32 * 2**stage for stage in range(4)]
    with torch.device("meta"):
        model = peer(embed_dim, depths, heads, 12 if embed_dim == 128 else 7, num_labels=133)
    parameters = {key: value for key, value in model.state_dict().items() if key != COUNTERWEIGHT}
    named = {key: value for key, value in to_official(parameters).items() if key not in UNUSED}
    assert len(named) == count
    assert round(sum(value.numel() for value in named.values()) / 1e6, 1) == millions


@pytest.mark.parametrize("to", ["official", "transformers", "openmmlab"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_what_is_derived_is_left_out_and_said(ours, to, prefix, tmp_path):
    index = {"official": "backbone.layers.0.blocks.0.attn", "openmmlab": "backbone.stages.0.blocks.0.attn.w_msa"}
    buffers = {f"{index[to]}.relative_position_index": torch.zeros(9, 9)} if to in index else {}
    buffers[COUNTERWEIGHT] = torch.ones(CLASSES + 1)
    file = {**convert_state_dict(ours, to=to), **buffers}
    torch.save({"state_dict": {prefix + key: value for key, value in file.items()}}, tmp_path / "m.pth")
    found = open_checkpoint(tmp_path / "m.pth")
    assert found.format == to
    assert set(found.derived) == set(buffers)
    assert found.beside == ()
    assert same({key: value for key, value in found.state_dict.items() if key not in UNUSED}, ours)
    assert (found.num_classes, found.task) == (CLASSES, "panoptic")


def test_the_authors_files_of_arrays(ours, tmp_path):
    arrays = {key: value.numpy() for key, value in ours.items()}
    arrays[COUNTERWEIGHT] = torch.ones(CLASSES + 1).numpy()
    content = {"model": arrays, "__author__": "third_party", "matching_heuristics": True}
    (tmp_path / "model_final_000000.pkl").write_bytes(pickle.dumps(content))
    found = open_checkpoint(tmp_path / "model_final_000000.pkl")
    assert found.format == "official"
    assert same(found.state_dict, ours)
    assert found.derived == (COUNTERWEIGHT,)


@pytest.mark.parametrize(
    ("full_name", "task", "things"),
    [
        ("mask2former_swin_tiny_patch4_window7_panoptic.cityscapes", "panoptic", tuple(range(11, 19))),
        ("mask2former_swin_tiny_patch4_window7_semantic.cityscapes", "segmentation", tuple(range(11, 19))),
        ("mask2former_swin_tiny_patch4_window7_instance.cityscapes", "detection", tuple(range(8))),
    ],
)
def test_the_catalogue_tells_task_classes_and_things_of_alike_files(full_name, task, things):
    record = next(record for record in MASK2FORMER_RECORDS if record.full_name == full_name)
    rows = torch.zeros(record.num_classes + 1, DIM)
    found = Checkpoint(
        source="m.pkl",
        format="official",
        state_dict={"sem_seg_head.predictor.class_embed.weight": rows},
        record=record,
    )
    assert (found.task, found.tasks, found.things) == (task, (task,), things)
    assert found.classes is not None and found.classes[-1] == "bicycle"
    assert (found.palette is None) == (task == "detection")
    assert found.preprocessing == record.preprocessing
    unknown = dataclasses.replace(found, record=None)
    assert (unknown.task, unknown.classes, unknown.things) == ("panoptic", None, None)
    assert unknown.tasks == ("panoptic", "detection", "segmentation")
    described = dataclasses.replace(unknown, metadata={"task": "segmentation", "classes": None})
    assert described.tasks == ("segmentation",)


def test_names_tell_the_method(ours):
    assert is_whole(ours)
    method = method_of(ours)
    assert method is not None and (method.name, method.task) == ("mask2former", "panoptic")
    assert num_classes_of(ours) == CLASSES


@pytest.mark.parametrize("to", ["timm", "torchvision"])
def test_formats_without_it_refuse_it(ours, to):
    with pytest.raises(FormatError, match=f"'{to}' has no place for a whole detector or segmenter"):
        convert_state_dict(ours, to=to)


@pytest.mark.parametrize("to", ["transformers", "openmmlab"])
def test_other_layers_have_no_name_elsewhere(ours, to):
    extra = {"sem_seg_head.predictor.input_proj.0.weight": torch.ones(1)}
    with pytest.raises(FormatError, match=r"predictor\.input_proj\.0\.weight is no name of Mask2Former"):
        convert_state_dict({**ours, **extra}, to=to)


@pytest.mark.parametrize(
    ("kind", "odd"), [("bias", None), ("weight", torch.ones(DIM, DIM).half()), ("weight", torch.ones(DIM, DIM + 1))]
)
def test_parts_that_do_not_fit_together_stay_for_loading_to_name_them(theirs, ours, kind, odd):
    file = {**theirs.state_dict(), f"model.transformer_module.decoder.layers.2.self_attn.k_proj.{kind}": odd}
    named = to_official({key: value for key, value in file.items() if value is not None})
    attention = "sem_seg_head.predictor.transformer_self_attention_layers.2.self_attn."
    left = {f"{attention}{letter}_proj.{kind}" for letter in ("qkv" if odd is not None else "qv")}
    assert set(named) - set(ours) - UNUSED == left
    assert set(ours) - set(named) == {f"{attention}in_proj_{kind}"}


def test_the_authors_container_is_written(ours, tmp_path):
    names = tuple("abcde")
    save_checkpoint(tmp_path / "m.pth", ours, classes=names, palette=[(i, 2, 3) for i in range(5)])
    assert torch.load(tmp_path / "m.pth", weights_only=True).keys() == {"meta", "model"}
    file = read_checkpoint(tmp_path / "m.pth")
    assert file.classes == names and same(file.state_dict, ours)
    save_checkpoint(tmp_path / "mm.pth", convert_state_dict(ours, to="openmmlab"), classes=names)
    assert torch.load(tmp_path / "mm.pth", weights_only=True).keys() == {"meta", "state_dict"}
    save_checkpoint(tmp_path / "hf.bin", convert_state_dict(ours, to="transformers"))
    assert BACKBONE + "swin.layernorm.weight" in torch.load(tmp_path / "hf.bin", weights_only=True)
    assert same(convert_state_dict(read_checkpoint(tmp_path / "hf.bin").state_dict, to="official"), ours)
