import re
import subprocess
import sys

import pytest
import timm
import torchvision

from swin_transformer_pytorch.backbone.config import VARIANTS
from swin_transformer_pytorch.models.config import DENSE_VARIANTS
from swin_transformer_pytorch.weights.catalog import RECORDS, CatalogError, find_record, records
from swin_transformer_pytorch.weights.catalog_dense import DENSE_RECORDS
from swin_transformer_pytorch.weights.dense_classes import dense_class_names
from swin_transformer_pytorch.weights.formats import DENSE_FORMATS, FORMATS
from swin_transformer_pytorch.weights.preprocessing import DensePreprocessing

CLASSIFIERS = [record for record in RECORDS if record.task == "classification"]


def test_every_record_is_of_a_variant_and_named_once():
    assert len({record.full_name for record in RECORDS}) == len(RECORDS)
    assert len({record.source for record in RECORDS}) == len(RECORDS)
    assert {record.name for record in CLASSIFIERS} <= set(VARIANTS)
    assert {record.name for record in DENSE_RECORDS} <= set(DENSE_VARIANTS)


def test_every_variant_has_weights():
    assert set(VARIANTS) == {record.name for record in CLASSIFIERS}


@pytest.mark.parametrize("record", CLASSIFIERS, ids=lambda record: record.full_name)
def test_record_is_complete(record):
    assert record.format in FORMATS
    assert re.fullmatch(r"https://.+\.pth|hf:[\w-]+/[\w.-]+(/.+)?", record.source)
    assert {None: 0, "imagenet1k": 1000, "imagenet22k": 21841}[record.classes] == record.num_classes
    assert record.preprocessing.image_size == (VARIANTS[record.name].image_size,) * 2
    assert (record.top1 is None) == (record.published_by is None)
    assert record.top1 is None or 80 < record.top1 < 88
    assert record.licence in ("MIT", "BSD-3-Clause", "Apache-2.0")


@pytest.mark.parametrize("record", DENSE_RECORDS, ids=lambda record: record.full_name)
def test_dense_record_is_complete(record):
    variant = DENSE_VARIANTS[record.name]
    assert record.task == variant.task
    assert variant.published
    assert record.format in DENSE_FORMATS
    assert re.fullmatch(r"https://.+\.pth|hf:openmmlab/[\w.-]+", record.source)
    assert len(dense_class_names(record.classes)) == record.num_classes == variant.config.num_classes
    assert record.top1 is None and record.published_by
    if record.task == "detection":
        assert record.preprocessing == DensePreprocessing.coco()
        assert 39 < record.mask_ap < record.box_ap < 52
        assert record.miou is record.miou_multiscale is None
    else:
        assert record.preprocessing == DensePreprocessing.ade20k()
        assert 44 < record.miou < record.miou_multiscale < 55
        assert record.box_ap is record.mask_ap is None
    # OpenMMLab's names end in the first digits of the file's hash.
    assert (record.sha256 is None) == (record.format != "openmmlab")
    assert record.sha256 is None or record.source.endswith(f"-{record.sha256}.pth")


def test_published_dense_models_have_an_official_file():
    for name, variant in DENSE_VARIANTS.items():
        if variant.published and "window12" not in name and "large" not in name:
            assert "official" in {record.format for record in records(name)}
    assert find_record("mask_rcnn_swin_tiny_patch4_window7").tag == "coco_3x"
    assert not records("htcpp_swin_large_patch4_window7")


@pytest.mark.parametrize("record", [r for r in CLASSIFIERS if r.format == "timm"], ids=lambda record: record.full_name)
def test_timm_records_agree_with_timm(record):
    name = record.source.removeprefix("hf:timm/").removesuffix("/model.safetensors")
    theirs = timm.models.get_pretrained_cfg(name)
    assert theirs.hf_hub_id == f"timm/{name}"
    assert theirs.num_classes == record.num_classes
    assert theirs.input_size == (3, *record.preprocessing.image_size)
    # timm names the official file that it converted.
    source = theirs.url.rpartition("/")[2]
    assert any(r.source.endswith(f"/{source}") and r.name == record.name for r in RECORDS)
    resolved = timm.data.resolve_data_config({}, pretrained_cfg=theirs.to_dict())
    assert record.preprocessing.resize_size == int(resolved["input_size"][-1] / resolved["crop_pct"])
    assert record.preprocessing.interpolation == resolved["interpolation"]
    assert (record.preprocessing.mean, record.preprocessing.std) == (resolved["mean"], resolved["std"])


def test_every_timm_model_of_these_architectures_has_a_record():
    theirs = timm.list_models("swin_*", pretrained=True) + timm.list_models("swinv2_*", pretrained=True)
    theirs = {name for name in theirs if not name.startswith(("swin_s3", "swinv2_cr"))}
    ours = {record.source.split("/")[1] for record in RECORDS if record.format == "timm"}
    assert ours == theirs


@pytest.mark.parametrize(
    "record", [r for r in CLASSIFIERS if r.format == "torchvision"], ids=lambda record: record.full_name
)
def test_torchvision_records_agree_with_torchvision(record):
    builder = record.source.rpartition("/")[2].partition("-")[0]
    theirs = torchvision.models.get_model_weights(builder).IMAGENET1K_V1
    assert theirs.url == record.source
    assert theirs.url.endswith(f"-{record.sha256}.pth")
    assert theirs.meta["_metrics"]["ImageNet-1K"]["acc@1"] == record.top1
    transforms = theirs.transforms()
    assert transforms.resize_size == [record.preprocessing.resize_size]
    assert (transforms.crop_size * 2)[:2] == list(record.preprocessing.image_size)
    assert transforms.interpolation.value == record.preprocessing.interpolation
    assert (tuple(transforms.mean), tuple(transforms.std)) == (record.preprocessing.mean, record.preprocessing.std)


def test_default_is_the_official_classifier():
    assert find_record("swin_tiny_patch4_window7_224").full_name == "swin_tiny_patch4_window7_224.in1k"
    assert find_record("swin_large_patch4_window7_224").tag == "in22k_ft_in1k"
    assert find_record("swinv2_base_patch4_window12_192").tag == "in22k"
    for name in VARIANTS:
        if name != "swin_base_patch4_window6_192":
            assert find_record(name).format == "official"


def test_unknown_tag_and_name_list_what_there_is():
    with pytest.raises(CatalogError, match=r"'in21k'.*default, in1k, in1k_timm.*in22k"):
        find_record("swin_tiny_patch4_window7_224", "in21k")
    with pytest.raises(CatalogError, match=r"'swin_tiny'.*swin_tiny_patch4_window7_224"):
        find_record("swin_tiny")


def test_records_of_a_variant():
    assert {record.name for record in records("swinv2_tiny_patch4_window8_256")} == {"swinv2_tiny_patch4_window8_256"}
    assert records() == RECORDS


def test_imports_no_torch():
    code = "import sys, swin_transformer_pytorch.weights.catalog; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
