"""Predictions for images in any form, by a model that brings its own preprocessing and class names."""

from __future__ import annotations

from .files import find_images, predict_files
from .predictor import Predictor
from .task import AnyImage, Prediction

__all__ = ["AnyImage", "Prediction", "Predictor", "find_images", "predict_files"]
