"""What the numbers were measured on."""

from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from benchmarks.nets import data_name
from benchmarks.peers import PACKAGES
from benchmarks.worker import Settings
from gentheory.study.provenance import provenance


def machine(settings: Settings, rate: float) -> dict[str, Any]:
    """Hardware, threads, precision, versions and commit, as plain values."""
    about = provenance()
    cuda = settings.device.startswith("cuda")
    return {
        "machine": about["machine"],
        "device": torch.cuda.get_device_name() if cuda else "CPU",
        "cores": about["cores"],
        "threads": settings.threads,
        "matrix_product_rate": f"{rate / 1e9:.0f} GFLOP/s in float32",
        "precision": "float32; TF32 and bfloat16 off",
        "data": data_name(),
        "versions": {
            "gentheory": about["versions"]["gentheory"],
            "torch": torch.__version__,
            **{name: _version(package) for name, package in PACKAGES.items()},
        },
        "commit": about["commit"],
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
