"""What the compiler is told of functions is what PyTorch's own decorator tells it."""

import torch

from swin_transformer_pytorch.ops.tracing import constant_when_traced


def test_it_marks_as_pytorch_does() -> None:
    def ours() -> int:
        return 1

    def theirs() -> int:
        return 1

    assert vars(constant_when_traced(ours)) == vars(torch.compiler.assume_constant_result(theirs)) != {}
