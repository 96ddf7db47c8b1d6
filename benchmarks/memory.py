"""Peak memory of one run in a fresh process, beyond what net and data take."""

import ctypes
import gc
import math
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch


def growth(run: Callable[[], object], device: torch.device) -> float:
    """Bytes by which `run` raises the peak: resident memory, or allocated memory on CUDA.

    nan where the system does not tell (other than Linux).
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        kept = run()
        torch.cuda.synchronize()
        del kept
        return float(torch.cuda.max_memory_allocated() - before)
    _settle()
    before = _reset()
    kept = run()
    peak = _status("VmHWM")
    del kept
    return max(0.0, peak - before)


def _settle() -> None:
    gc.collect()
    with suppress(OSError, AttributeError):  # glibc alone keeps freed memory for itself
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def _reset() -> float:
    """Let the peak start again from what is resident now."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _status(field: str) -> float:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return math.nan
    kilobytes = next(line.split()[1] for line in lines if line.startswith(field))
    return 1024.0 * float(kilobytes)
