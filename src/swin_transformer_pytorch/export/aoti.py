"""`export_aoti`: a model compiled ahead of time by AOTInductor, which C++ runs with libtorch and without Python."""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path

import torch
from torch import nn

from ..extras import errors_alone
from ..models.detection import Detector
from ..models.mask2former_config import refuse_mask2former
from ..sizes import Size
from .comparison import compare
from .files import check_target, described
from .graph import METADATA, ExportError, prepare, quiet


def export_aoti(
    model: nn.Module,
    path: str | os.PathLike[str],
    image_size: int | Size | None = None,
    *,
    batch_size: int | None = None,
    byte_input: bool = False,
) -> Path:
    """Writes a model as an AOTInductor package, and what it is to a JSON file of the same name beside it.

    `torch::inductor::AOTIModelPackageLoader` of libtorch runs the package, and so does
    `torch._inductor.aoti_load_package`. It takes `images` and gives a list of outputs, and holds machine code for
    processors like this one, for the torch that it was made with. Its metadata has the JSON under
    `swin_transformer_pytorch`. Compiling takes minutes; with an `image_size` fewer. As `export_onnx` otherwise.

    Raises:
        ExportError: as `export_onnx`; or it is a detector or a Mask2Former, or there is no C++ compiler, or it fails.
    """
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.utils import fresh_cache

    target = check_target(path, ".pt2")
    if isinstance(model, Detector):
        raise ExportError("libtorch lacks torchvision's operators, which detectors need: export one by export_onnx")
    refuse_mask2former(getattr(model, "config", None), "cannot be compiled ahead of time", ExportError)
    graph = prepare(model, image_size, batch_size=batch_size, byte_input=byte_input)
    try:
        get_cpp_compiler()
    except RuntimeError as error:
        raise ExportError(
            f"AOTInductor needs a C++ compiler, such as g++ or clang++, and found none: install one, or name it by CXX "
            f"({error})"
        ) from error
    options = {
        "aot_inductor.metadata": {METADATA: json.dumps(graph.description)},
        "aot_inductor.precompile_headers": False,
        "cpp.dynamic_threads": True,  # as many as where it runs, rather than as here
    }
    with described(target, graph.description) as (temporary,):
        # Of the cache nothing would be used again: weights are in the code.
        try:
            with quiet(), errors_alone("torch.utils.cpp_extension"), fresh_cache():
                torch._inductor.aoti_compile_and_package(
                    graph.trace(), package_path=str(temporary), inductor_configs=options
                )
        except Exception as error:  # of Inductor, of the compiler, of the disk
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise ExportError(
                f"{target} could not be compiled ({reason}): is there room on the disk, also for temporary files, and "
                "does the C++ compiler work?"
            ) from error
        compare(partial(torch._inductor.aoti_load_package, str(temporary)), graph)
    return target
