"""Per-example losses, with what curvature needs of them in the outputs.

A loss is the negative log-likelihood of the target given the outputs `f`, up to a constant:
`cross_entropy` of a categorical, `mse` of a normal with variance C / 2. That likelihood is the one
the Fisher information samples from. Squentropy, MaxSup and callables have none: everything but
the Fisher works with them. The supervised contrastive loss is one of batches, for training alone.
"""

from collections.abc import Callable, Mapping
from typing import Any

from gentheory.errors import InputError
from gentheory.losses.base import Loss, PerExample, one_hot
from gentheory.losses.contrastive import supervised_contrastive
from gentheory.losses.likelihoods import cross_entropy, mse
from gentheory.losses.regularized import max_suppressed, smoothed, squentropy

__all__ = ["OPTIONS", "Loss", "PerExample", "cross_entropy", "mse", "one_hot", "resolve"]

_BUILDERS: Mapping[tuple[str, ...], Callable[..., Loss]] = {
    ("cross_entropy",): lambda: cross_entropy,
    ("cross_entropy", "label_smoothing"): smoothed,
    ("cross_entropy", "max_sup"): max_suppressed,
    ("mse",): lambda: mse,
    ("squentropy",): squentropy,
    ("squentropy", "rescale"): squentropy,
    ("supervised_contrastive",): supervised_contrastive,
    ("supervised_contrastive", "temperature"): supervised_contrastive,
}
"""A name, with one option or without any."""

OPTIONS: Mapping[str, tuple[str, ...]] = {
    name: tuple(key[1] for key in _BUILDERS if key[0] == name and len(key) > 1)
    for name in dict.fromkeys(key[0] for key in _BUILDERS)
}
"""The options of each loss, of which one may be given."""


def resolve(loss: str | PerExample | Loss, options: Mapping[str, float] | None = None) -> Loss:
    """The loss of this name, or a callable (outputs, targets) -> [B] made into one.

    A name may have one option: `label_smoothing` or `max_sup` (cross_entropy), `rescale`
    (squentropy), `temperature` (supervised_contrastive). Raises `InputError` for others.
    """
    given = dict(options or {})
    if not isinstance(loss, str):
        _refuse(given, type(loss).__name__)
        own: Any = getattr(loss, "__name__", type(loss).__name__)
        return loss if isinstance(loss, Loss) else Loss(own, loss)
    if loss not in OPTIONS:
        raise InputError(
            "loss",
            repr(loss),
            f"{', '.join(map(repr, OPTIONS))} or a callable (outputs, targets) -> [B]",
            "use one of these",
        )
    key = (loss, *given)
    if key not in _BUILDERS:
        _refuse(given, loss)
    return _BUILDERS[key](*given.values())


def _refuse(options: Mapping[str, float], loss: str) -> None:
    if not options:
        return
    known = OPTIONS.get(loss, ())
    expected = f"one of {', '.join(known)}" if known else "none"
    raise InputError(f"options of loss {loss!r}", ", ".join(options), expected, "drop the others")
