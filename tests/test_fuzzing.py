"""The small form of tools/fuzz.py, which the tests have time for: a few cases of each kind, in this process."""

import random

import pytest
from tools.fuzzing import checkpoints, coco, images, label_maps, recipes
from tools.fuzzing.case import FAULTS, Case, Silent, judge

KINDS = {
    "checkpoints": checkpoints.make,
    "images": images.make,
    "coco": coco.make,
    "recipes": recipes.make,
    "label_maps": label_maps.make,
}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore")
def test_damaged_files_are_read_rightly_or_refused(kind, seed, tmp_path):
    outcome = judge(KINDS[kind](random.Random(f"{kind} {seed}"), tmp_path))
    assert outcome.verdict not in FAULTS, outcome


def raising(error):
    def read():
        if error is not None:
            raise error

    return read


JUDGED = [
    (None, False, "read"),
    (ValueError("a.png is damaged"), False, "refused"),
    (OSError("a.png is damaged"), False, "refused"),
    (ValueError("a.png is damaged"), True, "WRONG"),
    (ValueError("it is damaged"), False, "UNCLEAR"),
    (ValueError("a.png is damaged" * 1000), False, "UNCLEAR"),
    (UnicodeError("a.png"), False, "TRACEBACK"),
    (KeyError("a.png"), False, "TRACEBACK"),
    (MemoryError("a.png"), False, "TRACEBACK"),
    (RecursionError("a.png"), True, "TRACEBACK"),
    (Silent("a.png"), False, "SILENT"),
]


@pytest.mark.parametrize(("error", "intact", "verdict"), JUDGED, ids=range(len(JUDGED)))
def test_faults_are_told_from_refusals(error, intact, verdict):
    case = Case(what="x", read=raising(error), named=("a.png",), intact=intact)
    assert judge(case).verdict == verdict
