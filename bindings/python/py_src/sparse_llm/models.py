"""Deltas of models: made, estimated, restored, checked.

A *name* is a path, an id on the Hub (``org/name``, ``org/name@revision``, ``hf://…``), a URL or an object
(``s3://…``); a path that exists always wins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from . import _core
from ._options import Name, Progress, check_share, common, encoding, name, optional, path, report
from .errors import _make
from .manifest import Manifest, sizes

__all__ = [
    "compress",
    "compress_adapter_delta",
    "compress_delta",
    "compress_delta_svd_full",
    "estimate_delta_savings",
    "export_adapter",
    "info",
    "quality",
    "restore",
    "verify",
]


def compress_delta(
    base_model_id: Name | None,
    finetune_model_id: Name,
    output_path: Name,
    *,
    adapter: Name | None = None,
    policy: str | Sequence[str] = "lossless",
    effort: str = "default",
    sha256: bool = False,
    verify: bool = True,
    overwrite: bool = False,
    threads: int | None = None,
    stream: bool = False,
    progress: Progress = None,
) -> Manifest:
    """Store a fine-tuned model as a delta against its base, so that every bit comes back.

    Args:
        base_model_id: name of the base; None stores the model by itself.
        finetune_model_id: name of the fine-tuned model.
        output_path: the delta, a file.
        adapter: name of the adapter that was merged into the base, if that is how the model came about.
        policy: what may be lost, as the command has it: ``"lossless"``, ``"max-error=0.01"``,
            ``"max-ulps=1"``, ``"target-size=20M"``, a codec such as ``"int8"``; or rules ``"PATTERN:POLICY"``,
            of which the first that matches counts.
        effort: ``"fast"``, ``"default"`` or ``"max"``.
        sha256: whether the delta records the SHA-256 of what it restores.
        verify: whether the delta is decoded and compared before it appears.
        overwrite: whether a file at ``output_path`` may be replaced.
        threads: threads to use; None for all cores.
        stream: whether models of the Hub are read by ranges, without a copy in its cache.
        progress: function of phase, bytes done and bytes in total, or True for a bar.

    Returns:
        The report: ``compression_ratio``, ``delta_type``, ``size_stats``, ``delta_bytes``, ``target_bytes``,
        ``tensors``, ``notes``, and ``quality`` where something may be lost.

    >>> manifest = compress_delta(base, finetuned, folder / "model.sparse")
    >>> manifest["delta_type"], manifest["compression_ratio"] > 5
    ('lossless', True)
    """
    out = path(output_path)
    text = _core.compress(
        (optional(base_model_id), name(finetune_model_id), optional(adapter)),
        out,
        encoding(policy, effort, sha256, verify, overwrite),
        common(threads, progress, stream),
    )
    return _manifest(text, out, base_model_id, finetune_model_id, policy)


def compress_delta_svd_full(
    base_model_id: Name,
    finetune_model_id: Name,
    output_path: Name,
    rank: int | float = 16,
    **options: Any,
) -> Manifest:
    """Store a fine-tuned model as the factors of its change: small, and with the error that it reports.

    What is no matrix is stored without losses.

    Args:
        base_model_id: name of the base.
        finetune_model_id: name of the fine-tuned model.
        output_path: the delta, a file.
        rank: singular vectors of each matrix; below 1, the share of the change's energy to keep.
        options: as :func:`compress_delta`, but for ``policy``.

    Returns:
        The report, with the error in ``quality``.

    >>> manifest = compress_delta_svd_full(base, finetuned, folder / "svd.sparse", rank=4)
    >>> manifest.delta_type, manifest.quality["relative_error"] > 0
    ('svd', True)
    """
    return compress_delta(
        base_model_id, finetune_model_id, output_path, policy=f"svd={rank}", **options
    )


def compress_adapter_delta(
    base_model_id: Name,
    adapter_id: Name,
    output_path: Name,
    *,
    effort: str = "default",
    sha256: bool = False,
    verify: bool = True,
    overwrite: bool = False,
    threads: int | None = None,
    stream: bool = False,
    progress: Progress = None,
) -> Manifest:
    """Store a PEFT adapter as a delta that knows the base it fits.

    The adapter comes back bit for bit; restored over its base it can be merged, too.

    Args:
        base_model_id: name of the base.
        adapter_id: name of the adapter.
        output_path: the delta, a file.
        effort, sha256, verify, overwrite, threads, stream, progress: as :func:`compress_delta`.

    Returns:
        The report; ``delta_type`` is ``"adapter"``.
    """
    out = path(output_path)
    text = _core.compress_adapter(
        (name(base_model_id), name(adapter_id)),
        out,
        encoding("lossless", effort, sha256, verify, overwrite),
        common(threads, progress, stream),
    )
    return _manifest(text, out, base_model_id, adapter_id, "lossless")


def compress(
    target: Name | Mapping[str, Any],
    base: Name | None,
    out: Name,
    *,
    metadata: Mapping[str, str] | None = None,
    **options: Any,
) -> Manifest:
    """Store a model, or tensors from memory, as a delta.

    Args:
        target: a name, or a state dictionary: arrays of numpy or tensors of torch, on any device. The
            delta of a dictionary restores the safetensors file of these tensors.
        base: name of the base, or None.
        out: the delta, a file.
        metadata: texts for the head of the file; only with tensors from memory.
        options: as :func:`compress_delta`.

    Returns:
        The report.

    >>> import numpy as np
    >>> tensors = {"weight": np.arange(12, dtype=np.float32).reshape(3, 4)}
    >>> _ = compress(tensors, None, folder / "tensors.sparse")
    >>> with sparse_llm.open(None, folder / "tensors.sparse") as f:
    ...     f.get_tensor("weight")[1]
    array([4., 5., 6., 7.], dtype=float32)
    """
    if not isinstance(target, Mapping):
        if metadata is not None:
            raise _make("invalid_argument", "metadata goes with tensors from memory, not with a name")
        return compress_delta(base, target, out, **options)
    return _compress_tensors(target, base, out, dict(metadata or {}), **options)


def _compress_tensors(
    target: Mapping[str, Any],
    base: Name | None,
    out: Name,
    metadata: dict[str, str],
    *,
    policy: str | Sequence[str] = "lossless",
    effort: str = "default",
    sha256: bool = False,
    verify: bool = True,
    overwrite: bool = False,
    threads: int | None = None,
    stream: bool = False,
    progress: Progress = None,
) -> Manifest:
    from .frameworks import TensorBytes

    tensors = TensorBytes(target)
    out = path(out)
    text = _core.compress_tensors(
        optional(base),
        (tensors.described, tensors.read),
        metadata,
        out,
        encoding(policy, effort, sha256, verify, overwrite),
        common(threads, progress, stream),
    )
    return _manifest(text, out, base, None, policy)


def estimate_delta_savings(
    base_model_id: Name | None,
    finetune_model_id: Name,
    *,
    adapter: Name | None = None,
    share: float = 0.05,
    effort: str = "default",
    threads: int | None = None,
    stream: bool = False,
    progress: Progress = None,
) -> Manifest:
    """Estimate the size of a delta from a part of the model, in a fraction of the time.

    Args:
        base_model_id: name of the base, or None.
        finetune_model_id: name of the fine-tuned model.
        adapter: name of the adapter that was merged into the base.
        share: share of the tensors' bytes to look at, above 0 and at most 1.
        effort, threads, stream, progress: as :func:`compress_delta`.

    Returns:
        ``estimated_compression`` (original size by that of the delta), ``estimated_bytes``, ``size_stats``
        and the estimate of each tensor.

    >>> estimate_delta_savings(base, finetuned)["estimated_compression"] > 5
    True
    """
    check_share(share)
    text = _core.estimate(
        (optional(base_model_id), name(finetune_model_id), optional(adapter)),
        (float(share), effort),
        common(threads, progress, stream),
    )
    found = report(text)
    found["estimated_bytes"] = found.pop("delta_bytes")
    all_sizes = sizes(found["estimated_bytes"], found["target_bytes"])
    return Manifest(
        estimated_compression=all_sizes["compression_ratio"],
        savings_pct=all_sizes["size_stats"]["savings_pct"],
        **all_sizes,
        **found,
    )


def restore(
    base: Name | None,
    delta: Name,
    out: Name,
    *,
    merge: bool | None = None,
    any_base: bool = False,
    layers: int | None = None,
    sha256: str | None = None,
    overwrite: bool = False,
    threads: int | None = None,
    stream: bool = False,
    progress: Progress = None,
) -> Manifest:
    """Restore what a delta holds as files, as ``sparse reconstruct`` does.

    Args:
        base: name of the base; None for that which the delta records (on the Hub), or if it needs none.
        delta: name of the delta.
        out: the folder, or the file if the delta was made from one.
        merge: whether an adapter is merged into the base; None: if a base is given.
        any_base: whether an adapter may be merged into a base that it was not stored for.
        layers: 1 restores only the low-rank layer of tensors that were coded in two.
        sha256: the SHA-256 that the result must have.
        overwrite: whether what is at ``out`` may be replaced, a folder with all that is in it.
        threads, stream, progress: as :func:`compress_delta`.

    Returns:
        ``files``, ``tensors``, ``bytes``, ``notes``, and ``sha256`` where the delta records one.

    >>> restore(base, delta, folder / "restored").files
    7
    """
    options = common(threads, progress, stream)
    if merge is None:
        merge = base is not None and info(delta, stream=stream)["adapter"] is not None
    restoring = {
        "merge": merge,
        "any_base": bool(any_base),
        "layers": layers,
        "sha256": sha256,
        "overwrite": bool(overwrite),
    }
    return Manifest(
        report(_core.restore((optional(base), name(delta)), path(out), restoring, options))
    )


def verify(
    base: Name | None,
    delta: Name,
    *,
    sha256: str | None = None,
    threads: int | None = None,
    stream: bool = False,
    progress: Progress = None,
) -> Manifest:
    """Check that a delta and its base restore the target, without writing it.

    >>> verify(base, delta).tensors
    9
    """
    options = common(threads, progress, stream)
    return Manifest(report(_core.verify((optional(base), name(delta)), sha256, options)))


def quality(
    base: Name | None,
    finetuned: Name,
    delta: Name,
    *,
    threads: int | None = None,
    stream: bool = False,
    progress: Progress = None,
) -> Manifest:
    """Compare what a delta restores with the fine-tuned model, weight by weight.

    Returns:
        The certificate of all tensors, and of each: relative and largest error, cosine, units in the last
        place, share of equal weights; beside what the delta itself records, and whether it ``agrees``.

    >>> quality(base, finetuned, delta)["exact_rate"]
    1.0
    """
    options = common(threads, progress, stream)
    text = _core.quality((optional(base), name(delta)), name(finetuned), options)
    found = report(text)
    return Manifest(**found.pop("total"), **found)


def info(delta: Name, *, stream: bool = False) -> Manifest:
    """Describe a delta: base and target, files, tensors, how they are coded, sizes.

    >>> info(delta)["needs_base"]
    True
    """
    return Manifest(report(_core.info(name(delta), common(None, None, stream))))


def export_adapter(
    base: Name,
    finetuned: Name,
    out: Name,
    *,
    rank: int | None = None,
    energy: float | None = None,
    size: int | None = None,
    peft: bool = False,
    dtype: str | None = None,
    base_name: str | None = None,
    overwrite: bool = False,
    threads: int | None = None,
    stream: bool = False,
    progress: Progress = None,
) -> Manifest:
    """Write the change from a base to a model as a PEFT adapter: small, and with the error that it reports.

    Args:
        base: name of the base.
        finetuned: name of the fine-tuned model, or of a delta over the base.
        out: the adapter's folder.
        rank, energy, size: rank of each module (16 if nothing is given; without ``peft``, all get one of 8, 16,
            32, …, padded with zeros), share of the change's energy to
            keep, or bytes to fill; one of them.
        peft: whether to use what only PEFT reads, such as a rank of its own for each module.
        dtype: ``"F32"``, ``"BF16"`` or ``"F16"``; that of the model by default.
        base_name: name of the base in the adapter's configuration.
        overwrite, threads, stream, progress: as :func:`compress_delta`.

    Returns:
        ``modules``, ``left_out``, ``rank``, ``bytes`` and ``energy_kept``.
    """
    if sum(value is not None for value in (rank, energy, size)) > 1:
        raise _make("invalid_argument", "rank, energy and size: give one of them")
    exporting = {
        "rank": rank,
        "energy": energy,
        "bytes": size,
        "peft": bool(peft),
        "dtype": dtype,
        "base_name": base_name,
        "layers": None,
        "overwrite": bool(overwrite),
    }
    options = common(threads, progress, stream)
    text = _core.export_adapter((name(base), name(finetuned)), path(out), exporting, options)
    return Manifest(report(text))


def _manifest(
    text: str, out: str, base: Name | None, target: Name | None, policy: str | Sequence[str]
) -> Manifest:
    """Return the report of a delta that was made, with what the parameters say."""
    made = report(text)
    is_adapter = made.pop("is_adapter")
    rules = [policy] if isinstance(policy, str) else list(policy)
    first = rules[0].split("=")[0] if len(rules) == 1 else "per-tensor"
    return Manifest(
        path=out,
        base=optional(base),
        target=optional(target),
        delta_type="adapter" if is_adapter else first if rules else "lossless",
        **sizes(made["delta_bytes"], made["target_bytes"]),
        **made,
    )
