"""The empirical neural tangent kernel of a checkpoint, and what is said of such kernels.

Kernels are those of the outputs as the model gives them (logits, not probabilities), in eval
mode, without weight decay, for the parameters as the model has them: the parametrization and the
output scale are the model's own.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from gentheory.errors import InputError
from gentheory.examples import outputs_of, targets_of
from gentheory.factors.capture import explain
from gentheory.factors.forward import pushed
from gentheory.factors.gram import trace_gram
from gentheory.losses import one_hot
from gentheory.risk import EmpiricalRisk

_GROUPS = 20
"""Of the delete-a-group jackknife."""


@dataclass(frozen=True)
class Sample:
    """The examples of a risk on which a kernel is taken, at any parameters."""

    risk: EmpiricalRisk
    """On these examples, at the trained parameters."""
    total: int
    """N of the risk they were drawn from."""
    order: Int[Tensor, " N"]
    """A random order of them, for the groups of the jackknife."""

    @classmethod
    def of(cls, risk: EmpiricalRisk, max_examples: int, generator: Generator) -> "Sample":
        """All examples, or a random subset of `max_examples`."""
        if max_examples < 2:
            raise InputError(
                "ntk.max_examples", str(max_examples), "2 or more", "give such a number"
            )
        drawn = torch.randperm(risk.num_examples, generator=generator)[:max_examples]
        order = torch.randperm(len(drawn), generator=generator)
        if risk.num_examples <= max_examples:
            return cls(risk, risk.num_examples, order)
        chosen = drawn.sort().values.to(risk.device)
        part = risk.on(*(column[chosen] for column in risk.joined()))
        return cls(part, risk.num_examples, order)

    def at(self, theta: Float[Tensor, " P"]) -> EmpiricalRisk:
        """The risk on these examples at other parameters."""
        risk, moved = self.risk, self.risk.at(theta)
        # What looks explained at special parameters, such as zeros, need not be so at others.
        first = next(risk.batches())[0]
        trusted = risk.once("explained parameters", lambda: explain(risk, first))
        moved.once("explained parameters", lambda: trusted & explain(moved, first))
        return moved

    def stderr(self, statistic: Callable[[Tensor], float]) -> float:
        """Of a statistic of the chosen examples' indices, by the delete-a-group jackknife.

        Covers the draw of the examples without replacement; 0 where all are taken.
        """
        count = len(self.order)
        if count == self.total:
            return 0.0
        groups = self.order.tensor_split(min(_GROUPS, count))
        left = [torch.cat([g for g in groups if g is not out]).sort().values for out in groups]
        values = torch.tensor([statistic(index) for index in left], dtype=torch.float64)
        spread = (len(groups) - 1) * values.var(correction=0)
        return float((spread * (1 - count / self.total)).sqrt())


def kernel_of(risk: EmpiricalRisk, max_memory: int) -> Float[Tensor, "N N"]:
    """The trace kernel K_ij = (1/C) Σ_c ⟨∂f_ic/∂θ, ∂f_jc/∂θ⟩, computed once a risk.

    Raises `InputError` where it does not fit, is not finite, or is zero.
    """
    kernel = risk.once("tangent kernel", lambda: trace_gram(risk, max_memory=max_memory))
    if not bool(kernel.isfinite().all()):
        raise InputError(
            "tangent kernel",
            "numbers that are not finite",
            "finite gradients of the outputs",
            "use parameters before training diverged, or float64",
        )
    if not bool(kernel.any()):
        raise InputError(
            "tangent kernel",
            "zeros only: no output depends on any parameter to first order",
            "a gradient that is not zero",
            "use a random initialization in place of zeros",
        )
    return kernel / risk.num_outputs


@dataclass(frozen=True)
class Spectrum:
    """Eigenvalues of a kernel divided by the number of examples, falling."""

    eigenvalues: Float[Tensor, " N"]
    rounding: float
    """Those below are not told from 0."""

    @classmethod
    def of(cls, kernel: Float[Tensor, "N N"], dtype: torch.dtype) -> "Spectrum":
        """`dtype` is the one that the kernel's products were computed in."""
        values = torch.linalg.eigvalsh(kernel).flip(0) / len(kernel)
        return cls(values, len(kernel) * torch.finfo(dtype).eps * float(values[0]))

    @property
    def rank(self) -> int:
        """Eigenvalues above rounding."""
        return int((self.eigenvalues > self.rounding).sum())

    @property
    def condition_number(self) -> float:
        """Largest over smallest eigenvalue above rounding."""
        return float(self.eigenvalues[0] / self.eigenvalues[self.rank - 1])

    @property
    def effective_rank(self) -> float:
        """exp(−Σ p log p), p the eigenvalues above rounding over their sum."""
        p = self.eigenvalues[: self.rank] / self.eigenvalues[: self.rank].sum()
        return float(torch.special.entr(p).sum().exp())

    @property
    def participation_ratio(self) -> float:
        """(Σ λ)² / Σ λ²."""
        return float(self.eigenvalues.sum().square() / self.eigenvalues.square().sum())


def distance(one: Float[Tensor, "*shape"], other: Float[Tensor, "*shape"]) -> float:
    """1 − ⟨K, K'⟩ / (‖K‖ ‖K'‖); by the difference of directions, so that small ones keep digits."""
    return float((one / one.norm() - other / other.norm()).square().sum() / 2)


def alignment(kernel: Float[Tensor, "N N"], targets: Float[Tensor, "N C"]) -> float:
    """⟨K, Y Yᵀ⟩ / (‖K‖ ‖Y Yᵀ‖); for one column yᵀK y / (‖K‖ |y|²). nan where either is zero."""
    inner = (targets * (kernel @ targets)).sum()
    return float(inner / (kernel.norm() * (targets.T @ targets).norm()))


def centred(kernel: Float[Tensor, "N N"]) -> Float[Tensor, "N N"]:
    """H K H with H = I − 1 1ᵀ / N: the kernel of the features less their mean."""
    kernel = kernel - kernel.mean(0)
    return kernel - kernel.mean(1, keepdim=True)


def target_vectors(risk: EmpiricalRisk) -> Float[Tensor, "N C"]:
    """The targets in float64, classes as unit vectors; [N, C] for C outputs."""
    targets = targets_of(risk)
    like = torch.empty(len(targets), risk.num_outputs, dtype=torch.float64, device=risk.device)
    if targets.dim() == 1 and targets.is_floating_point():
        return targets.double()[:, None]
    return one_hot(targets, like)


@dataclass(frozen=True)
class KernelRegression:
    """Ridge regression in a kernel K on N examples: coefficients (K + ridge)⁻¹ Y."""

    inverse: Float[Tensor, "N N"]
    """(K + ridge)⁻¹."""
    targets: Float[Tensor, "N C"]
    ridge: float

    @classmethod
    def of(
        cls, kernel: Float[Tensor, "N N"], targets: Float[Tensor, "N C"], ridge: float
    ) -> "KernelRegression":
        """Raises `InputError` where K + ridge is singular to working precision."""
        shifted = kernel + ridge * torch.eye(len(kernel), dtype=kernel.dtype, device=kernel.device)
        factor, failed = torch.linalg.cholesky_ex(shifted)
        smallest, largest = factor.diagonal().aminmax()
        if failed or smallest <= largest * (len(kernel) * torch.finfo(kernel.dtype).eps) ** 0.5:
            raise InputError(
                "ntk.kernel_regression.ridge",
                f"{ridge:.3g}, with which the kernel is singular",
                "a ridge that makes it positive definite",
                "raise it, to 1e-6 for example",
            )
        return cls(torch.cholesky_inverse(factor), targets, ridge)

    def predict(self, cross: Float[Tensor, "n N"]) -> Float[Tensor, "n C"]:
        """Of new examples, by their kernel with the N: K(x, X) (K + ridge)⁻¹ Y."""
        return cross @ (self.inverse @ self.targets)

    def fitted(self) -> Float[Tensor, "N C"]:
        """Of the N examples themselves: Y − ridge (K + ridge)⁻¹ Y."""
        return self.targets - self.ridge * (self.inverse @ self.targets)

    def left_out(self) -> Float[Tensor, "N C"]:
        """Of each of the N examples from the others: y_i − [(K + ridge)⁻¹ Y]_i / [(…)⁻¹]_ii."""
        return self.targets - (self.inverse @ self.targets) / self.inverse.diagonal()[:, None]


def predictions(
    train: EmpiricalRisk, new: EmpiricalRisk, *, ridge: float, max_memory: int | None = None
) -> Float[Tensor, "n C"]:
    """Outputs for the examples of `new` of the net linearized at `train.theta` and then trained.

    f₀(x) + K(x, X) (K + ridge)⁻¹ (Y − f₀(X)): where gradient flow on the squared error ends at
    ridge 0, for K the mean over the outputs of the tangent kernel. Both risks hold one model at
    the same parameters. Raises `InputError` where a kernel does not fit into `max_memory` bytes.
    """
    classes = train.num_outputs
    kernel = trace_gram(train, max_memory=max_memory) / classes
    cross = trace_gram(new, train, max_memory=max_memory) / classes
    targets = target_vectors(train) - outputs_of(train)
    return outputs_of(new) + KernelRegression.of(kernel, targets, ridge).predict(cross)


@dataclass(frozen=True)
class Linearization:
    """What becomes of the outputs between two parameter vectors, and what a Jacobian makes of it.

    Squared sums over the outputs and examples of the true change Δf = f(θ₁) − f(θ₀), of f(θ₁), and
    of the errors Δf − J(θ₁ − θ₀) with J at θ₀ and at θ₁; inner products for the directions.
    """

    change: float
    outputs: float
    errors: tuple[float, float]
    predicted: tuple[float, float]
    inner: tuple[float, float]

    @classmethod
    def of(cls, risk: EmpiricalRisk, initial: Float[Tensor, " P"]) -> "Linearization":
        """From `initial` to the risk's parameters; two forward-mode passes over the data."""
        total = torch.zeros(8, dtype=torch.float64, device=risk.device)
        moved = risk.theta - initial
        both = zip(pushed(risk.at(initial), moved), pushed(risk, moved), strict=True)
        for (before, start, _), (after, end, _) in both:
            after = after.double()
            change = after - before.double()
            rows = [(change, change), (after, after)]
            for predicted in (start, end):
                error = change - predicted
                rows += [(error, error), (predicted, predicted), (change, predicted)]
            total += torch.stack([(one * other).sum() for one, other in rows])
        change, outputs, *others = total.tolist()
        return cls(
            change,
            outputs,
            (others[0], others[3]),
            (others[1], others[4]),
            (others[2], others[5]),
        )
