"""Measures this package beside the other libraries' Swin, in one run, on this machine.

Machines differ and are noisy, so only ratios within one run mean anything: the libraries take turns inside one process
after a warm-up, and what is compared is the median of the ratios round by round.
"""

from __future__ import annotations

from .floor import Product as Product, floor_products as floor_products
from .libraries import FLOOR as FLOOR, OPENVINO as OPENVINO, OPTIMIZED as OPTIMIZED, OURS as OURS, PEERS as PEERS
from .machine import library_versions as library_versions, processor_name as processor_name
from .measurement import Measurement as Measurement
from .measuring import measure as measure, run as run
from .memory import peak_in_fresh_process as peak_in_fresh_process, process_memory as process_memory
from .picture import benchmark_picture as benchmark_picture
from .profiling import profile_step as profile_step
from .report import BenchmarkReport as BenchmarkReport, markdown_table as markdown_table
from .setting import BenchmarkError as BenchmarkError, Setting as Setting
from .steps import make_step as make_step
from .timing import alternate as alternate, median_ratio as median_ratio
