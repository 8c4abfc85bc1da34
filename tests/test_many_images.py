"""`tools/many_images.py` in small: what it says of 14 million images it says of 100,000."""

from pathlib import Path

import pytest
from tools import many_images

from swin_transformer_pytorch.data.classification import folder


@pytest.mark.parametrize("kind", ["shards", "folder"])
def test_a_data_set_of_many_images_opens_at_once_and_in_little_memory(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder, "walk_images", folder.walk_images)  # the tool puts another in its place
    images, classes = 100_000, 50
    if kind == "shards":
        many_images.make_shards(tmp_path, images, classes)
        assert (tmp_path / "train.index.npy").stat().st_size == 128 + 16 * images
    else:
        many_images.make_folders(tmp_path, classes)
    figures = many_images.measure(kind, tmp_path, images, classes)
    assert figures["images"] >= images
    assert figures["opened_s"] < 5
    # Paths of about 80 bytes, while they are found in arrays that grow by an eighth; of shards the labels.
    assert figures["most_mb_with_these"] < 40
    assert figures["own_mb_of_a_worker"] < 8
    assert figures.get("bytes_an_image_beside_its_path", 16) == 16
