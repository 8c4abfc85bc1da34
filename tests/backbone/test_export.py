"""One exported graph takes any batch, height and width (policy "keep", the dense models' default)."""

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim, export

from swin_transformer_pytorch.backbone.config import SwinConfig
from swin_transformer_pytorch.models.backbone import SwinBackbone

pytestmark = pytest.mark.usefixtures("unchecked_shapes")


def backbone(version: int) -> SwinBackbone:
    config = SwinConfig(
        version=version,  # type: ignore[arg-type]
        embed_dim=4,
        depths=(2, 1),
        num_heads=(1, 2),
        window_size=(3, 4),
        single_window="keep",
    )
    model = SwinBackbone(config, out_indices=(0, 1))
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.5)
    return model.eval()


def close(got: list[Tensor], expected: list[Tensor]) -> None:
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("version", [1, 2])
def test_export_with_dynamic_batch_height_and_width(version: int) -> None:
    model = backbone(version)
    # torch.export takes a size of 1 for a constant: so more than one window a side, in the last stage too.
    height, width = Dim("height", min=3 * 8 + 1, max=4096), Dim("width", min=4 * 8 + 1, max=4096)

    program = export(
        model, (torch.randn(2, 3, 44, 41),), dynamic_shapes=({0: Dim("batch", max=1024), 2: height, 3: width},)
    )

    graph: nn.Module = program.module()
    for shape in ((2, 3, 44, 41), (1, 3, 64, 64), (3, 3, 97, 33), (5, 3, 25, 131), (1, 3, 200, 90)):
        x = torch.randn(shape)
        with torch.no_grad():
            close(graph(x), model(x))
