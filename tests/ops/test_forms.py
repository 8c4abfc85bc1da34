"""Kernels for vectors of other widths than this processor's: a small form of `tools/sanitize_cpu_kernel.py`."""

import platform
import subprocess
from pathlib import Path

import pytest

from swin_transformer_pytorch.ops.cpu import build

ROOT = Path(__file__).parents[2]
FORMS = {"8 floats": ["-march=x86-64-v3"], "16 floats, plain": ["-D__AVX512F__", "-DSWIN_PLAIN_VECTORS", "-Wno-psabi"]}


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_norms_and_blocks_of_vectors_of(form: str, tmp_path: Path) -> None:
    if platform.machine() != "x86_64":
        pytest.skip(f"for x86-64, and this is {platform.machine()}")
    try:
        compiler = build.find_compiler()
    except build.KernelBuildError as error:
        pytest.skip(str(error))
    program = tmp_path / "blocks"
    source, kernels = ROOT / "tools" / "sanitize_blocks.cpp", Path(build.__file__).parent
    command = [compiler, "-std=c++20", "-O0", "-ffp-contract=fast", "-pthread", f"-I{kernels}", *FORMS[form]]
    done = subprocess.run([*command, str(source), "-o", str(program)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    if form == "8 floats" and "avx2" not in Path("/proc/cpuinfo").read_text(encoding="utf-8"):
        pytest.skip("this processor has no AVX2")
    cases = subprocess.run([program, "60", "1"], capture_output=True, text=True, check=False)
    assert (cases.returncode, cases.stdout) == (0, "")
