"""`python -m swin_transformer_pytorch` is the `swin` command."""

import sys

from swin_transformer_pytorch.cli import main

if __name__ == "__main__":
    sys.exit(main())
