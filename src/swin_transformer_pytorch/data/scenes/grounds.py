"""Textured grounds for scenes: procedural patterns in random colours."""

from __future__ import annotations

import colorsys
import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Field = NDArray[np.float32]


def draw_ground(rng: np.random.Generator, size: tuple[int, int]) -> Field:
    """A ground of random pattern and colours: float32 (3, height, width), 0 to 255."""
    pattern = _PATTERNS[rng.integers(len(_PATTERNS))](rng, size)
    # Two colours that are related, as on a cloth or a floor; now and then two that are not.
    first = random_colour(rng, saturation=(0.05, 0.5), value=(0.25, 0.95))
    other = random_colour(rng, saturation=(0.05, 0.5), value=(0.2, 1.0))
    second = first + (other - first) * np.float32(rng.uniform(0.25, 0.8))
    ground = first[:, None, None] + (second - first)[:, None, None] * pattern
    ground += _grain(rng, size, radius=rng.uniform(0.5, 1.5)) * np.float32(rng.uniform(2, 10))
    return ground


def random_colour(
    rng: np.random.Generator, *, saturation: tuple[float, float], value: tuple[float, float]
) -> NDArray[np.float32]:
    """An RGB colour (3,), 0 to 255, of any hue."""
    colour = colorsys.hsv_to_rgb(rng.random(), rng.uniform(*saturation), rng.uniform(*value))
    return np.array(colour, dtype=np.float32) * 255


def smooth_noise(rng: np.random.Generator, size: tuple[int, int], cells: float) -> Field:
    """Noise in [0, 1], (height, width), whose hills are about the longer side / `cells` wide."""
    height, width = size
    scale = cells / max(size)
    small = rng.random((math.ceil(height * scale) + 2, math.ceil(width * scale) + 2), dtype=np.float32)
    noise = np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC), dtype=np.float32)
    return np.clip(noise, 0, 1)


def linear_ramp(rng: np.random.Generator, size: tuple[int, int]) -> Field:
    """A ramp in a random direction, (height, width), from 0 to 1 within the size's diagonal."""
    y, x = _axes(size)
    angle = rng.uniform(0, 2 * math.pi)
    along = x * np.float32(math.cos(angle)) + y * np.float32(math.sin(angle))
    return along * np.float32(1 / math.hypot(*size)) + np.float32(0.5)


def _axes(size: tuple[int, int]) -> tuple[Field, Field]:
    """Rows (height, 1) and columns (1, width) as pixels from the middle."""
    y = np.arange(size[0], dtype=np.float32)[:, None] - np.float32((size[0] - 1) / 2)
    x = np.arange(size[1], dtype=np.float32)[None, :] - np.float32((size[1] - 1) / 2)
    return y, x


def _turned(rng: np.random.Generator, size: tuple[int, int]) -> tuple[Field, Field]:
    """Two axes at right angles in a random direction, pixels, slightly bent."""
    y, x = _axes(size)
    angle = rng.uniform(0, 2 * math.pi)
    cosine, sine = np.float32(math.cos(angle)), np.float32(math.sin(angle))
    bend = (smooth_noise(rng, size, cells=3) - np.float32(0.5)) * np.float32(rng.uniform(0, 12))
    return x * cosine + y * sine + bend, y * cosine - x * sine + bend


def _period(rng: np.random.Generator, size: tuple[int, int]) -> float:
    return float(max(size) * rng.uniform(0.04, 0.22))


def _wave(along: Field, period: float, sharpness: float) -> Field:
    """Waves in [0, 1]; the sharper, the more like steps."""
    wave = np.sin(along * np.float32(2 * math.pi / period))
    return np.clip(wave * np.float32(sharpness), -1, 1) * np.float32(0.5) + np.float32(0.5)


def _grain(rng: np.random.Generator, size: tuple[int, int], radius: float) -> Field:
    """Noise (height, width) of mean about 0 and deviation 1, blurred over so many pixels: it has no lattice."""
    noise = Image.fromarray(rng.integers(0, 256, size, dtype=np.uint8)).filter(ImageFilter.BoxBlur(radius))
    grain = np.asarray(noise, dtype=np.float32)
    return (grain - grain.mean()) / np.float32(grain.std() + 1e-3)


def _clouds(rng: np.random.Generator, size: tuple[int, int]) -> Field:
    first = rng.uniform(2, 5)
    octaves = [smooth_noise(rng, size, cells=first * 2.0**octave) * np.float32(0.5**octave) for octave in range(3)]
    return np.clip(sum(octaves[1:], octaves[0]) * np.float32(1.2) - np.float32(0.55), 0, 1)


def _stripes(rng: np.random.Generator, size: tuple[int, int]) -> Field:
    along, _ = _turned(rng, size)
    return _wave(along, _period(rng, size), rng.uniform(1, 6))


def _checks(rng: np.random.Generator, size: tuple[int, int]) -> Field:
    along, across = _turned(rng, size)
    period, sharpness = _period(rng, size), rng.uniform(2, 6)
    first, second = _wave(along, period, sharpness), _wave(across, period, sharpness)
    if rng.random() < 0.5:
        return (first + second) * np.float32(0.5)  # woven, as gingham
    return first + second - 2 * first * second  # a chessboard


def _gradient(rng: np.random.Generator, size: tuple[int, int]) -> Field:
    if rng.random() < 0.5:
        return linear_ramp(rng, size)
    y, x = _axes(size)
    centre_y, centre_x = rng.uniform(-0.4, 0.4, 2) * size
    far = np.hypot(y - np.float32(centre_y), x - np.float32(centre_x))
    return np.clip(far / np.float32(max(size) * rng.uniform(0.6, 1.1)), 0, 1)


def _speckle(rng: np.random.Generator, size: tuple[int, int]) -> Field:
    grains = _grain(rng, size, radius=rng.uniform(1, 3))
    return np.clip((grains - np.float32(rng.uniform(-0.2, 1.2))) * np.float32(1.5) + np.float32(0.5), 0, 1)


_PATTERNS = (_clouds, _stripes, _checks, _gradient, _speckle)
