"""Measures this package beside the other libraries' Swin, in one run, on this machine.

Machines differ and are noisy, so only ratios within one run mean anything: the libraries take turns inside one process
after a warm-up, and what is compared is the median of the ratios round by round.
"""

from __future__ import annotations

from .floor import Product, floor_products
from .libraries import FLOOR, OPENVINO, OPTIMIZED, OURS, PEERS
from .machine import library_versions, processor_name
from .measurement import Measurement
from .measuring import measure, run
from .memory import peak_in_fresh_process, process_memory
from .picture import benchmark_picture
from .profiling import profile_step
from .report import BenchmarkReport, markdown_table
from .setting import BenchmarkError, Setting
from .steps import make_step
from .timing import alternate, median_ratio

__all__ = [
    "FLOOR",
    "OPENVINO",
    "OPTIMIZED",
    "OURS",
    "PEERS",
    "BenchmarkError",
    "BenchmarkReport",
    "Measurement",
    "Product",
    "Setting",
    "alternate",
    "benchmark_picture",
    "floor_products",
    "library_versions",
    "make_step",
    "markdown_table",
    "measure",
    "median_ratio",
    "peak_in_fresh_process",
    "process_memory",
    "processor_name",
    "profile_step",
    "run",
]
