"""The peers, imported once by the server that forks the workers, and what one needs to run."""

import importlib
import warnings
from contextlib import suppress

import torch
from torch import Tensor

PACKAGES = {
    "curvlinops": "curvlinops-for-pytorch",
    "hessian-eigenthings": "hessian-eigenthings",
    "nngeometry": "nngeometry",
    "BackPACK": "backpack-for-pytorch",
    "PyHessian": "PyHessian",
    "devinterp": "devinterp",
    "SciPy": "scipy",
}
_MODULES = (
    "curvlinops",
    "hessian_eigenthings",
    "nngeometry",
    "backpack",
    "pyhessian",
    "devinterp.optim",
    "scipy",
)


def _eig(matrix: Tensor, eigenvectors: bool = False) -> tuple[Tensor, Tensor]:
    """`torch.eig` as it was: eigenvalues as real and imaginary parts. PyHessian 0.1 calls it."""
    values, vectors = torch.linalg.eig(matrix)
    return torch.view_as_real(values), vectors.real if eigenvectors else matrix.new_empty(0)


with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    for _name in _MODULES:
        with suppress(ImportError):  # a peer that is missing fails in its own rows
            importlib.import_module(_name)
torch.eig = _eig
