"""`trainer.compile`: what is compiled computes what is not, in one graph, and what is written is the same."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch
import yaml
from safetensors.torch import load_file

from swin_transformer_pytorch.training.recipes.classification import Recipe

# In a process without the tests' checks of shapes, which cannot be traced. The compiler itself is PyTorch's, and slow;
# its other backend runs the captured graph as it is.
PROGRAM = """
import sys
from torch import nn
from swin_transformer_pytorch.cli import main

def broken(graph, inputs):
    raise RuntimeError("no compiler here")

real, calls = nn.Module.compile, []

def compiled(module, backend):
    calls.append(module)
    real(module, backend=backend, fullgraph=True)

nn.Module.compile = lambda module: compiled(module, broken)
assert main(["train", sys.argv[1], "--output", sys.argv[1] + ".plain"]) == 0
assert main(["train", sys.argv[1], "--trainer.compile", "true", "--output", sys.argv[1] + ".broken"]) == 2
nn.Module.compile = lambda module: compiled(module, "eager")
assert main(["train", sys.argv[1], "--trainer.compile", "true"]) == 0
assert len(calls) == 2, calls
"""


def test_a_compiled_run_is_the_plain_one(
    tiny: Callable[..., Recipe], environment: dict[str, str], tmp_path: Path
) -> None:
    made, output = tiny("compiled"), tmp_path / "compiled"
    recipe, program = tmp_path / "recipe.yaml", tmp_path / "program.py"
    recipe.write_text(yaml.safe_dump(made.to_dict()))
    program.write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, str(program), str(recipe)], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "swin: error: trainer.compile=true: torch.compile failed here (" in done.stderr
    assert "no compiler here); leave it out" in done.stderr
    plain, compiled = (load_file(folder / "model.safetensors") for folder in (tmp_path / "recipe.yaml.plain", output))
    assert plain.keys() == compiled.keys()
    for name, tensor in plain.items():
        # Softmax does not see the keys' bias: its gradient is rounding, which AdamW enlarges.
        tolerance = 5e-3 if name.endswith("qkv.bias") else 1e-4
        torch.testing.assert_close(compiled[name], tensor, atol=tolerance, rtol=0, msg=name)
