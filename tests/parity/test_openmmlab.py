"""OpenMMLab's patch merging, written anew from its description (nn.Unfold, then norm, then reduction), as the peer."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from swin_transformer_pytorch.backbone.config import SwinConfig
from swin_transformer_pytorch.models.backbone import SwinBackbone
from swin_transformer_pytorch.models.classification import SwinClassifier
from swin_transformer_pytorch.weights.formats import convert_state_dict
from swin_transformer_pytorch.weights.load import load_weights

CONFIG = SwinConfig(embed_dim=8, depths=(2, 1, 1), num_heads=(1, 2, 4), window_size=4, single_window="keep")


class UnfoldMerging(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.norm = nn.LayerNorm(4 * dim)
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)

    def forward(self, x):
        height, width = (x.shape[1] + 1) // 2, (x.shape[2] + 1) // 2
        x = F.pad(x.permute(0, 3, 1, 2), (0, x.shape[2] % 2, 0, x.shape[1] % 2))
        x = F.unfold(x, kernel_size=2, stride=2).transpose(1, 2)  # B L 4C
        return self.reduction(self.norm(x)).unflatten(1, (height, width))


@pytest.mark.parametrize("size", [(8, 8), (7, 10)])
def test_patch_merging_gives_the_same_map(size):
    model = SwinBackbone(CONFIG, out_indices=(0, 1, 2)).double()
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    theirs = convert_state_dict(model.state_dict(), to="openmmlab")
    merging = UnfoldMerging(8).double()
    prefix = "backbone.stages.0.downsample."
    merging.load_state_dict({key.removeprefix(prefix): v for key, v in theirs.items() if key.startswith(prefix)})
    x = torch.randn(2, *size, 8, dtype=torch.float64)
    ours = model.layers[0].downsample
    assert (merging(x) - ours(x)).abs().max() < 1e-12
    # It is another order indeed: unconverted weights give another map.
    merging.load_state_dict(ours.state_dict())
    assert (merging(x) - ours(x)).abs().max() > 1


@pytest.mark.parametrize("prefix", ["backbone.", ""])
def test_keys_are_those_of_the_detection_backbone(prefix):
    model = SwinBackbone(CONFIG, out_indices=(0, 1, 2))
    theirs = {
        key.replace("backbone.", prefix, 1): v for key, v in convert_state_dict(model.state_dict(), "openmmlab").items()
    }
    assert {f"{prefix}{key}" for key in (
        "patch_embed.projection.weight", "patch_embed.norm.bias", "stages.0.blocks.0.norm1.weight",
        "stages.0.blocks.0.attn.w_msa.relative_position_bias_table", "stages.0.blocks.0.attn.w_msa.qkv.bias",
        "stages.0.blocks.1.attn.w_msa.proj.weight", "stages.0.blocks.0.ffn.layers.0.0.weight",
        "stages.0.blocks.0.ffn.layers.1.bias", "stages.0.downsample.norm.weight",
        "stages.1.downsample.reduction.weight", "norm0.weight", "norm2.bias",
    )} <= theirs.keys()  # fmt: skip
    theirs[f"{prefix}stages.0.blocks.0.attn.w_msa.relative_position_index"] = torch.zeros(16, 16, dtype=torch.int64)
    copy = SwinBackbone(CONFIG, out_indices=(0, 1, 2))
    report = load_weights(copy, theirs)
    assert report.format == "openmmlab"
    assert len(report.loaded) == len(model.state_dict())
    assert all(torch.equal(value, copy.state_dict()[key]) for key, value in model.state_dict().items())


def test_classifier_of_mmpretrain_has_its_norm_by_stage():
    state_dict = SwinClassifier(CONFIG, num_classes=3).state_dict()
    theirs = convert_state_dict(state_dict, to="openmmlab")
    assert {"backbone.norm2.weight", "head.fc.weight"} <= theirs.keys()
    assert "norm.weight" in convert_state_dict(theirs, to="official")
