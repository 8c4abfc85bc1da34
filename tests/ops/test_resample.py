"""Images of 8 bits become what Pillow makes of them, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from swin_transformer_pytorch.ops.cpu import library, resample
from swin_transformer_pytorch.ops.cpu.build import KernelBuildError

FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}

needs_kernel = pytest.mark.skipif(library.why_not() is not None, reason="needs the CPU kernels")


def picture(seed: int, height: int, width: int, channels: int, kind: str) -> NDArray[np.uint8]:
    """Noise; black and white, whose sums overshoot; or a flat grey with one other pixel."""
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 256, (height, width, channels), dtype=np.uint8)
    if kind == "edges":
        return ((noise > 127) * 255).astype(np.uint8)
    if kind == "flat":
        flat = np.full_like(noise, 77)
        flat[height // 2, width // 2] = 200
        return flat
    return noise


def pillow(image: NDArray[np.uint8], size: tuple[int, int], filter: str) -> NDArray[np.uint8]:
    whole = Image.fromarray(image if image.shape[2] == 3 else image[:, :, 0])
    return np.asarray(whole.resize(size[::-1], FILTERS[filter])).reshape(*size, image.shape[2])


sides = st.integers(1, 70)


@needs_kernel
class TestResize:
    @settings(max_examples=150, deadline=None)
    @given(
        seed=st.integers(0, 99),
        shape=st.tuples(sides, sides, st.sampled_from([1, 3])),
        size=st.tuples(sides, sides),
        corners=st.tuples(*[st.floats(0, 1)] * 4),
        filter=st.sampled_from(["bilinear", "bicubic"]),
        kind=st.sampled_from(["noise", "edges", "flat"]),
        flip=st.booleans(),
    )
    def test_every_part_of_every_size_is_pillows(
        self,
        seed: int,
        shape: tuple[int, int, int],
        size: tuple[int, int],
        corners: tuple[float, float, float, float],
        filter: resample.Filter,
        kind: str,
        flip: bool,
    ) -> None:
        image = picture(seed, *shape, kind)
        (top, bottom), (left, right) = (
            sorted((int(a * side), int(b * side))) for a, b, side in zip(corners[:2], corners[2:], size, strict=True)
        )
        top, left = min(top, size[0] - 1), min(left, size[1] - 1)
        window = (top, left, max(bottom - top, 1), max(right - left, 1))
        expected = pillow(image, size, filter)[top : top + window[2], left : left + window[3]]
        found = resample.resize(image, size, filter, window=window, flip=flip)
        np.testing.assert_array_equal(found, expected[:, ::-1] if flip else expected)

    @pytest.mark.parametrize("size", [(500, 333), (1, 1), (375, 500), (64, 700), (37, 900)])
    def test_large_ones_too(self, size: tuple[int, int]) -> None:
        image = picture(1, 375, 500, 3, "noise")
        np.testing.assert_array_equal(resample.resize(image, size, "bicubic"), pillow(image, size, "bicubic"))

    @pytest.mark.parametrize("rows", [10, 11, 12, 13])
    def test_either_pass_may_come_first(self, rows: int) -> None:
        """About the border where Pillow 13 begins with columns: twice as many rows as columns are left out."""
        image = picture(2, 30, 24, 3, "noise")
        size = (rows, 15)
        np.testing.assert_array_equal(resample.resize(image, size, "bicubic"), pillow(image, size, "bicubic"))

    def test_parts_and_turned_images_are_taken_as_they_lie(self) -> None:
        image = picture(3, 50, 40, 3, "noise")
        for view in (image[5:31, 7:38], image.swapaxes(0, 1), image[::-1], image[:, ::-1]):
            whole = np.ascontiguousarray(view)
            np.testing.assert_array_equal(
                resample.resize(view, (20, 20), "bicubic"), resample.resize(whole, (20, 20), "bicubic")
            )

    def test_what_is_no_image_or_no_part_of_the_result_is_refused(self) -> None:
        image = picture(4, 9, 9, 3, "noise")
        with pytest.raises(ValueError, match=r"window=\(3, 0, 3, 5\) is not within size=\(5, 5\)"):
            resample.resize(image, (5, 5), "bicubic", window=(3, 0, 3, 5))
        with pytest.raises(ValueError, match="uint8"):
            resample.resize(np.zeros((9, 9, 2), np.uint8), (5, 5), "bicubic")


@needs_kernel
class TestLevels:
    @pytest.mark.parametrize("shape", [(5, 7, 3), (5, 7, 1), (16, 16, 3), (65, 131, 3)])
    @pytest.mark.parametrize("levels", ["computed", "looked up"])
    def test_bytes_become_what_the_levels_say(self, shape: tuple[int, int, int], levels: str) -> None:
        image = picture(5, *shape, "noise")
        values = torch.rand(3, 258) if levels == "looked up" else self.exact()
        expected = torch.stack([values[c][torch.from_numpy(image[:, :, c]).long()] for c in range(shape[2])])
        values = values[: shape[2]].contiguous()
        assert torch.equal(resample.by_level(image, values), expected)
        out = torch.zeros(shape[2], *shape[:2])
        assert resample.resize_normalized(image, shape[:2], "bicubic", values, out=out) is out
        assert torch.equal(out, expected)

    def exact(self) -> torch.Tensor:
        """As torch computes them."""
        mean, std = torch.tensor([[0.485], [0.456], [0.406]]), torch.tensor([[0.229], [0.224], [0.225]])
        return torch.cat([(torch.arange(256).float() / 255 - mean) / std, mean, std], dim=1)

    def test_room_that_is_not_in_one_piece_is_refused(self) -> None:
        with pytest.raises(ValueError, match=r"give a contiguous float32 tensor \(3, 4, 4\)"):
            resample.by_level(picture(6, 4, 4, 3, "noise"), self.exact(), out=torch.zeros(3, 4, 8)[:, :, ::2])


@needs_kernel
class TestAffine:
    @settings(max_examples=150, deadline=None)
    @given(
        seed=st.integers(0, 99),
        size=st.tuples(sides, sides),
        kind=st.sampled_from(["noise", "edges", "flat"]),
        move=st.sampled_from(["any", "shear x", "shear y", "along x", "along y", "none"]),
        a=st.floats(-1, 1, allow_subnormal=False),
        b=st.floats(-40, 40, allow_subnormal=False),
    )
    def test_every_map_is_pillows(
        self, seed: int, size: tuple[int, int], kind: str, move: str, a: float, b: float
    ) -> None:
        matrices = {
            "any": (1 - a, a / 2, b, -a, 1 + a / 3, -b / 2),
            "shear x": (1, a, 0, 0, 1, 0),
            "shear y": (1, 0, 0, a, 1, 0),
            "along x": (1, 0, b, 0, 1, 0),
            "along y": (1, 0, 0, 0, 1, b),
            "none": (1, 0, 0, 0, 1, 0),
        }
        image = picture(seed, *size, 3, kind)
        whole, fill = Image.fromarray(image), (9, 120, 250)
        expected = whole.transform(
            whole.size, Image.Transform.AFFINE, matrices[move], Image.Resampling.BICUBIC, fillcolor=fill
        )
        np.testing.assert_array_equal(resample.affine(image, matrices[move], fill), np.asarray(expected))


def test_without_the_kernels_or_with_another_pillow_the_reason_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> None:
        raise KernelBuildError("no C++ compiler was found")

    said: list[str] = []
    monkeypatch.setattr(resample, "say_once", said.append)
    resample._found.cache_clear()
    try:
        with monkeypatch.context() as there:
            there.setattr(resample, "functions", none)
            assert "no C++ compiler" in (resample.why_not() or "")
            with pytest.raises(KernelBuildError, match="no C\\+\\+ compiler"):
                resample.resize(np.zeros((4, 4, 3), np.uint8), (2, 2), "bicubic")
        resample._found.cache_clear()
        monkeypatch.setattr(resample, "_agrees", lambda order: False)
        if library.why_not() is None:
            assert "gives other numbers" in (resample.why_not() or "")
            assert len(said) == 2
    finally:
        resample._found.cache_clear()
