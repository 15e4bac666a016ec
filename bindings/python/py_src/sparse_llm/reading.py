"""A base and a delta, read as if they were one safetensors file: nothing is written."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from typing import Any

from . import _core
from ._closing import Closing
from ._options import Name, Progress, common, name, optional, report
from .errors import _make
from .frameworks import framework as find_framework
from .manifest import Manifest

__all__ = ["DeltaFile", "DeltaSlice", "load_file", "open"]


def open(
    base: Name | None,
    delta: Name,
    framework: str = "np",
    device: str = "cpu",
    *,
    threads: int | None = None,
    stream: bool = False,
    progress: Progress = None,
) -> DeltaFile:
    """Open what a delta restores over its base, as ``safetensors.safe_open`` opens a file.

    A tensor is decoded when it is asked for. The base's tensors that go into it are compared with their
    digests first.

    Args:
        base: name of the base; None for that which the delta records (on the Hub), or if it needs none.
        delta: name of the delta.
        framework: ``"np"`` for arrays of numpy, ``"pt"`` for tensors of torch.
        device: device of torch's tensors.
        threads: threads to use; None for all cores.
        stream: whether models of the Hub are read by ranges, without a copy in its cache.
        progress: function of phase, bytes done and bytes in total, or True for a bar: of downloads.

    >>> with sparse_llm.open(base, delta) as f:
    ...     names = f.keys()
    ...     weight = f.get_tensor("embeddings.LayerNorm.weight")
    ...     rows = f.get_slice("embeddings.word_embeddings.weight")[10:12]
    >>> len(names), weight.shape, rows.shape
    (9, (384,), (2, 384))
    """
    reader = _core.DeltaReader(optional(base), name(delta), common(threads, progress, stream))
    return DeltaFile(reader, framework, device)


def load_file(
    base: Name | None, delta: Name, framework: str = "np", device: str = "cpu", **options: Any
) -> dict[str, Any]:
    """Return all tensors that a delta restores over its base.

    Arguments are those of :func:`open`.

    >>> len(load_file(base, delta))
    9
    """
    with open(base, delta, framework, device, **options) as file:
        return {key: file.get_tensor(key) for key in file.keys()}


class DeltaFile(Closing):
    """Tensors and files that a delta restores. Use it in a ``with`` statement, or close it."""

    def __init__(self, reader: _core.DeltaReader, framework: str, device: str) -> None:
        self._reader: _core.DeltaReader | None = reader
        module = find_framework(framework)
        module.check_device(str(device))
        self._make = module.tensor
        self._device = str(device)
        self._tensors = {
            key: (index, dtype, shape)
            for index, (key, dtype, shape) in enumerate(reader.tensors())
        }

    def close(self) -> None:
        """Close base and delta. Tensors that were read stay."""
        self._reader = None

    def keys(self) -> list[str]:
        """Return the names of the tensors, in their order."""
        return list(self._tensors)

    def __contains__(self, key: object) -> bool:
        return key in self._tensors

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def changed(self) -> list[str]:
        """Return the names of the tensors that differ from the base's."""
        return self._open().changed()

    def get_dtype(self, key: str) -> str:
        """Return the element type of a tensor, as safetensors names it: ``"BF16"``."""
        return self._find(key)[1]

    def get_shape(self, key: str) -> list[int]:
        """Return the shape of a tensor."""
        return list(self._find(key)[2])

    def get_tensor(self, key: str) -> Any:
        """Return a tensor. It owns its memory, and may be written to."""
        reader = self._open()
        index, dtype, shape = self._find(key)
        return self._make(reader.read(index), dtype, shape, self._device)

    def get_slice(self, key: str) -> DeltaSlice:
        """Return a view of a tensor that reads what its index selects."""
        self._find(key)
        return DeltaSlice(self, key)

    def files(self) -> list[str]:
        """Return the paths of the files that the delta restores."""
        return self._open().files()

    def read_file(self, path: str) -> bytes:
        """Return a file that the delta restores, such as ``"config.json"``."""
        return bytes(self._open().read_file(path))

    def info(self) -> Manifest:
        """Describe the delta, as :func:`sparse_llm.info`."""
        return Manifest(report(self._open().info()))

    def _open(self) -> _core.DeltaReader:
        if self._reader is None:
            raise _make("invalid_argument", "the file is closed")
        return self._reader

    def _find(self, key: str) -> tuple[int, str, list[int]]:
        try:
            return self._tensors[key]
        except KeyError:
            raise _make("not_found", f"there is no tensor {key!r}", (None, key, None)) from None

    def _part(self, key: str, rows: tuple[int, int]) -> Any:
        index, dtype, shape = self._find(key)
        part = self._open().read(index, (0, *rows))
        return self._make(part, dtype, [rows[1] - rows[0], *shape[1:]], self._device)


class DeltaSlice:
    """View of a tensor: ``view[a:b]`` reads rows ``a`` to ``b`` and no others.

    Indices are those of the framework: integers, slices, ``...``, and what else it takes.
    """

    def __init__(self, file: DeltaFile, key: str) -> None:
        self._file = file
        self._key = key

    def get_shape(self) -> list[int]:
        """Return the shape of the tensor."""
        return self._file.get_shape(self._key)

    def get_dtype(self) -> str:
        """Return the element type of the tensor."""
        return self._file.get_dtype(self._key)

    def __getitem__(self, index: Any) -> Any:
        parts: Sequence[Any] = index if isinstance(index, tuple) else (index,)
        shape = self.get_shape()
        first = _row(parts[0]) if parts else ...
        if not shape or not isinstance(first, (int, slice)):
            # A scalar, or an index that does not begin with rows.
            return self._file.get_tensor(self._key)[index]
        if isinstance(first, slice):
            start, stop, step = first.indices(shape[0])
            selected = range(start, stop, step)
            low = min(selected, default=0)
            high = max(selected, default=-1) + 1
            first = _within(selected, low)
        else:
            low = first + shape[0] if first < 0 else first
            if not 0 <= low < shape[0]:
                raise IndexError(f"row {first} of {shape[0]}")
            high, first = low + 1, 0
        rows = self._file._part(self._key, (low, high))
        return rows[(first, *parts[1:])]


def _row(index: Any) -> Any:
    """Return an index of rows as Python's own type, if it is one; a boolean is a mask."""
    if isinstance(index, (bool, slice)) or type(index).__name__ in ("bool_", "bool"):
        return index if isinstance(index, slice) else ...
    try:
        return operator.index(index) if not hasattr(index, "shape") or index.shape == () else ...
    except TypeError:
        return ...


def _within(selected: range, low: int) -> slice:
    """Return the slice that selects of the rows from ``low`` on what ``selected`` does of all."""
    if not selected:
        return slice(0, 0)
    start, stop = selected.start - low, selected[-1] - low + (1 if selected.step > 0 else -1)
    return slice(start, None if stop < 0 else stop, selected.step)
