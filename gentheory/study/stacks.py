"""How many models of each architecture a study trains together, where a trial is to choose."""

import os

import torch

from gentheory.study.part import Part
from gentheory.study.plan import Point, points
from gentheory.study.spec import Study


def chosen(study: Study) -> Study:
    """The study with a number for every architecture of parts that ask for a trial.

    An architecture's first model stands for all. As many processes as the machine has cores for
    share half of its memory. Raises `InputError` where one model alone takes more than its share.
    """
    if all(_missing(part) == [] for part in study.parts):
        return study
    before = torch.get_num_threads()
    torch.set_num_threads(study.threads)
    try:
        parts = [_tried(study, number) for number in range(len(study.parts))]
    finally:
        torch.set_num_threads(before)
    return study.model_copy(update={"parts": parts})


def settled(study: Study, earlier: Study) -> Study:
    """The study with the numbers that an earlier trial has chosen for it."""
    parts = [
        part.model_copy(update={"stacks": {**kept.stacks, **part.stacks}})
        if _missing(part) and kept.try_stacks
        else part
        for part, kept in zip(study.parts, earlier.parts, strict=False)
    ]
    return study.model_copy(update={"parts": [*parts, *study.parts[len(parts) :]]})


def _missing(part: Part) -> list[str]:
    labels = [architecture.label for architecture in part.architectures]
    return [label for label in labels if part.try_stacks and label not in part.stacks]


def _tried(study: Study, number: int) -> Part:
    part = study.parts[number]
    missing, first = _missing(part), dict[str, Point]()
    for point in points(study, number) if missing else ():
        first.setdefault(point.family, point)
    sizes = {label: _size(first[label], study) for label in missing if label in first}
    return part.model_copy(update={"stacks": {**part.stacks, **sizes}})


def _size(point: Point, study: Study) -> int:
    from gentheory.study.job import Job
    from gentheory.training.sizing import available_memory, stack_size

    job = Job.of((point,))
    processes = max(1, (os.cpu_count() or 1) // study.threads)
    memory = available_memory(job.initial.device) // (2 * processes)
    size, _ = stack_size(job.module, job.loss, job.initial, job.data, job.plan, memory=memory)
    return size
