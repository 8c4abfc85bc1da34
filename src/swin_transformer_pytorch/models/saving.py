"""Models as files that say what they are, as folders of transformers, and on the Hugging Face hub."""

from __future__ import annotations

import json
import os
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from ..backbone.config import SwinConfig
from ..weights.errors import CheckpointError
from ..weights.files import save_checkpoint
from ..weights.folders import CONFIG, PREPROCESSOR, WEIGHTS
from ..weights.formats import convert_state_dict
from ..weights.formats.format import FormatError
from ..weights.formats.transformers_config import write_config, write_preprocessing
from ..weights.preprocessing import Preprocessing
from ..whole import write_text
from .card import model_card
from .config import DenseConfig, MaskedConfig
from .description import describe

if TYPE_CHECKING:
    from .build import Model


def save_model(model: Model, path: str | os.PathLike[str]) -> None:
    """Writes a model as a file that says which model it is, whole or not at all; `load_model` reads it.

    Args:
        model: of any task.
        path: ends in .safetensors, or .pth, .pt or .bin for a torch file; its folder must exist.

    Raises:
        ValueError: it cannot be written, or layers were exchanged, so that it could not be loaded again.
    """
    metadata = model.metadata()
    save_checkpoint(path, model.state_dict(), metadata, classes=metadata["classes"], palette=metadata.get("palette"))


def save_for_transformers(model: Model, folder: str | os.PathLike[str]) -> tuple[str, ...]:
    """Writes a model as a folder for transformers' `AutoModelForImageClassification` and `AutoImageProcessor`; one of
    masked pre-training for `AutoModelForMaskedImageModeling`.

    Each file is whole or as it was, the weights come last. The folder is made where it is missing.

    Returns:
        What transformers does otherwise than this model, one sentence each.

    Raises:
        FormatError: transformers has no such model.
        ValueError: it cannot be written.
    """
    model.metadata()  # that it is still what it was made as
    description = describe(model)
    if isinstance(description.config, DenseConfig):
        raise FormatError(
            f"folders of transformers are for classifiers, and this model is for {description.task}: write a file"
        )
    masked = description.config if isinstance(description.config, MaskedConfig) else None
    backbone = description.config.backbone if isinstance(description.config, MaskedConfig) else description.config
    preprocessing = description.preprocessing
    assert preprocessing is None or isinstance(preprocessing, Preprocessing), "it is a classifier's"
    config = write_config(
        backbone,
        description.num_classes,
        description.classes,
        preprocessing,
        multi_label=description.multi_label,
        masked=masked is not None,
    )
    weights = convert_state_dict(model.state_dict(), to="transformers", source="official")
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / CONFIG, json.dumps(config, indent=2) + "\n")
        if preprocessing is not None:
            write_text(folder / PREPROCESSOR, json.dumps(write_preprocessing(preprocessing), indent=2) + "\n")
        else:
            (folder / PREPROCESSOR).unlink(missing_ok=True)
    except OSError as error:
        raise CheckpointError(f"{folder} cannot be written: {error.strerror or error}") from error
    save_checkpoint(folder / WEIGHTS[0], weights)
    return (*_differences(backbone, preprocessing), *(_masked_differences(masked) if masked is not None else ()))


def _differences(config: SwinConfig, preprocessing: Preprocessing | None) -> list[str]:
    if config.version == 1:
        said = ["after an image that one window covers it keeps the smaller window for later ones: use one image size"]
    else:
        said = ["it has the windows of image_size for images of every size: use that size"]
    if preprocessing is None:
        return [*said, f"the model has no preprocessing, so there is no {PREPROCESSOR}"]
    if isinstance(preprocessing.resize_size, int):
        said.append("its crop may lie one pixel beside this package's, where the resized image is odd in size")
    if preprocessing.white_level is not None:
        said.append(f"its processor knows no white level: scale files of 16 bits by {preprocessing.white_level} first")
    if preprocessing.channels == 1:
        said.append("its processor takes grey images and does not make others grey")
    return [*said, 'its processor resizes by torch unless it is loaded with backend="pil", as this package does']


def _masked_differences(config: MaskedConfig) -> list[str]:
    down, right = config.backbone.patch_size
    said = [f"bool_masked_pos has a value for each patch of {down} x {right} pixels, row by row: repeat the squares"]
    if config.target_window is not None:
        said.append(f"its loss is of the pixels, and this model foretells {config.foretold}")
    return said


def push_to_hub(
    model: Model,
    repository: str,
    *,
    private: bool | None = None,
    licence: str | None = None,
    message: str = "Upload a model of swin-transformer-pytorch",
) -> str:
    """Uploads a model to the Hugging Face hub: `model.safetensors`, which says which model it is, and a model card.

    `load_model("hf:user/name")` reads it. You must be logged in (`hf auth login`, or HF_TOKEN). The repository is made
    where it is missing. A card that is there already is kept.

    Args:
        model: of any task.
        repository: "user/name".
        private: of a new repository: whether others cannot see it; None for what the user's account says.
        licence: the weights' licence as the hub spells it, such as "mit"; None leaves it open.
        message: of the commit.

    Returns:
        The address of the commit.

    Raises:
        ValueError: no such name or right to it, the hub is out of reach, or layers of the model were exchanged.
    """
    from huggingface_hub import HfApi

    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise ValueError(f"repository={repository!r} is not possible: give 'user/name'")
    api = HfApi()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_model(model, folder / WEIGHTS[0])
        (folder / "README.md").write_text(model_card(model, repository, f"hf:{repository}", licence), encoding="utf-8")
        try:
            api.create_repo(repository, private=private, exist_ok=True)
            kept = ["README.md"] if api.file_exists(repository, "README.md") else None
            commit = api.upload_folder(
                repo_id=repository, folder_path=folder, commit_message=message, ignore_patterns=kept
            )
        except Exception as error:  # the hub's client raises what its HTTP library does, another in each version
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            raise ValueError(
                f"{repository} could not be uploaded ({reason}): check the name, the network and `hf auth whoami`"
            ) from error
    return str(commit.commit_url)
