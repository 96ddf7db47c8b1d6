import os
import subprocess
import sys

import pytest

_LOOP = """
import resource, sys
from contextlib import nullcontext
import numpy as np
from gentheory.study.allocator import memory_kept

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

with memory_kept() if sys.argv[1] == "kept" else nullcontext():
    np.ones(2**18)
    before = faults()
    for _ in range(200):
        np.ones(2**18)
    print(faults() - before)
    held = np.ones(2**18)
assert held.sum() == 2**18
"""


def _faults(kept: str) -> int:
    """Page faults of making 200 arrays of 2 MiB, one after the other, as a worker of Dask does."""
    environment = {**os.environ, "MALLOC_TRIM_THRESHOLD_": "65536"}
    command = [sys.executable, "-c", _LOOP, kept]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator is meant")
def test_memory_that_is_kept_is_not_mapped_anew_for_every_tensor() -> None:
    assert _faults("kept") < 200
    assert _faults("not kept") > 10 * 200
