"""`torch.compile` sees one graph, in inference and in training, and it gives the model's own answers and gradients."""

import subprocess
import sys

import pytest

# In a process of its own: Dynamo does not trace the tests' check of annotated shapes. `aot_eager` traces all that the
# default backend does, and needs no compiler.
SCRIPT = """
import torch
from swin_transformer_pytorch.backbone.config import SwinConfig
from swin_transformer_pytorch.models.classification import SwinClassifier

torch.manual_seed(0)
config = SwinConfig(version={version}, embed_dim=4, depths=(2,), num_heads=(1,), window_size=3, drop_path_rate=0.0)
model = SwinClassifier(config, num_classes=5)
for parameter in model.parameters():
    torch.nn.init.normal_(parameter, std=0.5)
compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
images = torch.randn(2, 3, 30, 41)

model(images).square().sum().backward()
expected = [parameter.grad for parameter in model.parameters()]
model.zero_grad(set_to_none=True)
compiled(images).square().sum().backward()
for parameter, grad in zip(model.parameters(), expected, strict=True):
    torch.testing.assert_close(parameter.grad, grad, rtol=1e-4, atol=1e-4)

model.eval()
with torch.no_grad():
    torch.testing.assert_close(compiled(images), model(images), rtol=1e-4, atol=1e-4)
"""


@pytest.mark.slow
@pytest.mark.parametrize("version", [1, 2])
def test_one_graph_trains_and_infers_like_the_model(version: int) -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT.format(version=version)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
