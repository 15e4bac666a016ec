"""Deltas of datasets, by their older names."""

from ..datasets import (
    compress_dataset_delta,
    estimate_dataset_delta_savings,
    reconstruct_from_dataset_delta,
)

__all__ = [
    "compress_dataset_delta",
    "estimate_dataset_delta_savings",
    "reconstruct_from_dataset_delta",
]
