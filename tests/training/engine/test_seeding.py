"""Random numbers as functions of a place in the run."""

from swin_transformer_pytorch.training.engine.seeding import Stream, generator, torch_seed


def test_each_place_and_each_use_has_its_own_numbers() -> None:
    places = [(stream, seed, *place) for stream in Stream for seed in (0, 1) for place in ((0, 0), (0, 1), (1, 0))]
    assert len({torch_seed(*place) for place in places}) == len(places)
    assert len({generator(*place).random() for place in places}) == len(places)


def test_they_are_the_same_again_and_fit_torch() -> None:
    assert torch_seed(Stream.STEP, 3, 1, 2) == torch_seed(Stream.STEP, 3, 1, 2)
    assert all(0 <= torch_seed(Stream.STEP, seed) < 2**63 for seed in range(100))
