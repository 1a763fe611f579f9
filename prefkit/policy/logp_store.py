"""Per-token log-probabilities on disk, by content: scored once, read by every later run.

A key covers the prompt's tokens, the answer's tokens and which of them are scored; the folder
covers the model's digest and the precision. Nothing of the loss, the batch, the adapter that is
trained or the seed is in it, so changing those computes nothing again. Files are only ever added.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from prefkit.core.files import replacing
from prefkit.core.ids import content_id
from prefkit.policy.cache import cache_folder
from prefkit.policy.trees import Branch, Tree

Floats = NDArray[np.floating]
# Part of every folder's name: a change of how log-probs are computed must not meet old ones.
VERSION = 2
SEGMENT = "*.parquet"


def logp_keys(tree: Tree) -> list[bytes]:
    """The 16-byte key of each branch of a tree."""
    prompt = hashlib.blake2b(tree.prompt.astype("<i4").tobytes(), digest_size=16)
    return [_branch_key(prompt.digest(), branch) for branch in tree.branches]


def _branch_key(prompt: bytes, branch: Branch) -> bytes:
    digest = hashlib.blake2b(prompt, digest_size=16)
    digest.update(branch.ids.astype("<i4").tobytes())
    digest.update(np.packbits(branch.scored).tobytes())
    return digest.digest()


class LogpStore:
    """The log-probs of one reference model in one precision.

    Several processes may add to one folder: each writes files of its own, whole or not at all.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def of(cls, reference: str, dtype: str, *, root: Path | None = None) -> LogpStore:
        """The store of a reference model by its digest and precision ("float32", …).

        root: the folder that holds all stores; None is the user's cache.
        """
        name = content_id({"reference": reference, "dtype": dtype, "version": VERSION})
        return cls((root or cache_folder() / "reference") / name)

    def find(self, keys: Iterable[bytes]) -> dict[bytes, Floats]:
        """The known log-probs of ``keys``, each (scored tokens,) in nats; unknown ones are absent.

        A damaged file reads as absent: what it held is scored again.
        """
        wanted = pa.array(sorted(set(keys)), pa.binary(16))
        found: dict[bytes, Floats] = {}
        if not len(wanted) or not self.folder.is_dir():
            return found
        for path in sorted(self.folder.glob(SEGMENT)):
            try:
                table = pq.read_table(path, filters=pc.field("key").isin(wanted))
            except (pa.ArrowInvalid, OSError):
                continue
            found.update(_rows(table))
        return found

    def add(self, items: Mapping[bytes, Floats]) -> None:
        """Keep log-probs, each (scored tokens,); one new file, on disk when this returns."""
        if not items:
            return
        keys = sorted(items)
        values = [np.ascontiguousarray(items[key]) for key in keys]
        offsets = np.concatenate([[0], np.cumsum([len(value) for value in values])])
        flat = pa.array(np.concatenate(values))
        lists = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), flat)
        table = pa.table({"key": pa.array(keys, pa.binary(16)), "logps": lists})
        name = hashlib.blake2b(b"".join(keys), digest_size=16).hexdigest()
        with replacing(self.folder / f"{name}.parquet") as temporary:
            pq.write_table(table, temporary, compression="none")


def _rows(table: pa.Table) -> Iterable[tuple[bytes, Floats]]:
    for batch in table.to_batches():
        lists = batch.column("logps")
        offsets = lists.offsets.to_numpy()
        flat = lists.values.to_numpy()
        for index, key in enumerate(batch.column("key").to_pylist()):
            yield key, flat[offsets[index] : offsets[index + 1]]


def missing(trees: Sequence[Tree], known: Mapping[bytes, Floats]) -> list[int]:
    """Indices of the trees with a branch that is not known."""
    return [i for i, tree in enumerate(trees) if any(key not in known for key in logp_keys(tree))]
