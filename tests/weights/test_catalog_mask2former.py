import re
import subprocess
import sys

import pytest

from swin_transformer_pytorch.weights import catalog, checkpoint
from swin_transformer_pytorch.weights.catalog_mask2former import MASK2FORMER_RECORDS
from swin_transformer_pytorch.weights.dense_classes import CLASS_SETS, dense_class_names
from swin_transformer_pytorch.weights.preprocessing import DensePreprocessing

AUTHORS = [record for record in MASK2FORMER_RECORDS if record.format == "official"]
OPENMMLAB = [record for record in MASK2FORMER_RECORDS if record.format == "openmmlab"]
FIGURES = ("pq", "box_ap", "mask_ap", "miou", "miou_multiscale")


@pytest.fixture
def catalogued(monkeypatch):
    """A catalogue that has these records too."""
    known = {record.full_name for record in catalog.RECORDS}
    joined = (*catalog.RECORDS, *(record for record in MASK2FORMER_RECORDS if record.full_name not in known))
    monkeypatch.setattr(catalog, "RECORDS", joined)
    monkeypatch.setattr(checkpoint, "RECORDS", joined)


def by_name(full_name):
    return next(record for record in MASK2FORMER_RECORDS if record.full_name == full_name)


def test_every_published_file_is_listed_once():
    assert (len(AUTHORS), len(OPENMMLAB)) == (31, 7)
    assert len({record.full_name for record in MASK2FORMER_RECORDS}) == 38
    assert len({record.source for record in MASK2FORMER_RECORDS}) == 38
    assert len({record.md5 or record.sha256 for record in MASK2FORMER_RECORDS}) == 38


@pytest.mark.parametrize("record", MASK2FORMER_RECORDS, ids=lambda record: record.full_name)
def test_record_is_complete(record):
    name = re.fullmatch(
        r"mask2former_swin_(tiny|small|base|large)_patch4_window(7|12)_(panoptic|instance|semantic)", record.name
    )
    assert name is not None
    assert (name[2] == "7") == (name[1] in ("tiny", "small"))
    assert re.fullmatch(r"(in22k_)?(coco|ade20k|cityscapes|mapillary_vistas)(_openmmlab)?", record.tag)
    # No large model was ever trained from ImageNet-1K.
    assert record.tag.startswith("in22k_") or name[1] != "large"
    assert record.task == {"panoptic": "panoptic", "instance": "detection", "semantic": "segmentation"}[name[3]]
    assert record.classes in CLASS_SETS
    assert len(dense_class_names(record.classes)) == record.num_classes
    assert record.preprocessing.size_divisor == 32
    assert record.preprocessing.antialias == (record in AUTHORS)
    assert record.published_by and record.top1 is None
    figures = {figure for figure in FIGURES if getattr(record, figure) is not None}
    if record in OPENMMLAB:
        assert (record.licence, record.md5) == ("Apache-2.0", None)
        assert record.source.endswith(f"-{record.sha256}.pth") and record.commercial
        assert figures == {"box_ap", "mask_ap"} | ({"pq"} if name[3] == "panoptic" else set())
        assert 43 < record.mask_ap < record.box_ap < 53
    else:
        assert (record.licence, record.sha256) == ("CC-BY-NC-4.0", None)
        assert record.source.endswith(f"/model_final_{record.md5}.pkl") and not record.commercial
        assert f"/{name[3]}/maskformer2_swin_{name[1]}_" in record.source
        assert ("_IN21k_" in record.source) == record.tag.startswith("in22k_")
        expected = {
            "panoptic": {"pq", "mask_ap", "miou"},
            "instance": {"mask_ap"},
            "semantic": {"miou", "miou_multiscale"},
        }
        assert figures == expected[name[3]] - ({"mask_ap"} if record.tag == "in22k_mapillary_vistas" else set())
    assert all(34 < getattr(record, figure) < 85 for figure in figures)
    assert "pq" not in figures or record.mask_ap is None or record.mask_ap < record.pq
    assert record.miou_multiscale is None or record.miou < record.miou_multiscale


def test_records_say_what_was_published():
    best = by_name("mask2former_swin_large_patch4_window12_panoptic.in22k_coco")
    assert (best.pq, best.mask_ap, best.miou) == (57.8, 48.6, 67.4)
    assert (best.classes, best.num_classes, best.md5) == ("coco_panoptic", 133, "f07440")
    semantic = by_name("mask2former_swin_tiny_patch4_window7_semantic.ade20k")
    assert (semantic.miou, semantic.miou_multiscale, semantic.num_classes) == (47.7, 49.6, 150)
    assert semantic.preprocessing == DensePreprocessing(scale=(2048, 512), antialias=True)
    larger = by_name("mask2former_swin_base_patch4_window12_semantic.ade20k")
    assert larger.preprocessing == DensePreprocessing(scale=(2560, 640), antialias=True)
    assert larger.source.endswith("/maskformer2_swin_base_384_bs16_160k_res640/model_final_503e96.pkl")
    assert by_name("mask2former_swin_small_patch4_window7_instance.coco_openmmlab").mask_ap == 46.1


def test_the_default_is_never_for_non_commercial_use_alone(catalogued):
    for size, window in (("tiny", 7), ("small", 7), ("base", 12)):
        found = catalog.find_record(f"mask2former_swin_{size}_patch4_window{window}_panoptic")
        assert (found.tag, found.licence) == ("coco_openmmlab", "Apache-2.0")
    assert catalog.find_record("mask2former_swin_large_patch4_window12_panoptic").tag == "in22k_coco_openmmlab"
    name = "mask2former_swin_base_patch4_window12_instance"
    with pytest.raises(catalog.CatalogError, match=r"CC-BY-NC-4\.0.*forbids commercial use.*: coco, in22k_coco"):
        catalog.find_record(name)
    assert catalog.find_record(name, "in22k_coco").mask_ap == 48.1


def test_the_first_of_a_variant_is_its_default(catalogued):
    for record in MASK2FORMER_RECORDS:
        own = catalog.records(record.name)
        assert not any(other.commercial for other in own) or catalog.find_record(record.name) == own[0]


def test_a_published_file_is_known_by_its_name(catalogued):
    for record in MASK2FORMER_RECORDS:
        assert checkpoint._published(f"/some/folder/{record.source.rpartition('/')[2]}") == record
    assert checkpoint._published("/some/folder/model_final.pkl") is None


def test_imports_no_torch():
    code = "import sys, swin_transformer_pytorch.weights.catalog_mask2former; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
