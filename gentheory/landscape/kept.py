"""Rows of a long computation in one file, so that a killed one goes on where it was."""

import hashlib
import json
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from gentheory.errors import InputError


@dataclass
class Kept:
    """The first `done` of G rows, in memory and, where there is a path, on the disk."""

    path: Path | None
    fingerprint: str
    """Of all that the rows depend on."""
    values: Float[Tensor, "G ..."]
    done: int = 0

    @classmethod
    def open(cls, path: Path | str | None, fingerprint: str, shape: tuple[int, ...]) -> "Kept":
        """With what the file holds, if there is one; without a path nothing is written.

        Raises `InputError` for a file that is damaged or of another computation, and where its
        folder is missing.
        """
        values = torch.full(shape, torch.nan, dtype=torch.float64)
        path = None if path is None else Path(path)
        kept = cls(path, fingerprint, values)
        if path is not None and not path.parent.is_dir():
            expected = "a folder to keep results in"
            raise InputError(str(path.parent), "no such folder", expected, "make it first")
        if path is not None and path.exists():
            kept.values, kept.done = _read(path, fingerprint)
        return kept

    def add(self, rows: Float[Tensor, "B ..."]) -> None:
        """The next rows; the file is replaced whole, never left half written."""
        self.values[self.done : self.done + len(rows)] = rows
        self.done += len(rows)
        if self.path is None:
            return
        record = json.dumps({"fingerprint": self.fingerprint, "done": self.done})
        aside = self.path.with_name(f"{self.path.name}.{uuid.uuid4().hex[:8]}.tmp")
        try:
            save_file({"values": self.values}, aside, metadata={"gentheory": record})
            aside.replace(self.path)
        finally:
            aside.unlink(missing_ok=True)


def fingerprint(parts: Iterable[Tensor | str]) -> str:
    """SHA-256 of the tensors' numbers and of the texts, in this order.

    The same for a tensor as for the pieces of it: texts keep apart what is not to be confused.
    """
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, str):
            digest.update(f"|{part}|".encode())
            continue
        digest.update(part.detach().cpu().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _read(path: Path, expected: str) -> tuple[Tensor, int]:
    try:
        with safe_open(path, "pt") as file:
            record = json.loads((file.metadata() or {}).get("gentheory", "{}"))
            values = file.get_tensor("values")
        found, done = record["fingerprint"], record["done"]
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise InputError(
            str(path),
            "a damaged or foreign file",
            "rows that an earlier run kept",
            "delete it, or name another file",
        ) from error
    if found != expected:
        raise InputError(
            str(path),
            "rows of other parameters, data or points",
            "those of the same computation",
            "name another file, or delete it to begin anew",
        )
    return values, done
