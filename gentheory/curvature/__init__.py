"""Matrix-free curvature of a risk, and its dense form where that fits."""

from gentheory.curvature.covariance import gradient_covariance
from gentheory.curvature.fisher import fisher, sampled_fisher
from gentheory.curvature.ggn import ggn
from gentheory.curvature.hessian import hessian

__all__ = ["fisher", "ggn", "gradient_covariance", "hessian", "sampled_fisher"]
