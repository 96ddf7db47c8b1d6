"""Training loss + predicted gap of a model in training: a criterion without held-out data."""

import math
import time
import weakref
from collections.abc import Generator, Hashable
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Any, Literal, TypedDict, Unpack, get_args

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gentheory import losses
from gentheory.checkpoint import Checkpoint
from gentheory.errors import InputError
from gentheory.estimate import Estimate
from gentheory.examples import outputs_of, targets_of
from gentheory.measures import check_options, find, measure
from gentheory.pruning.course import Course, Residuals
from gentheory.pruning.held import Held
from gentheory.pruning.learning_time import LearningTime
from gentheory.pruning.observation import Observation
from gentheory.risk import EmpiricalRisk
from gentheory.seeds import seed_of

Quantity = Literal["criterion", "bounded", "gap"]


class Hints(TypedDict, total=False):
    """What a criterion may be told of a model's training."""

    optimizer: Optimizer | None
    """Whose steps count for the learning-rate time; by default the one that steps the model."""
    training_time: float | None
    """T: learning rate / (1 - momentum), summed over all steps. Needed where no optimizer of torch
    has made all of them here, as in a training resumed from a checkpoint."""
    weight_decay: float | None
    """Of the trial's own objective; by default that of the criterion."""


class Moment(Hints, total=False):
    """When a model is looked at."""

    step: float
    """Epochs or updates so far; by default those of the last look."""
    trial: Hashable
    """Whose model it is: another trial with the same module begins anew, as does a lower step."""


@dataclass(frozen=True)
class Plan:
    """By what a criterion is evaluated; values of one plan alone compare."""

    measure: str
    num_examples: int


class Criterion:
    """Training loss + predicted gap; lower is better.

        criterion = Criterion("tic.kfac", loss="cross_entropy", data=train_data)
        observation = criterion(model, step=epoch)

    The module stays as it is: it is copied, and put into eval mode there. So do the gradients and
    the random generators of torch. Loss and gap are those of the same examples.

    **Arguments:**

    - `measure`: the name of any measure whose value is a predicted gap; `options` are its own.
    - `loss`, `data`, `weight_decay`, `dtype`, `batch_size`: as for `EmpiricalRisk`. The training
      loss is without the weight decay. Data are read once; what is read is kept in memory.
    - `max_examples`: of more, that many are drawn once and for all; None looks at all. A measure
      takes some passes over them, so 1,000 cost more than an epoch of small data; of
      `tic.leave_one_out`, whose cost is cubic in examples × outputs, 200 are many.
    - `num_train`: how many examples the model is trained on, where `data` holds not all of them.
    - `quantity`: "criterion"; "bounded" with the gap `bounded`; or "gap" for the gap alone.
    - `seed`: with the step alone it decides what a measure draws: trials are seen by the same
      probes and on the same examples.

    With `residuals="training"` (and for `tic.left_out`) the running means of the outputs'
    gradients are kept by one forward pass at each call and each `follow`, weighted by
    learning-rate time, or by steps where that is not known. Models are held weakly.

    Raises `InputError` for measures, options, data and models that cannot be used, and where
    `damping="training"` is asked for and nothing is known of the learning-rate time.
    """

    def __init__(
        self,
        measure: str = "tic.kfac",
        *,
        loss: str | losses.PerExample | losses.Loss,
        data: Any,
        weight_decay: float = 0.0,
        num_train: int | None = None,
        max_examples: int | None = 1000,
        quantity: Quantity = "criterion",
        seed: int = 0,
        dtype: torch.dtype | None = None,
        batch_size: int = 512,
        **options: Any,
    ) -> None:
        find(measure)
        check_options({measure: options}, [measure])
        if quantity not in get_args(Quantity):
            expected = f"one of {', '.join(get_args(Quantity))}"
            raise InputError("quantity", repr(quantity), expected, "choose one")
        self.measure, self.options, self.quantity, self.seed = measure, options, quantity, seed
        self.held = Held.of(data, batch_size=batch_size, max_examples=max_examples, seed=seed)
        self._loss = losses.resolve(loss)
        self._weight_decay, self._num_train, self._dtype = weight_decay, num_train, dtype
        self._timed = options.get("damping") == "training"
        self._keeps = options.get("residuals") == "training" or measure == "tic.left_out"
        self._learning_time = LearningTime() if self._timed or self._keeps else None
        self._courses: weakref.WeakKeyDictionary[nn.Module, Course] = weakref.WeakKeyDictionary()
        self._lock = Lock()

    def __call__(
        self, model: nn.Module, *, plan: Plan | None = None, **moment: Unpack[Moment]
    ) -> Observation:
        """What there is to say of the model now.

        A training loss that is not finite is "diverged"; a measure that does not apply or breaks
        leaves the criterion "unknown". `stderr` is that of the measure: it does not cover the
        choice of the examples, which all trials share. `plan` takes the place of the criterion's
        own measure and number of examples.
        """
        start = time.perf_counter()
        plan = plan or self.plan
        loss, found = self._evaluated(model, plan, moment)
        known = math.isfinite(loss) and found.status == "ok"
        values = {
            "criterion": loss + found.value,
            "bounded": loss + bounded(found.value),
            "gap": found.value,
        }
        return Observation(
            values[self.quantity] if known else math.nan,
            "known" if known else "unknown" if math.isfinite(loss) else "diverged",
            found.reason,
            loss,
            found.value,
            found.stderr,
            time.perf_counter() - start,
            plan.measure,
            plan.num_examples,
        )

    def estimate(
        self, model: nn.Module, *, plan: Plan | None = None, **moment: Unpack[Moment]
    ) -> Estimate:
        """The predicted gap alone, with its diagnostics."""
        return self._evaluated(model, plan or self.plan, moment)[1]

    def follow(
        self, model: nn.Module, *, plan: Plan | None = None, **moment: Unpack[Moment]
    ) -> None:
        """A look for the running means alone; nothing where the measure needs none."""
        if self._keeps:
            model = plain(model)
            with _undisturbed(model):
                self._looked(model, plan or self.plan, moment)

    @property
    def plan(self) -> Plan:
        """Its own: the measure on all examples that it holds."""
        return Plan(self.measure, self.held.count)

    @property
    def follows(self) -> bool:
        """Whether `follow` does anything."""
        return self._keeps

    def _evaluated(self, model: nn.Module, plan: Plan, moment: Moment) -> tuple[float, Estimate]:
        """Training loss and predicted gap."""
        model = plain(model)
        with _undisturbed(model):
            checkpoint, loss, step = self._looked(model, plan, moment)
            if not math.isfinite(loss):
                return loss, Estimate.missing("failed", f"the training loss is {loss}")
            name = plan.measure
            found = measure(
                checkpoint,
                name,
                seed=seed_of(self.seed, "pruning", step),
                options={name: self._options_of(name)},
                strict=False,
            )
            return loss, found[name]

    def _looked(
        self, model: nn.Module, plan: Plan, moment: Moment
    ) -> tuple[Checkpoint, float, float]:
        """One forward pass: the model as a checkpoint, its training loss, and the step."""
        course = self._course(model, moment)
        training_time = course.training_time = self._training_time(model, course, moment)
        decay = moment.get("weight_decay")
        risk = EmpiricalRisk(
            model,
            self._loss,
            self.held.first(plan.num_examples),
            weight_decay=self._weight_decay if decay is None else decay,
            dtype=self._dtype,
        )
        outputs, targets = outputs_of(risk), _targets(risk)
        loss = float(risk.loss.values(outputs, targets).mean())
        if self._keeps and math.isfinite(loss):
            now = course.step if training_time is None else training_time
            _see(course, now, risk, outputs, targets)
        kept = course.residuals
        checkpoint = Checkpoint(
            risk,
            training_time=training_time,
            trajectory=None if kept is None else kept.trajectory(risk.theta),
            num_train=self._num_train or self.held.total,
        )
        return checkpoint, loss, course.step

    def _course(self, model: nn.Module, moment: Moment) -> Course:
        """What is kept of this training, or a new one."""
        with self._lock:
            course = self._courses.get(model)
            if "step" not in moment:
                return course or Course(None)
            trial, step = moment.get("trial", course and course.trial), moment["step"]
            if course is None or course.trial != trial or step < course.step:
                course = self._courses[model] = Course(trial)
            course.step = step
            return course

    def _training_time(self, model: nn.Module, course: Course, moment: Moment) -> float | None:
        given, optimizer = moment.get("training_time"), moment.get("optimizer")
        if given is not None or self._learning_time is None:
            return given
        if optimizer is not None:
            found = self._learning_time.of(optimizer) or None
        else:
            found = self._learning_time.of_model(model)
        # After training its optimizer may be gone.
        found = course.training_time if found is None else found
        if found is None and self._timed:
            raise InputError(
                'damping="training"',
                "no learning-rate time of this model",
                "an optimizer of torch that has stepped since the criterion was made",
                "make the criterion before training, or hand in training_time=, the sum of "
                "learning rate / (1 - momentum) over the steps",
            )
        return found

    def _options_of(self, name: str) -> dict[str, Any]:
        """Another measure of the ladder takes those of the options that it knows."""
        if name == self.measure:
            return self.options
        known = find(name).__kwdefaults__ or {}
        return {option: value for option, value in self.options.items() if option in known}


def bounded(gap: Any) -> Any:
    """gap / (1 + |gap|) of a number or an array, in units of the loss: near 0 as it is, below 1.

    A gap is predicted by Newton steps. Those that move a loss like cross-entropy by more than
    about its own unit leave the region where its second derivatives hold, and undamped go on
    growing where the loss does not; this damps them as Newton steps on self-concordant functions
    are (Nesterov & Nemirovskii 1994), with the gap in the place of the decrement.
    """
    return gap / (1 + abs(gap))


def plain(model: nn.Module) -> nn.Module:
    """Without what torch.compile and data parallelism wrap around it."""
    wrappers = (nn.DataParallel, nn.parallel.DistributedDataParallel)
    inner: Any = model.module if isinstance(model, wrappers) else getattr(model, "_orig_mod", None)
    return model if inner is None else plain(inner)


def _see(course: Course, now: float, risk: EmpiricalRisk, outputs: Tensor, targets: Tensor) -> None:
    found = (risk.loss.gradient(outputs, targets), risk.loss.hessian_trace(outputs, targets))
    kept = course.residuals
    # Another plan looks at other examples.
    if kept is None or kept.last[0].shape != found[0].shape:
        course.residuals = Residuals.first(now, found)
    else:
        course.residuals = kept.later(now, found)


def _targets(risk: EmpiricalRisk) -> Tensor:
    targets = targets_of(risk)
    return targets.double() if targets.is_floating_point() else targets


@contextmanager
def _undisturbed(model: nn.Module) -> Generator[None, None, None]:
    """Random generators stay as they are, and what the caller has set for gradients is off."""
    device = next(model.parameters(), torch.empty(0)).device
    with (
        torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.autocast(device.type, enabled=False),
    ):
        yield
