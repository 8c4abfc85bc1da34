"""Small random models of each task behind a real server on loopback, and a model that waits to be let go."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import torch
import uvicorn
from PIL import Image

from swin_transformer_pytorch.backbone.config import SwinConfig
from swin_transformer_pytorch.data.classification.fashion import CLASSES, FashionSample
from swin_transformer_pytorch.data.scenes.dataset import open_scenes
from swin_transformer_pytorch.models.build import build
from swin_transformer_pytorch.models.config import DetectorConfig, SegmenterConfig
from swin_transformer_pytorch.models.description import ModelDescription
from swin_transformer_pytorch.models.mask2former_config import Mask2FormerConfig
from swin_transformer_pytorch.predict import Predictor
from swin_transformer_pytorch.web.app import create_app
from swin_transformer_pytorch.web.limits import Limits
from swin_transformer_pytorch.web.server import listen, make_server
from swin_transformer_pytorch.weights.preprocessing import DensePreprocessing, Preprocessing

PATIENCE = 30.0
"""Seconds for what takes none: the machine may be busy."""


class Waiting(Predictor):
    """Says when it is called, and with how many images, and answers when it is let go."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.batches: list[int] = []
        self.called, self.go = threading.Event(), threading.Event()

    def predict_prepared(self, prepared: Sequence[Any]) -> Sequence[Any]:
        self.batches.append(len(prepared))
        self.called.set()
        assert self.go.wait(PATIENCE)
        return super().predict_prepared(prepared)


@dataclass(frozen=True)
class Running:
    server: uvicorn.Server
    client: httpx.Client
    port: int

    def post(self, image: bytes, **parameters: Any) -> httpx.Response:
        return self.client.post("/predict", content=image, params=parameters)


Serve = Callable[..., AbstractContextManager[Running]]


@pytest.fixture(scope="session")
def serve() -> Serve:
    """Runs a server of some predictors in a thread, as long as the context."""

    @contextmanager
    def run(
        predictors: dict[str, Predictor],
        *,
        look_around: float = 60.0,
        connections: int = 100,
        hosts: Sequence[str] = (),
        origins: Sequence[str] = (),
        **limits: Any,
    ) -> Iterator[Running]:
        app = create_app(predictors, Limits(**limits), hosts=hosts, origins=origins)
        with listen("127.0.0.1", 0) as listener:
            port = listener.getsockname()[1]
            server = make_server(app, connections=connections, look_around=look_around)
            thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
            thread.start()
            try:
                with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE, trust_env=False) as client:
                    yield Running(server, client, port)
            finally:
                server.should_exit = True
                thread.join(PATIENCE)
            assert not thread.is_alive()

    return run


def classifier() -> torch.nn.Module:
    torch.manual_seed(0)
    config = SwinConfig(in_channels=1, patch_size=4, embed_dim=8, depths=(1, 1), num_heads=(1, 2), window_size=4)
    grey = Preprocessing(image_size=28, resize_size=28, mean=(0.286,), std=(0.353,))
    return build(ModelDescription(config=config, num_classes=10, classes=CLASSES, preprocessing=grey))


def panoptic_model() -> torch.nn.Module:
    """Each of its queries makes a segment where its mask is."""
    torch.manual_seed(2)
    heads = {"dim": 32, "attention_heads": 4, "encoder_dim": 16, "encoder_layers": 1, "feedforward_dim": 16}
    rules = {"segment_threshold": 0.0, "overlap_threshold": 0.0}
    config = Mask2FormerConfig(num_classes=3, num_queries=6, decoder_layers=1, **heads, **rules)
    config = config.replace(embed_dim=8, depths=(1, 1), num_heads=(1, 2), window_size=4)
    described = ModelDescription(
        config=config, classes=("cat", "road", "sky"), preprocessing=DensePreprocessing(scale=None, antialias=True)
    )
    model = build(described)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
        predictor = model.sem_seg_head.predictor
        predictor.class_embed.bias[3] -= 9  # none
        predictor.query_feat.weight.mul_(3)
    return model


@pytest.fixture(scope="session")
def predictors() -> dict[str, Predictor]:
    torch.manual_seed(0)
    scenes = open_scenes("scenes_sample", "val", num_scenes=1)
    backbone = SwinConfig(embed_dim=16, depths=(1, 1), num_heads=(1, 2), window_size=4, single_window="keep")
    detector = DetectorConfig(backbone=backbone, num_classes=10, fpn_dim=16, fc_dim=16, max_detections=8)
    segmenter = SegmenterConfig(backbone=backbone, num_classes=11, decode_dim=8, auxiliary_dim=8, auxiliary_index=0)
    descriptions = {
        "objects": ModelDescription(
            config=detector, classes=scenes.classes, preprocessing=DensePreprocessing(scale=None)
        ),
        "pixels": ModelDescription(
            config=segmenter,
            classes=scenes.semantic_classes,
            palette=scenes.semantic_palette,
            preprocessing=DensePreprocessing(scale=None, size_divisor=1),
        ),
    }
    models = {"clothes": classifier(), **{name: build(one) for name, one in descriptions.items()}}
    models["segments"] = panoptic_model()
    return {name: Predictor(model, device="cpu", max_pixels=100_000) for name, model in models.items()}


@pytest.fixture(scope="session")
def running(serve: Serve, predictors: dict[str, Predictor]) -> Iterator[Running]:
    """A server of all that tests share."""
    with serve(predictors, max_bytes=100_000, hosts=["swin.example"], origins=["swin.example"]) as server:
        yield server


@pytest.fixture
def waiting() -> Iterator[Waiting]:
    predictor = Waiting(classifier(), device="cpu", batch_size=4)
    yield predictor
    predictor.go.set()


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, format="PNG")
    return file.getvalue()


@pytest.fixture(scope="session")
def shoe() -> bytes:
    return png(FashionSample("test")[0][0])


@pytest.fixture(scope="session")
def scene() -> bytes:
    return png(open_scenes("scenes_sample", "val", num_scenes=1, image_size=(64, 80))[0].image)
