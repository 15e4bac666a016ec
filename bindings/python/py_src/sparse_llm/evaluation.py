"""How well a model predicts a text, and how far it is from another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from . import _core
from ._options import Name, Progress, common, name, optional, report
from .errors import _make
from .manifest import Manifest

__all__ = ["evaluate"]


def evaluate(
    model: Name,
    *,
    delta: Name | None = None,
    text: Name | None = None,
    prompts: Sequence[str] | None = None,
    against: Name | None = None,
    weights: str | None = None,
    latency: bool = False,
    context: int | None = None,
    stride: int | None = None,
    samples: int | None = None,
    program: Name | None = None,
    threads: int | None = None,
    stream: bool = False,
    progress: Progress = None,
) -> Manifest:
    """Measure how well a model predicts a text, by the program ``sparse-eval``.

    Args:
        model: name of the model; with ``delta``, of its base.
        delta: a delta, so that what it restores is measured, without being written.
        text: a file of UTF-8 text; 100 rows of GSM8K without.
        prompts: texts that are measured one by one, with what would come next.
        against: name of a model to compare with: divergence, agreement, difference of perplexities.
        weights: form of the weights, such as ``"q8_0"``; as they are stored without.
        latency: measure speed, too.
        context, stride, samples: tokens of a window, tokens from one to the next, number of windows.
        program: path of ``sparse-eval``; else the one that ``SPARSE_EVAL`` names, or that is on the ``PATH``.
        threads, stream, progress: as :func:`sparse_llm.compress_delta`; progress counts tokens.

    Returns:
        ``perplexity`` with ``perplexity_interval``, ``bits_per_byte``, ``weights_bytes``, ``against``
        (``kl_mean``, ``top1``, ``perplexity_difference``, …), ``prompts``, ``latency``.
    """
    if isinstance(prompts, str):
        raise _make("invalid_argument", "prompts is one text: give a list of texts")
    if prompts is not None and not len(prompts):
        raise _make("invalid_argument", "prompts is empty: leave it out to measure on text alone")
    options = common(threads, progress, stream)
    other = None if against is None else (name(against), None)
    on = on_text(text, context, stride, samples, program)
    found = _core.evaluate(
        ((name(model), optional(delta)), other), list(prompts or ()), (weights, bool(latency)), on, options
    )
    return Manifest(report(found))


def on_text(
    text: Name | None,
    context: int | None,
    stride: int | None,
    samples: int | None,
    program: Name | None,
) -> dict[str, Any]:
    """Return the options of what a model is measured on."""
    for what, number in [("context", context), ("stride", stride), ("samples", samples)]:
        if number is not None and not (isinstance(number, int) and 0 < number < 1 << 32):
            raise _make("invalid_argument", f"{what} is {number!r}: give a whole number above 0")
    return {
        "text": optional(text),
        "context": context,
        "stride": stride,
        "samples": samples,
        "program": optional(program),
    }
