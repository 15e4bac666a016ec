"""Which model of a catalogue answers a request."""

from __future__ import annotations

import os
from dataclasses import dataclass

from .. import _core
from .._options import Name, name, optional, report
from ..errors import _make
from ..manifest import Manifest

__all__ = ["ModelSuggestion", "suggest_optimal_model"]


@dataclass(frozen=True)
class ModelSuggestion:
    """The cheapest model that meets the wishes.

    Attributes:
        recommended_model: its id; None where nothing meets them.
        estimated_cost_per_1m_tokens: in ``currency``, with this request's share of input and output.
        savings: share of the requested model's price that is saved; negative where it costs more.
        reasoning: why, in sentences.
        is_guess: True without a router that labels trained: then the length of the prompt decides.
        report: everything as the command's ``--json`` has it.
    """

    recommended_model: str | None
    estimated_cost_per_1m_tokens: float | None
    currency: str
    savings: float | None
    reasoning: tuple[str, ...]
    is_guess: bool
    report: Manifest


def suggest_optimal_model(
    requested_model: str,
    prompt: str,
    quality_threshold: float = 0.85,
    *,
    catalogue: Name | None = None,
    router: Name | None = None,
    max_latency_ms: float | None = None,
    max_latency_p99_ms: float | None = None,
    input_tokens: int | None = None,
    output_tokens: int = 256,
) -> ModelSuggestion:
    """Choose the cheapest model of a catalogue that suffices for a prompt.

    Args:
        requested_model: id of the model that was asked for.
        prompt: the request.
        quality_threshold: least probability, from 0 to 1, that the answer is as good.
        catalogue: file of models with your prices and latencies, as ``docs/routing.md`` describes it; the one that
            ``SPARSE_CATALOGUE`` names without.
        router: what ``sparse route train`` learnt from labels; without, the length of the prompt decides, which
            is a guess and said to be.
        max_latency_ms, max_latency_p99_ms: most milliseconds, in the median and in 99 of 100.
        input_tokens: tokens of the prompt; a quarter of its characters without.
        output_tokens: tokens of the answer.
    """
    catalogue = catalogue or os.environ.get("SPARSE_CATALOGUE")
    if not catalogue:
        what = "no catalogue: prices are yours, so give a file of models (catalogue=, or SPARSE_CATALOGUE)"
        raise _make("invalid_argument", what)
    wishes = {
        "quality_threshold": quality_threshold,
        "max_latency_ms": max_latency_ms,
        "max_latency_p99_ms": max_latency_p99_ms,
        "input_tokens": input_tokens,
        "output_tokens": output_tokens,
    }
    files = (name(catalogue), optional(router))
    found = report(_core.route((requested_model, prompt), files, wishes))
    decision = found["decision"]
    return ModelSuggestion(
        recommended_model=decision["recommended_model"],
        estimated_cost_per_1m_tokens=decision["estimated_cost_per_1m_tokens"],
        currency=decision["currency"],
        savings=decision["savings"],
        reasoning=tuple(decision["reasoning"]),
        is_guess=found["is_guess"],
        report=Manifest(decision),
    )
