"""Grad-CAM beside the grad-cam package's, on the same layer: V1 and V2, in windows that are padded and shifted."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from tests.explain.conftest import make_model

from swin_transformer_pytorch import grad_cam


@pytest.mark.parametrize("size", [(32, 32), (24, 40), (44, 12)])
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("task", ["classification", "segmentation"])
def test_figures_are_the_package_s(task, version, size):
    pytest.importorskip("pytorch_grad_cam")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pytorch_grad_cam import GradCAM
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget, SemanticSegmentationTarget

    model = make_model(task, version)
    swin = model if task == "classification" else model.backbone
    image = torch.randn(1, 3, *size)
    some = 0
    for layer in ("layers.1.blocks.1.norm1", "layers.1", "layers.0.blocks.1.norm1"):
        prefix = "" if swin is model else "backbone."
        for label in range(3):
            target = ClassifierOutputTarget(label)
            if task == "segmentation":
                mask = (model(image)[0].argmax(0) == label).numpy()
                target = SemanticSegmentationTarget(label, mask if mask.any() else np.ones_like(mask))
            module = swin.get_submodule(layer)
            with GradCAM(model, [module], reshape_transform=lambda x: x.permute(0, 3, 1, 2)) as package:
                (expected,) = package(image, [target])
            heat = grad_cam(model, image, label, prefix + layer)
            np.testing.assert_allclose(heat, expected, atol=1e-5)
            some += heat.any()
    assert some >= 4
