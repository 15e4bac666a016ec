"""Store a fine-tuned model as a small delta against its base, and restore it bit for bit.

>>> import sparse_llm
>>> manifest = sparse_llm.compress_delta(base, finetuned, folder / "my.sparse")
>>> manifest["delta_type"], manifest["compression_ratio"] > 5
('lossless', True)
>>> with sparse_llm.open(base, folder / "my.sparse") as f:
...     f.get_tensor("embeddings.LayerNorm.weight").shape
(384,)

Names of models and datasets are paths, ids on the Hub (``org/name``, ``org/name@revision``), URLs, or objects of
a store. What needs numpy, torch, transformers, peft, pyarrow or datasets imports it when it is called.
"""

from __future__ import annotations

from . import errors
from ._core import __version__
from .cache import CachedModel, DeltaCache, Prefetch
from .datasets import (
    DatasetFile,
    compress_dataset_delta,
    estimate_dataset_delta_savings,
    load_dataset,
    open_dataset,
    reconstruct_from_dataset_delta,
    restore_dataset,
    verify_dataset,
)
from .errors import *  # noqa: F403
from .evaluation import evaluate
from .manifest import Manifest
from .models import (
    compress,
    compress_adapter_delta,
    compress_delta,
    compress_delta_svd_full,
    estimate_delta_savings,
    export_adapter,
    info,
    quality,
    restore,
    verify,
)
from .optimizer import OptimizationConstraints, optimize_model, suggest_optimal_model
from .peft import PeftAdapter, get_peft_adapter
from .reading import DeltaFile, DeltaSlice, load_file, open
from .transformers import (
    from_pretrained_with_delta,
    reconstruct_from_delta,
    reconstruct_from_svd_delta,
)
from .validation import validate_delta_quality, validate_int8_delta_quality

__all__ = [
    "CachedModel",
    "DeltaCache",
    "DatasetFile",
    "DeltaFile",
    "DeltaSlice",
    "Manifest",
    "OptimizationConstraints",
    "PeftAdapter",
    "Prefetch",
    "__version__",
    "compress",
    "compress_adapter_delta",
    "compress_dataset_delta",
    "compress_delta",
    "compress_delta_svd_full",
    "estimate_dataset_delta_savings",
    "estimate_delta_savings",
    "evaluate",
    "export_adapter",
    "from_pretrained_with_delta",
    "get_peft_adapter",
    "info",
    "load_dataset",
    "load_file",
    "open",
    "open_dataset",
    "optimize_model",
    "quality",
    "reconstruct_from_dataset_delta",
    "reconstruct_from_delta",
    "reconstruct_from_svd_delta",
    "restore",
    "restore_dataset",
    "suggest_optimal_model",
    "validate_delta_quality",
    "validate_int8_delta_quality",
    "verify",
    "verify_dataset",
    *errors.__all__,
]
