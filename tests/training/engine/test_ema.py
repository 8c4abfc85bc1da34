"""The running mean of the weights."""

import torch
from torch import nn

from swin_transformer_pytorch.training.engine.ema import WeightAverage


def test_it_follows_the_definition_with_a_faster_start() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    average = WeightAverage(model, decay=0.5)
    expected = 0.0
    for step in range(8):
        nn.init.constant_(model.weight, float(step + 1))
        average.update()
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * (step + 1)
    torch.testing.assert_close(average.mean["weight"], torch.full((1, 1), expected))


def test_the_models_own_weights_come_back_to_the_bit_also_after_an_error() -> None:
    model = nn.Linear(3, 2)
    average = WeightAverage(model, decay=0.9)
    with torch.no_grad():
        model.weight.add_(0.123)
    own = model.weight.detach().clone()
    try:
        with average.applied():
            assert torch.equal(model.weight, average.mean["weight"])
            raise KeyError
    except KeyError:
        pass
    assert torch.equal(model.weight, own)


def test_it_is_saved_and_taken_up_again() -> None:
    model = nn.Linear(3, 2)
    average = WeightAverage(model, decay=0.9)
    for _ in range(3):
        with torch.no_grad():
            model.weight.mul_(1.5)
        average.update()
    other = WeightAverage(model, decay=0.9)
    saved = average.state_dict()
    other.load(saved, steps=3)
    average.update()
    other.update()
    assert torch.equal(average.mean["weight"], other.mean["weight"])
    assert not torch.equal(saved["weight"], average.mean["weight"])


def test_statistics_of_batch_norms_are_averaged_and_counters_copied() -> None:
    model = nn.Sequential(nn.BatchNorm1d(2))
    average = WeightAverage(model, decay=0.5)
    for _ in range(3):
        model(torch.randn(8, 2) + 5)
        average.update()
    mean = average.state_dict()
    assert mean.keys() == model.state_dict().keys()
    assert int(mean["0.num_batches_tracked"]) == 3
    running = model.state_dict()["0.running_mean"]
    assert (mean["0.running_mean"] < running).all()
    with average.applied():
        assert torch.equal(model.state_dict()["0.running_mean"], mean["0.running_mean"])
    assert torch.equal(model.state_dict()["0.running_mean"], running)


def test_statistics_are_those_of_the_model_after_it_was_moved() -> None:
    """Moving replaces buffers, as Lightning does at a run's end on a GPU, before the test images."""
    model = nn.BatchNorm1d(2)
    average = WeightAverage(model, decay=0.9)
    average.mean["running_mean"].fill_(7.0)
    model._apply(torch.clone)
    with average.applied():
        assert model.running_mean is not None
        assert model.running_mean.tolist() == [7.0, 7.0]
    assert model.running_mean.tolist() == [0.0, 0.0]
