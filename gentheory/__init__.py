"""Training-science analysis: generalization measures of trained PyTorch models.

>>> import gentheory as gt
>>> gt.Estimate(0.5, 0.1).stderr
0.1
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gentheory.checkpoint import Checkpoint as Checkpoint
    from gentheory.checkpoint import load as load
    from gentheory.checkpoint import load_weights as load_weights
    from gentheory.curvature import fisher as fisher
    from gentheory.curvature import ggn as ggn
    from gentheory.curvature import gradient_covariance as gradient_covariance
    from gentheory.curvature import hessian as hessian
    from gentheory.errors import InputError as InputError
    from gentheory.estimate import Estimate as Estimate
    from gentheory.measures import measure as measure
    from gentheory.risk import EmpiricalRisk as EmpiricalRisk

__version__ = "0.1.0"

_HOMES = {
    "Checkpoint": "checkpoint",
    "load": "checkpoint",
    "load_weights": "checkpoint",
    "fisher": "curvature",
    "ggn": "curvature",
    "gradient_covariance": "curvature",
    "hessian": "curvature",
    "InputError": "errors",
    "Estimate": "estimate",
    "measure": "measures",
    "EmpiricalRisk": "risk",
}


def __getattr__(name: str) -> Any:
    # Loaded at first use: importing torch takes seconds, and `gentheory --help` must not wait.
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
