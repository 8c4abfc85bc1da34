"""The package as it is installed: what importing it loads, what it offers, and what the wheel holds."""

import ast
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

import swin_transformer_pytorch as swin
from swin_transformer_pytorch import training

ROOT = Path(__file__).parents[1]
PACKAGE = Path(swin.__file__).parent
HEAVY = ("torch", "torchvision", "lightning", "torchmetrics", "matplotlib", "timm", "transformers", "huggingface_hub")
LIGHT_MODULES = (
    "swin_transformer_pytorch",
    "swin_transformer_pytorch.checks",
    "swin_transformer_pytorch.window_rule",
    "swin_transformer_pytorch.backbone.config",
    "swin_transformer_pytorch.backbone.complexity",
    "swin_transformer_pytorch.models.description",
    "swin_transformer_pytorch.weights.catalog",
    "swin_transformer_pytorch.data.classification.source",
    "swin_transformer_pytorch.data.detection.source",
    "swin_transformer_pytorch.data.segmentation.source",
    "swin_transformer_pytorch.weights.formats",
    "swin_transformer_pytorch.weights.preprocessing",
    "swin_transformer_pytorch.data.classification.augmentation",
    "swin_transformer_pytorch.training",
    "swin_transformer_pytorch.training.recipes.files",
    "swin_transformer_pytorch.results",
    "swin_transformer_pytorch.extras",
    "swin_transformer_pytorch.lazy",
    "swin_transformer_pytorch.cli",
)


@pytest.mark.parametrize("module", LIGHT_MODULES)
def test_import_loads_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print(*(name for name in {HEAVY!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_models_run_without_the_compiler() -> None:
    """Importing it takes as long as importing torch."""
    code = (
        "import sys, torch, swin_transformer_pytorch as swin\n"
        "model = swin.create_model('swin_tiny_patch4_window7_224', depths=(1, 1, 1, 1)).eval()\n"
        "images = torch.rand(1, 3, 32, 32)\n"
        "model(images).sum().backward()\n"
        "swin.optimize_for_inference(model)(images)\n"
        "print('torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]


@pytest.mark.parametrize("package", [swin, training])
def test_every_public_name_resolves(package: ModuleType) -> None:
    for name in package.__all__:
        assert getattr(package, name) is not None
    assert set(package.__all__) <= set(dir(package))


@pytest.mark.parametrize("package", [swin, training])
def test_lazy_names_and_their_types_agree(package: ModuleType) -> None:
    """What an editor sees (the TYPE_CHECKING imports) is what is imported on first use."""
    tree = ast.parse(Path(package.__file__ or "").read_text(encoding="utf-8"))
    seen = {
        alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.level == 1 and node.module != "lazy"
        for alias in node.names
    }
    assert seen == {name: module for module, names in package._HOMES.items() for name in names}
    assert set(package.__all__) - {"__version__"} == set(seen)


@pytest.mark.parametrize("package", [swin, training])
def test_an_unknown_name_is_an_attribute_error(package: ModuleType) -> None:
    with pytest.raises(AttributeError, match="no attribute 'swin_xxl'"):
        _ = package.swin_xxl


@pytest.fixture(scope="module")
def wheel_files(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    from hatchling.builders.wheel import WheelBuilder

    folder = tmp_path_factory.mktemp("wheel")
    (wheel,) = WheelBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"])
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_wheel_holds_every_file_of_the_package(wheel_files: set[str]) -> None:
    expected = {
        f"{PACKAGE.name}/{path.relative_to(ROOT / 'src' / PACKAGE.name).as_posix()}"
        for path in (ROOT / "src" / PACKAGE.name).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {file for file in wheel_files if ".dist-info/" not in file} == expected


@pytest.mark.parametrize(
    "suffix",
    [
        "recipes/*.yaml",
        "models/*.json",
        "weights/*.txt",
        "weights/pretrained/*.safetensors",
        "data/classification/*.npz",
        "web/static/*.html",
    ],
)
def test_the_wheel_holds_data_of_each_kind(wheel_files: set[str], suffix: str) -> None:
    assert any(Path(file).match(f"{PACKAGE.name}/{suffix}") for file in wheel_files)


def test_the_wheel_holds_licence_notice_and_command(wheel_files: set[str]) -> None:
    names = {Path(file).name for file in wheel_files}
    assert {"LICENSE", "FASHION_MNIST_NOTICE.txt", "entry_points.txt", "py.typed"} <= names


def test_the_version_is_said_once() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == swin.__version__
    assert f"version: {swin.__version__}" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
