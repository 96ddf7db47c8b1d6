"""Known curves, played to a pruner by reports of Optuna's own and by recorded criteria."""

import math
from dataclasses import dataclass, field

import numpy as np
import optuna

from gentheory.optuna.channel import record
from gentheory.optuna.pruner import decide, pruner_of
from gentheory.pruning.observation import Observation

optuna.logging.set_verbosity(optuna.logging.WARNING)

STEPS = 27
DIRECTIONS = {
    "minimize": ["minimize"],
    "maximize": ["maximize"],
    "several": ["maximize", "minimize"],
}


def curves(trials, *, steps=STEPS, seed=0):
    """Falling, at its own rate to its own level; some rise again; [trial, step] of a criterion."""
    generator = np.random.default_rng(seed)
    level, height, rate = generator.uniform(0.1, (1.0, 2.0, 0.5), (trials, 3)).T[..., None]
    rise = np.where(generator.random((trials, 1)) < 0.3, 0.04, 0.0)
    step = np.arange(steps)
    noise = 0.05 * generator.standard_normal((trials, steps))
    return level + height * np.exp(-rate * step) + rise * step + noise


def reported(trial, step, value):
    trial.report(value, step)
    return trial.should_prune()


def observe(trial, step, value):
    record(trial, step, observation(value))
    return decide(trial, step)


def observe_where_wanted(trial, step, value):
    pruner = pruner_of(trial)
    return pruner.wants(trial.study, trial, step) and observe(trial, step, value)


def observation(value):
    if math.isnan(value):
        return Observation(value, state="diverged", reason="the training loss is nan")
    return Observation(value, training_loss=0.5 * value, predicted_gap=0.5 * value, seconds=0.1)


@dataclass
class Play:
    """A study whose trial of number i follows the curve of place i, several trials at a time."""

    study: optuna.Study
    values: np.ndarray
    ask: object = observe
    workers: int = 4
    first: int = 1
    pruned_at: dict = field(default_factory=dict)

    def __post_init__(self):
        waiting, running = len(self.values) - len(self.study.trials), []
        while waiting or running:
            while waiting and len(running) < self.workers:
                running.append(self.follow(self.study.ask()))
                waiting -= 1
            running = [each for each in running if next(each, None) is not None]

    def follow(self, trial):
        curve = self.values[trial.number]
        for place, value in enumerate(curve):
            if self.ask(trial, place + self.first, float(value)):
                self.pruned_at[trial.number] = place + self.first
                self.study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                return
            yield place
        self.study.tell(trial, self.objectives(curve))

    def objectives(self, curve):
        """Of one mind with the mean criterion where there is one; else they have nothing to say."""
        signs = [
            1 if each is optuna.study.StudyDirection.MINIMIZE else -1
            for each in self.study.directions
        ]
        if len(signs) > 1:
            return [0.0, 0.0]
        return signs[0] * float(np.mean(curve))


def study(pruner, directions=("minimize",), *, name="curves", storage=None, **options):
    return optuna.create_study(
        study_name=name,
        directions=list(directions),
        sampler=optuna.samplers.RandomSampler(seed=0),
        pruner=pruner,
        storage=storage,
        **options,
    )
