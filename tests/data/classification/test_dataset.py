import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from swin_transformer_pytorch.data.classification.augmentation import Augmentation
from swin_transformer_pytorch.data.classification.dataset import EvaluationDataset, TrainingDataset, sample_seeds
from swin_transformer_pytorch.data.classification.fashion import ArrayDataset
from swin_transformer_pytorch.data.transforms import create_transform
from swin_transformer_pytorch.weights.preprocessing import Preprocessing

GREY = Preprocessing(image_size=28, resize_size=28, mean=(0.286,), std=(0.353,))
QUICK = Augmentation(crop="pad", crop_padding=2, auto_augment=None, color_jitter=0, erase_prob=0.5)


def base(count=24, size=28):
    images = np.random.default_rng(0).integers(0, 256, (count, size, size), dtype=np.uint8)
    return ArrayDataset(images, np.arange(count, dtype=np.int64) % 3, ("a", "b", "c"))


def dataset(augmentation, *, seed=5, preprocessing=GREY, images=None):
    return TrainingDataset(images or base(), create_transform(preprocessing, True, augmentation), seed=seed)


@pytest.mark.parametrize("augmentation", [QUICK, Augmentation()], ids=["at once", "one by one"])
class TestBothWays:
    def test_a_sample_depends_on_seed_epoch_and_index_alone(self, augmentation):
        data = dataset(augmentation)
        data.set_epoch(2)
        alone = [data[index] for index in range(24)]
        order = np.random.default_rng(1).permutation(24).tolist()
        for index, (image, label) in zip(order, data.__getitems__(order), strict=True):
            assert torch.equal(image, alone[index][0])
            assert label == alone[index][1] == index % 3

    def test_epochs_and_seeds_differ(self, augmentation):
        data = dataset(augmentation)
        first = torch.stack([data[index][0] for index in range(24)])
        data.set_epoch(1)
        assert data.epoch == 1
        assert not torch.equal(torch.stack([data[index][0] for index in range(24)]), first)
        data.set_epoch(0)
        assert torch.equal(torch.stack([data[index][0] for index in range(24)]), first)
        other = dataset(augmentation, seed=6)
        assert not torch.equal(torch.stack([other[index][0] for index in range(24)]), first)

    def test_the_global_random_state_is_left_alone(self, augmentation):
        data = dataset(augmentation)
        before = torch.get_rng_state()
        data.__getitems__([0, 1, 2])
        assert torch.equal(torch.get_rng_state(), before)

    def test_batches_of_any_loader(self, augmentation):
        data = dataset(augmentation)
        images, labels = next(iter(DataLoader(data, batch_size=6)))
        assert images.shape == (6, 1, 28, 28)
        assert images.dtype == torch.float32
        assert labels.tolist() == [0, 1, 2, 0, 1, 2]


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # a machine with one core
def test_persistent_workers_follow_the_epoch():
    data = dataset(QUICK)
    loader = DataLoader(data, batch_size=6, num_workers=2, persistent_workers=True)
    for epoch in (0, 3):
        data.set_epoch(epoch)
        images = torch.cat([batch for batch, _ in loader])
        assert torch.equal(images, torch.stack([data[index][0] for index in range(24)]))


def test_without_random_changes_it_is_the_evaluation_dataset():
    for preprocessing in (GREY, Preprocessing.imagenet(32), Preprocessing(image_size=24, resize_size=30)):
        training = dataset(Augmentation.none(), preprocessing=preprocessing)
        evaluation = EvaluationDataset(base(), create_transform(preprocessing))
        assert len(training) == len(evaluation) == 24
        assert training.classes == evaluation.classes == ("a", "b", "c")
        for index in (0, 7):
            assert torch.equal(training[index][0], evaluation[index][0])
            assert training[index][1] == evaluation[index][1]


def test_making_a_batch_at_once_draws_from_the_same_changes():
    """Every crop and flip of the transform that works one by one, and no other, equally often."""
    augmentation = Augmentation(crop="pad", crop_padding=1, auto_augment=None, color_jitter=0, erase_prob=0)
    preprocessing = Preprocessing(image_size=4, resize_size=4, mean=(0.0,), std=(1.0,))
    pixels = np.arange(1, 17, dtype=np.uint8).reshape(1, 4, 4).repeat(3000, axis=0)
    images = ArrayDataset(pixels, np.zeros(3000, dtype=np.int64), ("a",))
    data = dataset(augmentation, preprocessing=preprocessing, images=images)
    seen = {}
    for image, _ in data.__getitems__(range(3000)):
        key = image.numpy().tobytes()
        seen[key] = seen.get(key, 0) + 1
    torch.manual_seed(0)
    possible = {data.transform(pixels[0]).numpy().tobytes() for _ in range(600)}
    assert set(seen) == possible
    assert len(possible) == 18
    assert min(seen.values()) > 3000 / 18 * 0.7
    assert max(seen.values()) < 3000 / 18 * 1.3


def test_what_does_not_fit_in_memory_is_made_one_by_one(monkeypatch):
    monkeypatch.setattr("swin_transformer_pytorch.data.classification.dataset._MAX_READY_BYTES", 1000)
    assert torch.equal(dataset(Augmentation.none())[3][0], create_transform(GREY)(base()[3][0]))


def test_seeds_are_the_same_on_every_machine_and_all_different():
    seeds = sample_seeds(1, 2, np.arange(100_000))
    assert len(np.unique(seeds)) == 100_000
    assert seeds.max() < 2**63
    assert seeds[:2].tolist() == sample_seeds(1, 2, np.array([0, 1])).tolist()
    assert not set(seeds.tolist()) & set(sample_seeds(2, 1, np.arange(1000)).tolist())
    assert sample_seeds(-1, 0, np.array([5])).dtype == np.uint64
