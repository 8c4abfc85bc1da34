"""Shapes in signatures are checked while the tests run: jaxtyping and beartype, installed before the first import."""

import os
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec, PathFinder

import jaxtyping
import pytest
from hypothesis import settings
from jaxtyping import install_import_hook

# Some tests import OpenVINO themselves, which would send usage data: see `extras.require`.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]

# Tests run in as many processes as there are cores (`make test`): more threads would only wait for each other.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# Only modules of tensors: a config says which type its field has, and takes more (an int for a pair).
CHECKED = ("ops", "backbone.attention", "backbone.layers", "backbone.swin")
install_import_hook([f"swin_transformer_pytorch.{module}" for module in CHECKED], "beartype.beartype")


class Unchecked(PathFinder):
    """Finds GPU kernels before the checks do: Triton compiles functions from their source, and none that is wrapped."""

    @classmethod
    def find_spec(cls, fullname, path=None, target=None) -> ModuleSpec | None:
        return super().find_spec(fullname, path, target) if "ops.triton." in fullname else None


sys.meta_path.insert(0, Unchecked)

# A slow machine is no failure. In CI every run draws the same examples; at home each run draws new ones.
settings.register_profile("swin", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("swin")


@pytest.fixture
def unchecked_shapes() -> Iterator[None]:
    """The check of annotated types takes neither symbolic integers nor sizes of a trace."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)
