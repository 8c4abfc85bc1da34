"""What the page and the API answer, and what they refuse."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from swin_transformer_pytorch import web
from swin_transformer_pytorch.data.images.decode import read_image
from swin_transformer_pytorch.results import Detections, PanopticSegmentation
from swin_transformer_pytorch.results.panoptic import colours_as_ids
from swin_transformer_pytorch.visualize import label_map, overlay
from swin_transformer_pytorch.web.guard import HEADERS
from swin_transformer_pytorch.web.schema import (
    ClassificationAnswer,
    DetectionAnswer,
    PanopticAnswer,
    SegmentationAnswer,
)

STATIC = Path(web.__file__).parent / "static"
SCHEMAS = {
    "clothes": ClassificationAnswer,
    "objects": DetectionAnswer,
    "pixels": SegmentationAnswer,
    "segments": PanopticAnswer,
}


@pytest.mark.parametrize("name", SCHEMAS)
@pytest.mark.parametrize("picture", [False, True])
def test_an_answer_is_the_predictors(running, predictors, scene: bytes, name: str, picture: bool) -> None:
    least = {"score_threshold": 0.05} if name == "objects" else {}
    record = running.post(scene, model=name, picture=picture, **least).json()
    SCHEMAS[name].model_validate(record)
    expected = predictors[name](scene)
    if isinstance(expected, Detections):
        expected = expected.above(0.05)
        assert len(expected)  # else nothing is compared
    assert record["model"] == name and record["milliseconds"] >= 0
    assert {field: record[field] for field in expected.to_dict()} == json.loads(json.dumps(expected.to_dict()))
    assert ("picture" in record) == picture
    if picture:
        assert np.array_equal(decoded(record["picture"]), overlay(read_image(scene), expected))
    if picture and name == "pixels":
        assert np.array_equal(decoded(record["label_map"]), label_map(expected))
    if isinstance(expected, PanopticSegmentation):
        assert len(record["segments"]) > 1
        if picture:
            assert np.array_equal(colours_as_ids(np.array(decoded(record["segment_ids"]))), expected.segment_ids)
    if picture and name != "clothes":
        assert len(record["colours"]) == len(record["segments" if name == "segments" else "labels"])


def decoded(text: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(text)))


def test_without_a_name_the_first_model_answers_and_objects_are_as_sure_as_the_server_says(running, scene) -> None:
    assert running.post(scene).json()["model"] == "clothes"
    usual = running.client.get("/models").json()["score_threshold"]
    record = running.post(scene, model="objects").json()
    assert record["score_threshold"] == usual and all(score >= usual for score in record["scores"])


PROBLEMS: dict[str, tuple[dict[str, Any], int, str]] = {
    "text": ({"content": b"hello"}, 400, "holds text"),
    "nothing": ({"content": b""}, 400, "empty"),
    "cut": ({"content": "cut"}, 400, "cut short"),
    "many pixels": ({"content": "many pixels"}, 400, "400 x 300 pixels, more than 100,000"),
    "unknown model": ({"params": {"model": "birds"}}, 404, "clothes, objects, pixels, segments"),
    "many bytes": ({"content": bytes(100_001)}, 413, "100,000 bytes"),
    "many bytes in chunks": ({"content": iter([bytes(60_000)] * 2)}, 413, "100,000 bytes"),
    "a form": ({"files": {"file": b"x"}}, 415, "--data-binary"),
    "score": ({"params": {"model": "objects", "score_threshold": "2"}}, 422, "score_threshold: "),
    "score of no detector": ({"params": {"score_threshold": "0.5"}}, 422, "is for detectors"),
    "foreign page": ({"headers": {"Origin": "https://evil.example"}}, 403, "another origin"),
    "foreign name": ({"headers": {"Host": "evil.example"}}, 421, "--allow-host"),
}


@pytest.mark.parametrize("what", PROBLEMS)
def test_a_problem_is_said_in_one_form_and_described(running, scene: bytes, what: str) -> None:
    request, status, text = PROBLEMS[what]
    made = {"cut": scene[:-300], "many pixels": many_pixels()}
    content = request.get("content", None if "files" in request else scene)
    request = {**request, "content": made.get(content, content) if isinstance(content, str) else content}
    response = running.client.post("/predict", **request)
    assert response.status_code == status
    assert text in response.json()["detail"] and set(response.json()) == {"detail"}
    described = running.client.get("/openapi.json").json()["paths"]["/predict"]["post"]
    assert described["responses"][str(status)]["content"]["application/json"]["schema"]["$ref"].endswith("/Problem")
    assert running.post(scene).status_code == 200


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
def test_a_request_of_another_method_is_told_to_post(running, method: str) -> None:
    response = running.client.request(method, "/predict")
    assert (response.status_code, response.headers["Allow"]) == (405, "POST")
    assert "POST the image" in response.json()["detail"]


def many_pixels() -> bytes:
    file = io.BytesIO()
    Image.new("L", (400, 300)).save(file, format="PNG")
    return file.getvalue()


@given(data=st.data())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_image_is_an_answer_or_a_400_without_paths(running, scene: bytes, data: st.DataObject) -> None:
    file = io.BytesIO()
    kind = data.draw(st.sampled_from(["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP"]))
    Image.open(io.BytesIO(scene)).save(file, format=kind)
    damaged = bytearray(file.getvalue())
    for place in data.draw(st.lists(st.integers(0, len(damaged) - 1), min_size=1, max_size=8)):
        damaged[place] = data.draw(st.integers(0, 255))
    response = running.post(bytes(damaged[: data.draw(st.integers(1, len(damaged)))]))
    assert response.status_code in (200, 400)
    if response.status_code == 400:
        detail = response.json()["detail"]
        assert detail.startswith("the image of ") and "0x" not in detail and str(Path.cwd()) not in detail


@pytest.mark.parametrize(
    ("host", "accepted"),
    [
        ("localhost", True),
        ("LOCALHOST:9000", True),
        ("127.0.0.1:1", True),
        ("[::1]:8000", True),
        ("192.168.0.7", True),
        ("swin.example", True),
        ("swin.example:443", True),
        ("sub.swin.example", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("evil.example#localhost", False),
        ("localhost@evil.example", False),
        ("[", False),
        ("", False),
    ],
)
def test_only_names_of_the_server_are_answered(running, host: str, accepted: bool) -> None:
    assert running.client.get("/health", headers={"Host": host}).status_code == (200 if accepted else 421)


@pytest.mark.parametrize(
    ("host", "origin", "accepted"),
    [
        ("localhost:8000", "http://localhost:8000", True),
        ("localhost:8000", "http://LOCALHOST:8000", True),
        ("[::1]:8000", "http://[::1]:8000", True),
        ("localhost:8000", "https://swin.example", True),
        ("localhost:8000", "http://localhost:3000", False),
        ("localhost:8000", "http://127.0.0.1:8000", False),
        ("localhost:8000", "http://evil.example", False),
        ("localhost:8000", "null", False),
        ("localhost:8000", "", False),
    ],
)
def test_only_its_own_pages_may_send(running, scene: bytes, host: str, origin: str, accepted: bool) -> None:
    headers = {"Host": host, "Origin": origin}
    response = running.client.post("/predict", content=scene, headers=headers)
    assert response.status_code == (200 if accepted else 403)
    assert running.client.get("/models", headers=headers).status_code == 200  # what it may not read in a browser
    assert "access-control-allow-origin" not in response.headers


def test_the_address_that_it_listens_at_makes_no_other_port_its_own(serve, predictors, scene: bytes) -> None:
    with serve(predictors, hosts=["127.0.0.1"]) as running:  # as the command does
        for port, code in ((running.port, 200), (3000, 403)):
            headers = {"Origin": f"http://127.0.0.1:{port}"}
            assert running.client.post("/predict", content=scene, headers=headers).status_code == code


def test_a_parameter_that_is_none_is_named(running, scene: bytes) -> None:
    response = running.client.post("/predict?score_treshold=0.9", content=scene)
    assert response.status_code == 422
    assert response.json()["detail"] == "there is no parameter 'score_treshold'; use model, picture, score_threshold"


@pytest.mark.parametrize("path", ["", "page.js", "page.css", "icon.svg", "models", "health", "openapi.json"])
@pytest.mark.parametrize("headers", [{}, {"Host": "evil.example"}])
def test_every_answer_has_the_headers_that_keep_a_browser_inside(running, path: str, headers: dict[str, str]) -> None:
    response = running.client.get(f"/{path}", headers=headers)
    assert response.status_code == (421 if headers else 200)
    assert {name: response.headers[name] for name in HEADERS} == HEADERS


@pytest.mark.parametrize("path", ["docs", "redoc", "nothing", "samples/nothing", "..%2fapp.py", "%2e%2e/app.py"])
def test_nothing_else_is_there(running, path: str) -> None:
    assert running.client.get(f"/{path}").status_code == 404


def test_the_page_has_nothing_that_its_policy_forbids() -> None:
    text = {path.name: path.read_text(encoding="utf-8") for path in STATIC.iterdir()}
    assert not [name for name, one in text.items() if re.search(r"https?://(?!www\.w3\.org/2000/svg)", one)]
    inline = r"<style|<script(?![^>]*\bsrc=)|\son\w+=|\sstyle="
    assert not re.search(inline, text["index.html"])
    assert not re.search(r"innerHTML|insertAdjacentHTML|\beval\b|setAttribute\(.style", text["page.js"])
    named = set(re.findall(r'byId\("([\w-]+)"\)', text["page.js"]))
    assert named <= set(re.findall(r'\sid="([\w-]+)"', text["index.html"])) and len(named) > 10


def test_models_and_their_samples(running, predictors) -> None:
    models = running.client.get("/models").json()["models"]
    assert [model["name"] for model in models] == list(predictors)
    for model in models:
        assert model["classes"] == list(predictors[model["name"]].classes) and model["samples"]
        for sample in model["samples"]:
            response = running.client.get(f"/{sample}")
            assert response.headers["content-type"] == "image/png"
            assert running.post(response.content, model=model["name"]).status_code == 200


def test_the_description_is_of_what_is_there(running) -> None:
    described = running.client.get("/openapi.json").json()
    assert set(described["paths"]) == {"/predict", "/models", "/health", "/samples/{name}"}
    body = described["paths"]["/predict"]["post"]["requestBody"]
    assert body["required"] and body["content"]["image/*"]["schema"] == {"type": "string", "format": "binary"}
    references = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(described)))
    assert references <= set(described["components"]["schemas"])
