"""Shows what is installed, which attention kernels are active and why, and what is missing with the command for it.

Paste its output into a bug report.
"""

from __future__ import annotations

import argparse
import json

from . import terminal


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--build",
        action="store_true",
        help="build the CPU kernels now, even if they are there, but for those of a wheel",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")


def run(options: argparse.Namespace) -> int:
    from ..doctor import examine

    if options.build:
        from ..ops import describe_kernels

        for name, state in describe_kernels(build=True).items():
            terminal.notes().print(f"{name} kernel: {state}")
    diagnosis = examine()
    if options.json:
        print(json.dumps(diagnosis.to_dict(), indent=2))
    else:
        console = terminal.output()
        for section, rows in diagnosis.sections().items():
            table = terminal.table(section, "")
            for name, value in rows:
                table.add_row(name, value)
            console.print(table)
    return 0
