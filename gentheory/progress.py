"""What the command line shows while work goes on, and of its results."""

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from gentheory.measures import Results
from gentheory.report.measured import Frame
from gentheory.study.background import repeating
from gentheory.study.retries import Finished
from gentheory.study.store import Store

_LOOK_EVERY = 0.5
"""Seconds between two looks at the shards in flight."""


class _Rate(ProgressColumn):
    """Models a second since the start."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f} models/s" if task.speed else "starting …")


@contextmanager
def watch(store: Store) -> Generator[Callable[[Finished], None], None, None]:
    """A bar of models done, rate and time left; a line a shard where there is no terminal."""
    already = sum(store.sizes[shard] for shard in store.done())
    total, start = sum(store.sizes.values()), time.monotonic()
    console = Console(stderr=True)
    ended: dict[str, int] = {}
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(store.study.name, total=total, completed=already)

        def look() -> None:
            flying = sum(
                int(item.progress.get("measured", 0))
                for item in store.inflight()
                if item.alive and item.shard not in ended
            )
            bar.update(task, completed=already + sum(ended.values()) + flying)

        def on_shard(item: Finished) -> None:
            ended[item.shard] = 0 if item.reason else store.sizes[item.shard]
            done, seconds = sum(ended.values()), time.monotonic() - start
            if not console.is_terminal and done:
                left = (total - already - done) * seconds / done
                console.print(
                    f"{already + done}/{total} models, {done / seconds:.1f} a second, "
                    f"about {left:.0f} s left"
                )
            look()

        with repeating(look, every=_LOOK_EVERY):
            yield on_shard


@contextmanager
def measuring(names: Sequence[str]) -> Generator[Callable[[str], None], None, None]:
    """A bar over the measures; call what it yields with each name before it runs."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("measuring", total=len(names), completed=-1)

        def before(name: str) -> None:
            bar.update(task, description=name, advance=1)

        yield before


@contextmanager
def telling(what: str) -> Generator[Callable[[str], None], None, None]:
    """That something of unknown length goes on; tell it with which part it does."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn())
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task(what, total=None)
        yield lambda part: bar.update(task, description=f"{what}: {part}")


@contextmanager
def counting(what: str) -> Generator[Callable[[int, int, str], None], None, None]:
    """A bar of pieces; tell it how many of all are done and what the last one was."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    columns = (*columns, TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None)

        def after(count: int, total: int, name: str) -> None:
            bar.update(task, completed=count, total=total, description=f"{what} {name}")
            if not console.is_terminal:
                console.print(f"{count}/{total} {what} {name}", markup=False, highlight=False)

        yield after


def show(results: Results) -> None:
    """Print the estimates as a table, with what went wrong and what may mislead below it."""
    console = Console()
    table = Table("measure", "value", "± stderr", "status", "seconds", box=None)
    for name, estimate in results.items():
        seconds = f"{results.seconds[name]:.2f}"
        value, error = f"{estimate.value:.6g}", f"{estimate.stderr:.2g}"
        table.add_row(name, value, error, estimate.status, seconds)
    console.print(table)
    for note, names in results.notes().items():
        told = f"{', '.join(names)}: {note}"
        console.print(told, markup=False, highlight=False, soft_wrap=True)


def show_frame(frame: Frame) -> None:
    """Print a verdict in words, then what it was made of as a table, notes last."""
    console = Console()
    for sentence in frame.sentences:
        console.print(sentence, markup=False, highlight=False)
    table = Table(*frame.columns[:-1], box=None)
    for row in frame.rows:
        table.add_row(*map(escape, row[:-1]))
    console.print(table)
    for *row, note in frame.rows:
        if note:
            told = f"{row[0]}: {note}"
            console.print(told, markup=False, highlight=False, soft_wrap=True)
