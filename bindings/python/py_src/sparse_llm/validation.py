"""How good a lossy delta is, before it is used."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import _core
from ._options import Name, Progress, report
from .errors import _make
from .manifest import Manifest
from .models import compress_delta, quality

__all__ = ["validate_delta_quality", "validate_int8_delta_quality"]

_PROMPTS = (
    "The capital of France is",
    "To sort a list in Python, one can",
    "If a train travels 60 miles in 1.5 hours, its average speed is",
)


def validate_int8_delta_quality(
    base_model_id: Name,
    finetune_model_id: Name,
    sample_layers: int = 2,
    prompts: Sequence[str] | None = None,
    **options: Any,
) -> Manifest:
    """Measure what an int8 delta loses: of its weights, and of the model's answers to prompts.

    The ancestor called int8 lossless. It is not: this says how far from it it is.

    Args:
        base_model_id, finetune_model_id: names of base and fine-tuned model.
        sample_layers: number of changed matrices to list in ``layer_metrics``: those with the largest errors.
        prompts: texts whose logits are compared, in float32, by transformers; None for three if that is installed,
            empty for none.
        options: as :func:`validate_delta_quality`.

    Returns:
        As :func:`validate_delta_quality`.
    """
    return validate_delta_quality(
        base_model_id,
        finetune_model_id,
        "int8",
        sample_layers=sample_layers,
        prompts=prompts,
        **options,
    )


def validate_delta_quality(
    base_model_id: Name,
    finetune_model_id: Name,
    policy: str | Sequence[str],
    *,
    sample_layers: int = 2,
    prompts: Sequence[str] | None = None,
    max_relative_error: float = 0.05,
    min_top1_agreement: float = 0.95,
    cls: Any = None,
    threads: int | None = None,
    stream: bool = False,
    progress: Progress = None,
) -> Manifest:
    """Measure what a lossy policy loses: of the weights, and of the model's answers to prompts.

    Args:
        base_model_id, finetune_model_id: names of base and fine-tuned model.
        policy: what may be lost, as for :func:`sparse_llm.compress_delta`.
        sample_layers: number of changed matrices to list in ``layer_metrics``: those with the largest errors.
        prompts: texts whose logits are compared, in float32, by transformers; None for three if that is installed,
            empty for none.
        max_relative_error: error of all weights, relative to the change, up to which the status is ``"ok"``.
        min_top1_agreement: share of places in the prompts where the same token must come first.
        cls: class of the models; ``AutoModelForCausalLM`` by default.
        threads, stream, progress: as :func:`sparse_llm.compress_delta`.

    Returns:
        ``status`` (``"ok"`` or ``"degraded"``), ``layer_metrics`` (``name``, ``max_abs_error``,
        ``relative_error``, ``cosine``), ``quality`` of all weights, ``compression_ratio``, and ``logits``
        (``max_abs_error``, ``mean_kl``, ``top1_agreement``, ``perplexity`` of the fine-tune on the prompts,
        ``perplexity_difference`` with ``perplexity_difference_interval``, of 95 % over prompts) or None.

    >>> found = validate_delta_quality(base, finetuned, "svd=2", prompts=[])
    >>> found.status, found.layer_metrics[0]["max_abs_error"] > 0
    ('degraded', True)
    """
    if isinstance(prompts, str):
        raise _make("invalid_argument", "prompts is one text: give a list of texts")
    if sample_layers < 0:
        raise _make("invalid_argument", f"sample_layers is {sample_layers}: give at least 0")
    common: dict[str, Any] = {"threads": threads, "stream": stream, "progress": progress}
    with tempfile.TemporaryDirectory(prefix="sparse-") as folder:
        delta = Path(folder, "lossy.sparse")
        made = compress_delta(base_model_id, finetune_model_id, delta, policy=policy, **common)
        found = quality(base_model_id, finetune_model_id, delta, **common)
        logits = None
        texts = _PROMPTS if prompts is None else tuple(prompts)
        if prompts and not _has_transformers():
            raise ImportError("prompts take transformers and torch: pip install 'sparse-llm[transformers]'")
        if texts and _has_transformers():
            logits = _compare_logits(base_model_id, finetune_model_id, delta, texts, cls, stream)
    layers = [
        {
            "name": tensor["name"],
            "max_abs_error": tensor["max_error"],
            "relative_error": tensor["relative_error"],
            "cosine": tensor["cosine"],
        }
        for tensor in sorted(found["tensors"], key=lambda one: -one["max_error"])
        if tensor["max_error"] > 0
    ]
    good = found["relative_error"] <= max_relative_error and (
        logits is None or logits["top1_agreement"] >= min_top1_agreement
    )
    return Manifest(
        status="ok" if good else "degraded",
        layer_metrics=layers[:sample_layers],
        quality={key: value for key, value in found.items() if key != "tensors"},
        compression_ratio=made["compression_ratio"],
        logits=logits,
    )


def _has_transformers() -> bool:
    from importlib.util import find_spec

    return find_spec("transformers") is not None and find_spec("torch") is not None


def _compare_logits(
    base: Name, finetuned: Name, delta: Path, prompts: Sequence[str], cls: Any, stream: bool
) -> dict[str, Any]:
    import torch
    import transformers

    from ._options import name
    from .transformers import from_pretrained_with_delta

    cls = transformers.AutoModelForCausalLM if cls is None else cls
    tokenizer = transformers.AutoTokenizer.from_pretrained(name(finetuned))
    # In float32: in 16 bits, rounding on the way would hide what the delta loses.
    true = cls.from_pretrained(name(finetuned)).float()
    near = from_pretrained_with_delta(delta, base, cls, stream=stream).float()
    worst, compared = 0.0, []
    with torch.inference_mode():
        for prompt in prompts:
            ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
            if not ids.shape[-1]:
                raise _make("invalid_argument", f"the prompt {prompt!r} has no tokens")
            a, b = true(ids).logits.double()[0], near(ids).logits.double()[0]
            worst = max(worst, float((a - b).abs().max()))
            p, q = a.log_softmax(-1), b.log_softmax(-1)
            divergence = (p.exp() * (p - q)).sum(-1)
            same = (a.argmax(-1) == b.argmax(-1)).double()
            # The first token has nothing before it that could predict it.
            scored, wanted = ids.shape[-1] - 1, ids[0, 1:, None]
            nll = [float(-x[:-1].gather(-1, wanted).sum()) / max(scored, 1) for x in (p, q)]
            compared.append(_prompt(prompt, ids.shape[-1], nll, divergence, float(same.mean())))
    joined = report(_core.join_prompts(json.dumps(compared)))
    return {
        "max_abs_error": worst,
        "mean_kl": joined["kl_mean"],
        "top1_agreement": joined["top1"],
        "perplexity": joined["perplexity"],
        "perplexity_difference": joined["perplexity_difference"],
        "perplexity_difference_interval": joined["perplexity_difference_interval"],
    }


def _prompt(prompt: str, tokens: int, nll: list[float], divergence: Any, top1: float) -> dict[str, Any]:
    """Return what was found of a prompt, as ``sparse-eval`` has it."""
    true, near = nll
    return {
        "tokens": tokens,
        "scored": tokens - 1,
        "text_bytes": len(prompt.encode()),
        "windows": 1,
        "mean_nll": near,
        "perplexity": None,
        "bits_per_byte": None,
        "next": [],
        "against": {
            "mean_nll": true,
            "perplexity": None,
            "perplexity_difference": None,
            "positions": tokens,
            "kl_mean": float(divergence.mean()),
            "kl_p99": None,
            "kl_max": float(divergence.max()),
            "top1": top1,
        },
    }
