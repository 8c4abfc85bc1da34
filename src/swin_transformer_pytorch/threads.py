"""How threads of PyTorch's runtime of OpenMP wait for work: it reads that from the environment when it is loaded."""

from __future__ import annotations

import os
import sys

_VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
_BRIEFLY = "5000"


def have_threads_wait_briefly() -> None:
    """For microseconds instead of milliseconds, unless the environment says how long, or torch is loaded already.

    Alone models are as fast; on cores that other programs use too, optimised ones twice as fast
    (`benchmarks/neighbours.py`).
    """
    if "torch" not in sys.modules and not any(name in os.environ for name in _VARIABLES):
        os.environ["GOMP_SPINCOUNT"] = _BRIEFLY


def describe_waiting() -> str:
    """What the environment says of it, or what it should say on cores that others use too."""
    chosen = {name: os.environ[name] for name in _VARIABLES if os.environ.get(name)}
    if chosen and chosen != {"GOMP_SPINCOUNT": _BRIEFLY}:
        return "as " + " and ".join(f"{name}={value}" for name, value in chosen.items()) + " says"
    return (
        f"briefly in commands; in Python for milliseconds, unless GOMP_SPINCOUNT={_BRIEFLY} (for optimised models) or "
        "OMP_WAIT_POLICY=PASSIVE is set before torch is imported: for cores that others use too"
    )
