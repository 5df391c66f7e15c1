"""The switch that makes matrix products fast on AMD processors: the same in scripts and in Python."""

import os
import subprocess
import sys

import pytest

from unimo.config import ROOT
from unimo.hardware import cpu_name, has_avx512

PYTHON = (
    "from unimo.hardware import use_fast_gemm; use_fast_gemm(); import os; print(os.environ.get('MKL_DEBUG_CPU_TYPE'))"
)
SHELL = f"set -euo pipefail; source {ROOT}/run_scripts/env.sh; echo ${{MKL_DEBUG_CPU_TYPE:-None}}"


def test_scripts_and_python_choose_the_same_products():
    wanted = ("7" if has_avx512() else "5") if "AMD" in cpu_name() else "None"
    bare = {name: value for name, value in os.environ.items() if name != "MKL_DEBUG_CPU_TYPE"}
    for given, expected in (({}, wanted), ({"MKL_DEBUG_CPU_TYPE": "4"}, "4")):
        for command in ([sys.executable, "-c", PYTHON], ["bash", "-c", SHELL]):
            done = subprocess.run(command, env=bare | given, capture_output=True, text=True, check=True)
            assert done.stdout.strip() == expected, command


@pytest.mark.parametrize("first", ["", "import paddle; "])
def test_paddle_is_kept_out_of_collections_once_and_what_follows_is_not(first):
    """Where somebody else has loaded it, everything stays as it is."""
    code = first + (
        "import gc; from unimo.hardware import load_paddle; load_paddle(); kept = gc.get_freeze_count(); "
        "load_paddle(); assert gc.isenabled() and kept == gc.get_freeze_count(); circle = []; circle.append(circle); "
        "del circle; assert gc.collect() > 0; print(kept)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (int(done.stdout) > 100_000) == (not first)
