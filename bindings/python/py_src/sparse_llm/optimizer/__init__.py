"""The cheapest form of a model that keeps within limits.

Figures are measured by the program ``sparse-eval``, or given by whoever asks; there is no table of assumed ones.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .. import _core
from .._options import Name, Progress, common, name, report
from ..errors import SparseError, _make
from ..evaluation import on_text
from ..manifest import Manifest
from ..models import compress_delta, quality
from .routing import suggest_optimal_model

__all__ = [
    "OptimizationConstraints",
    "OptimizationResult",
    "OptimizedCandidate",
    "optimize_model",
    "suggest_optimal_model",
]

_WEIGHTS = ("q8_0", "q6_k", "q5_k", "q4_k", "q4_0", "q3_k", "q2_k")
_ERRORS = (0.0, 0.05, 0.1, 0.2, 0.4)


@dataclass(frozen=True)
class OptimizationConstraints:
    """Limits that a form of a model must keep to; None does not count.

    Attributes:
        max_ppl_delta: most that the perplexity may rise, at the upper end of its interval.
        max_latency_ms, max_latency_p99_ms: most milliseconds for one more token: median, and 99 of 100.
        min_throughput: least tokens a second.
        min_compression: how many times smaller than the model as it is, at least.
        max_bytes, max_memory: most bytes that are stored, and that running it takes.

    >>> OptimizationConstraints(max_ppl_delta=2.0).max_ppl_delta
    2.0
    """

    max_ppl_delta: float | None = None
    max_latency_ms: float | None = None
    max_latency_p99_ms: float | None = None
    min_throughput: float | None = None
    min_compression: float | None = None
    max_bytes: int | None = None
    max_memory: int | None = None


@dataclass(frozen=True)
class OptimizedCandidate:
    """A form of a model, with its figures; what nobody knows is None.

    Attributes:
        candidate_name: what it is called, such as ``"q8_0"``.
        compression_ratio: how many times smaller than the model as it is.
        cost_per_1m_tokens: with the price that was given; None without.
        ppl_delta: rise of the perplexity; ``ppl_delta_interval`` holds it with a confidence of 95 %.
        latency_ms, latency_p99_ms, tokens_per_second: speed on this machine, if it was measured here.
        size, memory: bytes.
        provenance: ``"measured"``, ``"given"`` or ``"estimated"``.
        misses: limits that it does not keep to, in words.
    """

    candidate_name: str
    compression_ratio: float | None
    cost_per_1m_tokens: float | None
    ppl_delta: float | None
    ppl_delta_interval: tuple[float, float] | None
    latency_ms: float | None
    latency_p99_ms: float | None
    tokens_per_second: float | None
    size: int | None
    memory: int | None
    provenance: str
    on_front: bool
    misses: tuple[str, ...]


@dataclass(frozen=True)
class OptimizationResult:
    """What :func:`optimize_model` found.

    Attributes:
        winner: the best candidate, or None where nothing keeps to all limits.
        nearest: where nothing does, the one that misses by least.
        reasoning: why, in a sentence.
        candidates: all that were measured or given; the model as it is comes first.
        failed: what could not be made or measured: name and why.
        report: everything as the command's ``--json`` has it.
    """

    winner: OptimizedCandidate | None
    nearest: OptimizedCandidate | None
    reasoning: str
    candidates: tuple[OptimizedCandidate, ...]
    failed: Mapping[str, str]
    report: Manifest


def optimize_model(
    model_id: Name,
    constraints: OptimizationConstraints | None = None,
    *,
    base_model_id: Name | None = None,
    objective: str = "size",
    price_per_hour: float | None = None,
    weights: Sequence[str] = _WEIGHTS,
    errors: Sequence[float] = _ERRORS,
    effort: str = "default",
    commands: Mapping[str, str] | None = None,
    candidates: Sequence[Name] = (),
    text: Name | None = None,
    context: int | None = None,
    stride: int | None = None,
    samples: int | None = None,
    work: Name | None = None,
    program: Name | None = None,
    threads: int | None = None,
    stream: bool = False,
    progress: Progress = None,
) -> OptimizationResult:
    """Measure cheaper forms of a model, and choose the best that keeps to limits.

    Args:
        model_id: name of the model.
        constraints: limits; without, everything fits.
        base_model_id: the model's base: lossy deltas over it are candidates, too.
        objective: ``"size"``, ``"cost"`` or ``"quality"``: what is best among what fits.
        price_per_hour: what the machine costs, in any currency; without, cost is time.
        weights: forms of the weights to try.
        errors: errors of the deltas to try, relative to the change.
        effort: how hard to try for small deltas: ``"fast"``, ``"default"`` or ``"max"``.
        commands: candidates that commands of yours make and measure, by name.
        candidates: files of candidates with their figures.
        text, context, stride, samples, program: as :func:`sparse_llm.evaluate`.
        work: an existing folder for deltas and measurements, so that a run that was stopped goes on.
        threads, stream, progress: as :func:`sparse_llm.compress_delta`.
    """
    options = common(threads, progress, stream)
    on = on_text(text, context, stride, samples, program)
    if isinstance(weights, str):
        raise _make("invalid_argument", f"weights is one text: give a list, as [{weights!r}]")
    if not isinstance(constraints, OptimizationConstraints | None):
        raise _make("invalid_argument", "constraints: give OptimizationConstraints(...), or None")
    limits = _limits(constraints or OptimizationConstraints())
    if work is not None and not Path(name(work)).is_dir():
        raise _make("not_found", f"work: there is no folder {name(work)}")
    with ExitStack() as stack:
        if work is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sparse-")))
        else:
            folder = Path(name(work))
        deltas = []
        if base_model_id is not None:
            for error in errors:
                policy = f"max-error={error:g}" if error else "lossless"
                delta = folder / f"{policy}-{effort}.sparse"
                if not _is_made(base_model_id, model_id, delta, threads, stream):
                    compress_delta(
                        base_model_id,
                        model_id,
                        delta,
                        policy=policy,
                        effort=effort,
                        overwrite=True,
                        threads=threads,
                        stream=stream,
                        progress=progress,
                    )
                deltas.append((name(base_model_id), str(delta), policy))
        choosing = {
            "objective": objective,
            "price_per_hour": price_per_hour,
            "weights": list(weights),
            "deltas": deltas,
            "commands": list((commands or {}).items()),
            "given": [name(path) for path in candidates],
            "work": str(folder),
        }
        found = report(_core.optimize(name(model_id), limits, choosing, on, options))
    return _result(found)


def _limits(constraints: OptimizationConstraints) -> dict[str, Any]:
    limits = asdict(constraints)
    for what, limit in limits.items():
        # A size may be a float, such as 1e9.
        is_size = what in ("max_bytes", "max_memory")
        if is_size and isinstance(limit, float) and limit.is_integer():
            limits[what] = limit = int(limit)
        if limit is not None and not isinstance(limit, int if is_size else (int, float)):
            raise _make("invalid_argument", f"{what} is {limit!r}: give a {'whole ' * is_size}number")
        if is_size and limit is not None and not 0 <= limit < 1 << 64:
            raise _make("invalid_argument", f"{what} is {limit!r}: give a number of at least 0")
    return limits


def _is_made(base: Name, model: Name, delta: Path, threads: int | None, stream: bool) -> bool:
    """Return whether an earlier run made this delta, of these models."""
    try:
        return bool(delta.exists() and quality(base, model, delta, threads=threads, stream=stream)["agrees"])
    except SparseError:
        return False


def _result(found: dict[str, Any]) -> OptimizationResult:
    choice = found["choice"]
    pairs = zip(found["candidates"], choice["verdicts"], strict=True)
    candidates = tuple(_candidate(candidate, verdict) for candidate, verdict in pairs)
    at = {role: choice[role] for role in ("winner", "nearest")}
    chosen = {role: None if i is None else candidates[i] for role, i in at.items()}
    failed = {one["name"]: one["why"] for one in found["failed"]}
    return OptimizationResult(
        chosen["winner"], chosen["nearest"], choice["why"], candidates, failed, Manifest(found)
    )


def _candidate(figures: dict[str, Any], verdict: dict[str, Any]) -> OptimizedCandidate:
    delta = figures["ppl_delta"]
    return OptimizedCandidate(
        candidate_name=figures["name"],
        compression_ratio=verdict["compression"],
        cost_per_1m_tokens=verdict["cost_per_million"],
        ppl_delta=delta and delta["value"],
        ppl_delta_interval=delta and (delta["low"], delta["high"]),
        latency_ms=figures["latency_ms"],
        latency_p99_ms=figures["latency_p99_ms"],
        tokens_per_second=figures["tokens_per_second"],
        size=figures["bytes"],
        memory=figures["memory"],
        provenance=figures["provenance"],
        on_front=verdict["on_front"],
        misses=tuple(miss["text"] for miss in verdict["misses"]),
    )
