"""Writes how many parameters each named model has, counted on the model; with --check, only says whether it is current.

`swin models` and the model zoo show these numbers, without torch.
"""

from __future__ import annotations

import argparse
import json
import sys

import torch

from swin_transformer_pytorch.models.config import PARAMETER_COUNTS, model_names
from swin_transformer_pytorch.models.registry import create_model


def counts() -> dict[str, int]:
    """By name; on the meta device, where a model takes no memory."""
    found = {}
    for name in model_names():
        with torch.device("meta"):
            found[name] = sum(parameter.numel() for parameter in create_model(name).parameters())
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if the file is not current")
    check = parser.parse_args().check
    current = json.dumps(counts(), indent=2) + "\n"
    if not check:
        PARAMETER_COUNTS.write_text(current, encoding="utf-8")
    elif not PARAMETER_COUNTS.exists() or PARAMETER_COUNTS.read_text(encoding="utf-8") != current:
        print(f"{PARAMETER_COUNTS.name} is not current: run `python tools/count_parameters.py`", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
