"""Exported files of Swin-T beside timm's export and our model in process: time at 224 x 224 pixels, on a CPU.

    python benchmarks/exported.py
    python benchmarks/exported.py --int8 swin_tiny.xml swin_tiny_int8.onnx
    python benchmarks/exported.py --batch-sizes 1 8 --files exported/

Everything takes turns in one run, and writes minima, medians and ratios to benchmarks/results/, named after the day.
Leave the machine alone meanwhile. Making the files takes ten minutes on two cores, most of it AOTInductor's; with
`--files` they stay in that folder and are taken from there the next time. Weights are random.

8-bit files are yours to make, of float32 images of 224 x 224 pixels: `swin export swin_tiny_patch4_window7_224
swin_tiny.xml --int8 IMAGES`. Without any, their rows are left out and named.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

import swin_transformer_pytorch as swin
from swin_transformer_pytorch import benchmark
from swin_transformer_pytorch.benchmark.libraries import build_model
from swin_transformer_pytorch.export import export_aoti, export_program
from swin_transformer_pytorch.export.graph import quiet
from swin_transformer_pytorch.models.runtimes import openvino_core, openvino_options
from swin_transformer_pytorch.whole import replacing

RESULTS = Path(__file__).parent / "results"
MODEL, SIDE = "swin_tiny_patch4_window7_224", 224
TIMM, ANY_SIZE, STATIC = "timm, static", "ours, any size", "ours, static"
INT8 = "8 bits"
# Seconds: ONNX Runtime's threads spin on after a run, which made OpenVINO's next one a quarter slower.
PAUSE = 0.1
IN_PROCESS = "PyTorch"
Step = Callable[[], object]
Images = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Row:
    """What is timed: a form of the model, in an engine, in a precision ("default" is what the engine chooses)."""

    engine: str
    form: str
    precision: str

    def __str__(self) -> str:
        return f"{self.engine}, {self.form}, {self.precision}"


@dataclass(frozen=True, kw_only=True)
class Aim:
    """At most `limit` times the time of `below`; the median of the ratios round by round counts."""

    above: Row
    below: Row
    limit: float


def openvino_row(form: str, precision: str = "float32") -> Row:
    return Row(engine="OpenVINO", form=form, precision=precision)


AIMS = (
    Aim(above=openvino_row(ANY_SIZE), below=openvino_row(TIMM), limit=1.15),
    Aim(above=openvino_row(INT8, "int8"), below=openvino_row(ANY_SIZE), limit=0.45),
)


def timm_file(path: Path, setting: benchmark.Setting) -> None:
    """timm's model by PyTorch's exporter, for this batch and image size."""
    model = build_model("timm", setting)
    if model is None:
        raise SystemExit("this needs timm: pip install timm")
    images = torch.randn(setting.batch_size, 3, *setting.image_size)
    with replacing(path) as temporary, quiet():
        torch.onnx.export(
            model.eval(), (images,), temporary, input_names=["images"], dynamo=True, verbose=False, external_data=False
        )


def make_files(folder: Path, setting: benchmark.Setting) -> dict[str, Path]:
    """The exported files by their forms; those that are there already are taken."""
    model, batch = swin.create_model(setting.model).eval(), setting.batch_size
    recipes: dict[str, tuple[str, Callable[[Path], object]]] = {
        TIMM: (f"timm_{batch}.onnx", lambda path: timm_file(path, setting)),
        ANY_SIZE: ("any_size.onnx", lambda path: swin.export_onnx(model, path)),
        STATIC: (f"static_{batch}.onnx", lambda path: swin.export_onnx(model, path, SIDE, batch_size=batch)),
        ".pt2 program": ("program.pt2", lambda path: export_program(model, path)),
        "AOTInductor": ("aoti.pt2", lambda path: export_aoti(model, path)),
    }
    for form, (name, make) in recipes.items():
        if not (folder / name).exists():
            start = time.perf_counter()
            make(folder / name)
            print(f"{form}: exported in {time.perf_counter() - start:.0f} s", flush=True)
    return {form: folder / name for form, (name, _) in recipes.items()}


def openvino_step(path: Path, images: Images, precision: str | None) -> Step:
    compiled = openvino_core().compile_model(path, "CPU", openvino_options(precision))
    request = compiled.create_infer_request()
    return lambda: request.infer({0: images}, share_inputs=True, share_outputs=True)


def onnxruntime_step(path: Path, images: Images) -> Step:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"images": images})


def torch_step(run: Callable[[torch.Tensor], object], images: Images) -> Step:
    tensor = torch.from_numpy(images)

    def step() -> object:
        with torch.inference_mode():
            return run(tensor)

    return step


def make_steps(files: dict[str, Path], int8: Sequence[Path], images: Images) -> dict[Row, Step]:
    model = swin.create_model(MODEL).eval()
    steps: dict[Row, Step] = {}
    for form in (TIMM, ANY_SIZE, STATIC):
        steps[openvino_row(form)] = openvino_step(files[form], images, "f32")
        steps[openvino_row(form, "default")] = openvino_step(files[form], images, None)
        steps[Row(engine="ONNX Runtime", form=form, precision="float32")] = onnxruntime_step(files[form], images)
    for path in int8:
        if path.suffix == ".xml":
            steps[openvino_row(INT8, "int8")] = openvino_step(path, images, None)
        else:
            steps[Row(engine="ONNX Runtime", form=INT8, precision="int8")] = onnxruntime_step(path, images)
    loaded: dict[str, Callable[[torch.Tensor], object]] = {
        "model": model,
        "optimize_for_inference": swin.optimize_for_inference(model),
        ".pt2 program": torch.export.load(files[".pt2 program"]).module(),
        "AOTInductor": torch._inductor.aoti_load_package(str(files["AOTInductor"])),
    }
    for form, run in loaded.items():
        steps[Row(engine=IN_PROCESS, form=form, precision="float32")] = torch_step(run, images)
    return steps


def measure(setting: benchmark.Setting, folder: Path, int8: Sequence[Path], rounds: int) -> dict[str, Any]:
    """All rows of one batch size, with the time and the load at their start, which is 0 on an idle machine."""
    files = make_files(folder, setting)
    images = np.random.default_rng(0).standard_normal((setting.batch_size, 3, *setting.image_size), dtype=np.float32)
    steps = make_steps(files, int8, images)
    record: dict[str, Any] = {
        "batch_size": setting.batch_size,
        "measured_at": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "load_before": round(os.getloadavg()[0], 2),
        "left_out": [str(aim.above) for aim in AIMS if aim.above not in steps],
    }
    times = benchmark.alternate(steps, rounds, pause=PAUSE)
    record["rows"] = [{**dataclasses.asdict(row), "times": seconds} for row, seconds in times.items()]
    return record


def markdown(report: dict[str, Any]) -> str:
    """The aims and the rows of each batch size, with what they belong to."""
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    vnni = "with" if report["vnni"] else "without"
    sections = [
        f"{MODEL} at {SIDE} x {SIDE} pixels. {report['processor']} {vnni} VNNI, {report['threads']} threads; "
        f"{versions}. Random weights. {report['rounds']} rounds, in which all rows take turns, {PAUSE:g} s apart. "
        "`default` precision: OpenVINO's own choice, bfloat16 where the processor has it. "
        "Ratios are medians of the ratios round by round."
    ]
    for record in report["batches"]:
        times = {
            Row(**{key: row[key] for key in ("engine", "form", "precision")}): row["times"] for row in record["rows"]
        }
        left_out = f" Left out, as no file was given: {', '.join(record['left_out'])}." if record["left_out"] else ""
        sections.append(
            f"## Batch {record['batch_size']}\n\nMeasured {record['measured_at']}, load before: "
            f"{record['load_before']}.{left_out}\n\n{aims_table(times)}\n\n{rows_table(times)}"
        )
    return "\n\n".join(sections) + "\n"


def aims_table(times: dict[Row, list[float]]) -> str:
    lines = ["| | / | ratio | aim | |", "| --- | --- | ---: | ---: | --- |"]
    for aim in AIMS:
        ratio, verdict = "", "not measured"
        if aim.above in times:
            value = benchmark.median_ratio(times[aim.above], times[aim.below])
            ratio, verdict = (
                f"{value:.3f}",
                "met" if value <= aim.limit else f"**missed** by {value / aim.limit - 1:.0%}",
            )
        lines.append(f"| {aim.above} | {aim.below} | {ratio} | <= {aim.limit:.2f} | {verdict} |")
    return "\n".join(lines)


def rows_table(times: dict[Row, list[float]]) -> str:
    lines = [
        "| engine | form | precision | least ms | median ms | / OpenVINO's of timm |",
        "| --- | --- | --- | ---: | ---: | ---: |",
    ]
    for row, seconds in times.items():
        ratio = benchmark.median_ratio(seconds, times[openvino_row(TIMM)])
        figures = f"{1000 * min(seconds):.1f} | {1000 * statistics.median(seconds):.1f} | {ratio:.2f}"
        lines.append(f"| {row.engine} | {row.form} | {row.precision} | {figures} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-sizes", nargs="+", type=int, default=[1], metavar="N", help="images (default: 1)")
    parser.add_argument("--rounds", type=int, default=51, metavar="N", help="how often each is timed (default: 51)")
    parser.add_argument("--int8", nargs="+", type=Path, default=[], metavar="FILE", help="8-bit .xml and .onnx files")
    parser.add_argument("--files", type=Path, metavar="FOLDER", help="where exported files are, or are put")
    parser.add_argument("--output", metavar="STEM", type=Path, help="the results' path, without their endings")
    options = parser.parse_args()
    for path in options.int8:
        if path.suffix not in (".xml", ".onnx") or not path.is_file():
            parser.error(f"--int8 {path} is not an .xml or .onnx file")
    torch.manual_seed(0)
    report: dict[str, Any] = {
        "processor": benchmark.processor_name(),
        "vnni": torch.cpu._is_vnni_supported(),
        "threads": torch.get_num_threads(),
        "versions": benchmark.library_versions(
            ["torch", benchmark.OURS, "timm", "onnx", "onnxruntime", "openvino", "nncf"]
        ),
        "rounds": options.rounds,
        "batches": [],
    }
    stem = options.output or RESULTS / f"{datetime.date.today().isoformat()}-exported-cpu"
    stem.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.files or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        for batch_size in options.batch_sizes:
            setting = benchmark.Setting(
                model=MODEL, mode="inference", batch_size=batch_size, dtype="float32", image_size=(SIDE, SIDE)
            )
            report["batches"].append(measure(setting, folder, options.int8, options.rounds))
            stem.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n")
            stem.with_suffix(".md").write_text(markdown(report))
            print(f"batch {batch_size}: {stem}.json, {stem}.md", flush=True)


if __name__ == "__main__":
    main()
