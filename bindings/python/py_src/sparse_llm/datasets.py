"""Deltas of datasets: made, estimated, restored, and read without writing anything.

A dataset is a file or a folder of Parquet, Arrow, JSON Lines or CSV files, or a repository of the Hub.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from . import _core
from ._closing import Closing
from ._options import Name, Progress, check_share, common, name, optional, path, report
from .errors import _make
from .manifest import Manifest, sizes

if TYPE_CHECKING:
    import datasets
    import pyarrow

__all__ = [
    "DatasetFile",
    "compress_dataset_delta",
    "estimate_dataset_delta_savings",
    "load_dataset",
    "open_dataset",
    "reconstruct_from_dataset_delta",
    "restore_dataset",
    "verify_dataset",
]

_MEMORY = 1 << 30


def compress_dataset_delta(
    base_dataset_id: Name,
    derivative_dataset_id: Name,
    output_dir: Name,
    *,
    exact: bool = False,
    key: str | Sequence[str] = (),
    effort: str = "default",
    sha256: bool = False,
    verify: bool = True,
    overwrite: bool = False,
    memory: int = _MEMORY,
    temporary: Name | None = None,
    threads: int | None = None,
    progress: Progress = None,
) -> Manifest:
    """Store a derivative dataset as a delta against its base, so that every row comes back.

    Args:
        base_dataset_id: name of the base.
        derivative_dataset_id: name of the dataset that was derived from it.
        output_dir: the delta, a file.
        exact: whether the files come back bit for bit, not only their rows.
        key: column or columns that identify a row in both.
        effort: ``"fast"``, ``"default"`` or ``"max"``.
        sha256: whether the delta records the SHA-256 of the files that it restores; with ``exact``.
        verify: whether the delta is decoded and compared before it appears.
        overwrite: whether a file at ``output_dir`` may be replaced.
        memory: bytes to work with; what does not fit goes to temporary files.
        temporary: folder for temporary files; the system's by default.
        threads, progress: as :func:`sparse_llm.compress_delta`.

    Returns:
        The report: ``size_stats`` with ``savings_pct``, ``compression_ratio``, ``rows`` (total, copied, edited,
        new), ``columns``, ``notes``.

    >>> manifest = compress_dataset_delta(base_data, derived_data, folder / "data.sparse")
    >>> manifest["delta_type"], manifest["size_stats"]["savings_pct"] > 50
    ('dataset', True)
    """
    out = path(output_dir)
    encoding = {
        "exact": bool(exact),
        "key": [key] if isinstance(key, str) else list(key),
        "effort": effort,
        "sha256": bool(sha256),
        "proof": bool(verify),
        "overwrite": bool(overwrite),
        "memory": _memory(memory, temporary),
    }
    text = _core.compress_dataset(
        (name(base_dataset_id), name(derivative_dataset_id)),
        out,
        encoding,
        common(threads, progress),
    )
    made = report(text)
    return Manifest(
        path=out,
        base=name(base_dataset_id),
        target=name(derivative_dataset_id),
        delta_type="dataset",
        **sizes(made["delta_bytes"], made["target_bytes"]),
        **made,
    )


def estimate_dataset_delta_savings(
    base_dataset_id: Name,
    derivative_dataset_id: Name,
    *,
    share: float = 0.1,
    effort: str = "default",
    memory: int = _MEMORY,
    temporary: Name | None = None,
    threads: int | None = None,
    progress: Progress = None,
) -> Manifest:
    """Estimate the size of a delta of a dataset from a share of its row groups; all rows are read.

    Args:
        base_dataset_id, derivative_dataset_id: names of base and derivative.
        share: share of the row groups to encode, above 0 and at most 1.
        effort, memory, temporary, threads, progress: as :func:`compress_dataset_delta`.

    Returns:
        ``savings_pct``, ``estimated_bytes``, ``size_stats``, ``rows``, and the ``uncertainty`` of the estimate.

    >>> estimate_dataset_delta_savings(base_data, derived_data).savings_pct > 50
    True
    """
    check_share(share)
    text = _core.estimate_dataset(
        (name(base_dataset_id), name(derivative_dataset_id)),
        (float(share), effort),
        _memory(memory, temporary),
        common(threads, progress),
    )
    found = report(text)
    all_sizes = sizes(found["estimated_bytes"], found["target_bytes"])
    return Manifest(
        savings_pct=all_sizes["size_stats"]["savings_pct"],
        estimated_compression=all_sizes["compression_ratio"],
        **all_sizes,
        **found,
    )


def restore_dataset(
    delta: Name,
    out: Name,
    base: Name | None = None,
    *,
    format: str | None = None,
    sha256: str | None = None,
    overwrite: bool = False,
    memory: int = _MEMORY,
    temporary: Name | None = None,
    threads: int | None = None,
    progress: Progress = None,
) -> Manifest:
    """Restore a dataset as files, as ``sparse dataset-reconstruct`` does.

    Args:
        delta: name of the delta.
        out: the folder, or the file if the dataset was one.
        base: name of the base; None for that which the delta records, on the Hub or beside the delta.
        format: ``"parquet"``, ``"arrow"``, ``"arrow-stream"``, ``"jsonl"`` or ``"csv"`` for all data files.
        sha256: the SHA-256 that the files must have.
        overwrite, memory, temporary, threads, progress: as :func:`compress_dataset_delta`.

    >>> restore_dataset(data_delta, folder / "restored-data.jsonl", base_data).rows
    1000
    """
    text = _core.restore_dataset(
        (optional(base), name(delta)),
        path(out),
        (format, sha256, bool(overwrite)),
        _memory(memory, temporary),
        common(threads, progress),
    )
    return Manifest(report(text))


def verify_dataset(
    delta: Name,
    base: Name | None = None,
    *,
    sha256: str | None = None,
    memory: int = _MEMORY,
    temporary: Name | None = None,
    threads: int | None = None,
    progress: Progress = None,
) -> Manifest:
    """Check that a delta and its base restore the dataset, without writing it."""
    text = _core.verify_dataset(
        (optional(base), name(delta)),
        sha256,
        _memory(memory, temporary),
        common(threads, progress),
    )
    return Manifest(report(text))


def open_dataset(
    delta: Name,
    base: Name | None = None,
    *,
    memory: int = _MEMORY,
    temporary: Name | None = None,
    threads: int | None = None,
    progress: Progress = None,
) -> DatasetFile:
    """Open what a delta restores over its base, to be read by row ranges. The base is read once, now.

    Args:
        delta: name of the delta.
        base: name of the base; None for that which the delta records, on the Hub or beside the delta.
        memory, temporary, threads, progress: as :func:`compress_dataset_delta`.

    >>> with open_dataset(data_delta, base_data) as data:
    ...     data.num_rows, data.table(rows=range(2, 4)).num_rows
    ({'train': 1000}, 2)
    """
    reader = _core.DatasetReader(
        optional(base), name(delta), _memory(memory, temporary), common(threads, progress)
    )
    return DatasetFile(reader)


def load_dataset(
    delta: Name,
    base: Name | None = None,
    split: str | None = None,
    *,
    rows: range | tuple[int, int] | None = None,
    format: str | None = None,
    **options: Any,
) -> Any:
    """Load what a delta restores over its base, or some rows of it, without writing it.

    Args:
        delta: name of the delta.
        base: name of the base; None for that which the delta records, on the Hub or beside the delta.
        split: the split; None for all of them, by name (or for the only one, if ``rows`` are given).
        rows: rows ``a`` to ``b`` of the split, as ``range(a, b)`` or ``(a, b)``.
        format: ``"datasets"`` for a ``datasets.Dataset`` with its features, ``"arrow"`` for a
            ``pyarrow.Table``, ``"reader"`` for a ``pyarrow.RecordBatchReader``; by default the first of these
            that is installed.
        options: as :func:`open_dataset`.

    Returns:
        One split, or a dictionary of them (a ``datasets.DatasetDict``).

    >>> load_dataset(data_delta, base_data, "train", rows=range(2, 4), format="arrow").num_rows
    2
    """
    form = _default_format() if format is None else format
    if form not in ("datasets", "arrow", "reader"):
        raise _make("invalid_argument", f"{form!r} is no format: give datasets, arrow or reader")
    file = open_dataset(delta, base, **options)
    get = {"datasets": file.dataset, "arrow": file.table, "reader": file.reader}[form]
    if split is not None or rows is not None:
        return get(split, rows)
    all_splits = {one: get(one) for one in file.num_rows}
    if form == "datasets":
        import datasets

        return datasets.DatasetDict(all_splits)
    return all_splits


def reconstruct_from_dataset_delta(delta_dir: Name, base: Name | None = None, **options: Any) -> Any:
    """Load the dataset that a delta restores: :func:`load_dataset` by its older name.

    Args:
        delta_dir: name of the delta.
        base: name of the base; None for that which the delta records, on the Hub or beside the delta.
        options: as :func:`load_dataset`.
    """
    return load_dataset(delta_dir, base, **options)


class DatasetFile(Closing):
    """Rows that a delta restores, by split. Use it in a ``with`` statement, or close it."""

    def __init__(self, reader: _core.DatasetReader) -> None:
        self._reader: _core.DatasetReader | None = reader
        # A dataset without splits has one, which others call the train split.
        splits = dict(reader.splits())
        self._names = {"train": "default"} if list(splits) == ["default"] else {}
        self.num_rows: dict[str, int] = {
            "train" if self._names else split: rows for split, rows in splits.items()
        }

    def close(self) -> None:
        """Close base and delta. Rows that were read stay."""
        self._reader = None

    def stream(
        self, split: str | None = None, rows: range | tuple[int, int] | None = None
    ) -> _core.RowStream:
        """Return rows as an object with ``__arrow_c_stream__``, for any library that reads Arrow."""
        if self._reader is None:
            raise _make("invalid_argument", "the dataset is closed")
        split = self._split(split)
        start, end = self._range(split, rows)
        return self._reader.stream(self._names.get(split, split), start, end)

    def reader(
        self, split: str | None = None, rows: range | tuple[int, int] | None = None
    ) -> pyarrow.RecordBatchReader:
        """Return rows as a reader of record batches; each is decoded when it is reached."""
        import pyarrow

        return pyarrow.RecordBatchReader.from_stream(self.stream(split, rows))

    def table(
        self, split: str | None = None, rows: range | tuple[int, int] | None = None
    ) -> pyarrow.Table:
        """Return rows as a table."""
        import pyarrow

        reader = self.reader(split, rows)
        # Batch by batch, so that Ctrl-C is heeded in between.
        return pyarrow.Table.from_batches([batch for batch in reader], reader.schema)

    def dataset(
        self, split: str | None = None, rows: range | tuple[int, int] | None = None
    ) -> datasets.Dataset:
        """Return rows as a ``datasets.Dataset``, with the features that the files state."""
        import datasets

        split = self._split(split)
        return datasets.Dataset(self.table(split, rows), split=datasets.NamedSplit(split))

    def _split(self, split: str | None) -> str:
        names = list(self.num_rows)
        # A `datasets.Split` is told by its text.
        split = None if split is None else str(split)
        if split is None:
            if len(names) != 1:
                raise _make("invalid_argument", f"give the split: one of {', '.join(names)}")
            return names[0]
        if split not in self.num_rows:
            raise _make("not_found", f"there is no split {split!r}: choose one of {', '.join(names)}")
        return split

    def _range(self, split: str, rows: range | tuple[int, int] | None) -> tuple[int, int]:
        count = self.num_rows[split]
        if rows is None:
            return 0, count
        if isinstance(rows, range):
            if rows.step != 1:
                raise _make("invalid_argument", "rows are a range of step 1")
            start, end = rows.start, rows.stop
        else:
            start, end = rows
        if not 0 <= start <= end <= count:
            raise _make(
                "invalid_argument", f"rows {start} to {end} of split {split!r}, which has {count}"
            )
        return start, end


def _default_format() -> str:
    from importlib.util import find_spec

    return "datasets" if find_spec("datasets") else "arrow"


def _memory(size: int, temporary: Name | None) -> dict[str, Any]:
    return {"bytes": int(size), "folder": optional(temporary)}
