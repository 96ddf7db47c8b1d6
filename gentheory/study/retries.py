"""What follows a failed attempt: another one, a search for the model to blame, or giving up.

A stack that fails is tried again whole, so that what strikes from outside leaves no mark on its
numbers. When its attempts are used up it is halved, and halves that fail are halved again, each
after one attempt, until single models remain; these have as many attempts as a stack. What is
left is committed as the one shard that was planned: the model to blame is a row with the outcome
`failed`, and the others have the numbers of the smaller stacks they were trained in, which differ
from those of the whole by rounding. A shard none of whose models ends well is not committed.
"""

import shutil
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from gentheory.study.attempt import Attempt, Ended
from gentheory.study.files import DiskFullError
from gentheory.study.pieces import Piece, join
from gentheory.study.plan import Shard
from gentheory.study.store import Store


@dataclass(frozen=True)
class Finished:
    """What became of one shard: done where `reason` is empty."""

    shard: str
    reason: str = ""
    fatal: bool = False
    """Nothing else will do better: a full disk. The run ends."""


@dataclass
class Retries:
    """The attempts that are still to be made for a study, and what has come of the others."""

    store: Store
    shards: dict[str, Shard]
    limit: int
    """Attempts after the first at a stack, and at a single model."""
    waiting: deque[Attempt]
    _failed: Counter[str] = field(default_factory=Counter[str])
    """Attempts by the name of the stack."""
    _apart: dict[str, list[Piece]] = field(default_factory=dict[str, list[Piece]])
    """Pieces that have ended, of shards that are taken apart."""

    @classmethod
    def of(
        cls, store: Store, shards: Sequence[Shard], *, limit: int, time_limit: float | None
    ) -> "Retries":
        """One attempt for each of the shards to begin with."""
        waiting = deque(Attempt(shard, shard.id, time_limit) for shard in shards)
        return cls(store, {shard.id: shard for shard in shards}, limit, waiting)

    def after(self, attempt: Attempt, ended: Ended) -> Finished | None:
        """What the end of an attempt settles: the fate of a shard, or nothing yet."""
        if attempt.shard not in self.shards:
            return None  # settled while this piece was in the making
        if ended.fatal:
            return Finished(attempt.shard, ended.reason, fatal=True)
        if self.store.is_done(attempt.shard):
            return self._settled(attempt.shard)
        if not ended.reason:
            return self._settle_piece(attempt, Piece(attempt.stack))
        points = attempt.stack.points
        self.store.note_attempt(attempt.shard, [point.id for point in points], ended.reason)
        self._failed[attempt.stack.id] += 1
        once = attempt.is_piece and len(points) > 1
        if self._failed[attempt.stack.id] <= (0 if once else self.limit):
            self.waiting.append(attempt.at(attempt.stack))
        elif ended.blameless:
            return self._settled(attempt.shard, ended.reason)
        elif len(points) > 1:
            self._apart.setdefault(attempt.shard, [])
            self.waiting.extend(attempt.at(half) for half in _halves(attempt.stack))
        elif attempt.is_piece:
            return self._settle_piece(attempt, Piece(attempt.stack, ended.reason))
        else:
            return self._settled(attempt.shard, ended.reason)
        return None

    def _settle_piece(self, attempt: Attempt, piece: Piece) -> Finished | None:
        """The shard's fate, if this was its last piece."""
        shard, pieces = self.shards[attempt.shard], self._apart[attempt.shard]
        pieces.append(piece)
        if sum(len(piece.stack.points) for piece in pieces) < len(shard.points):
            return None
        if all(piece.reason for piece in pieces):
            return self._settled(shard.id, f"every model failed: {piece.reason}")
        try:
            join(self.store, shard, pieces)
        except DiskFullError as error:
            return Finished(shard.id, str(error), fatal=True)
        return self._settled(shard.id)

    def _settled(self, shard: str, reason: str = "") -> Finished:
        del self.shards[shard]
        if self._apart.pop(shard, None) is not None:
            left = [attempt for attempt in self.waiting if attempt.shard != shard]
            self.waiting.clear()
            self.waiting.extend(left)
            shutil.rmtree(self.store.pieces(shard).path, ignore_errors=True)
        return Finished(shard, reason)


def _halves(stack: Shard) -> Iterator[Shard]:
    middle = (len(stack.points) + 1) // 2
    for half in (stack.points[:middle], stack.points[middle:]):
        yield replace(stack, points=half)
