"""Adapters of PEFT from deltas."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import _core
from ._options import Name, Progress, common, name, report
from .errors import _make
from .models import info, restore

if TYPE_CHECKING:
    import torch
    from peft import PeftModel

__all__ = ["PeftAdapter", "get_peft_adapter"]

_CODECS = {"low-rank", "svd"}


def get_peft_adapter(
    delta: Name,
    base_model_id: Name | None = None,
    *,
    out: Name | None = None,
    rank: int | None = None,
    energy: float | None = None,
    threads: int | None = None,
    stream: bool = False,
    progress: Progress = None,
) -> PeftAdapter:
    """Return the adapter that a delta holds.

    Of a delta that was made of an adapter that is the adapter itself, bit for bit. Of one whose first layer is
    low-rank (it was compressed with ``adapter=``, or by ``policy="svd"`` or ``"layered"``) it is that layer, factored
    again, without what a second layer adds to it.

    Args:
        delta: name of the delta.
        base_model_id: name of the base; only the first kind does without.
        out: folder to write it to; None for one that goes with the object.
        rank, energy: rank of each module (16 if neither is given), rounded up to 8, 16, 32, …, or the share of the
            change's energy to keep; of the second kind.
        threads, stream, progress: as :func:`sparse_llm.compress_delta`.

    Raises:
        InvalidArgumentError: if the delta is of neither kind.
    """
    found = info(delta, stream=stream)
    folder = None if out is not None else tempfile.TemporaryDirectory(prefix="sparse-")
    path = str(Path(folder.name, "adapter")) if folder is not None else name(out or "")
    options: dict[str, Any] = {"threads": threads, "stream": stream, "progress": progress}
    if found["adapter"] is not None:
        restore(None, delta, path, merge=False, **options)
        return PeftAdapter(path, folder)
    if not _CODECS & {unit["codec"].split("=")[0].split(" ")[0] for unit in found["units"]}:
        raise _make(
            "invalid_argument",
            "its first layer is not low-rank: sparse_llm.export_adapter makes an adapter of any change",
            (name(delta), None, None),
        )
    if base_model_id is None:
        raise _make("invalid_argument", "the adapter is relative to the base: give base_model_id")
    exporting = {
        "rank": rank,
        "energy": energy,
        "bytes": None,
        "peft": False,
        "dtype": None,
        "base_name": None,
        "layers": 1,
        "overwrite": False,
    }
    _core.export_adapter(
        (name(base_model_id), name(delta)), path, exporting, common(threads, progress, stream)
    )
    return PeftAdapter(path, folder)


class PeftAdapter:
    """Folder with an adapter, as PEFT writes it.

    Attributes:
        path: the folder.
        config: what ``adapter_config.json`` says.
    """

    def __init__(self, path: str, folder: Any = None) -> None:
        self.path = path
        self._folder = folder
        self.config: dict[str, Any] = report(
            Path(path, "adapter_config.json").read_text(encoding="utf-8")
        )

    def __fspath__(self) -> str:
        return self.path

    def __repr__(self) -> str:
        return f"PeftAdapter({json.dumps(self.path)}, r={self.config.get('r')})"

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return the factors by name."""
        from safetensors.torch import load_file

        return load_file(str(Path(self.path, "adapter_model.safetensors")))

    def apply(self, model: Any, **kwargs: Any) -> PeftModel:
        """Return the model with the adapter in place: a ``peft.PeftModel``."""
        from peft import PeftModel

        return PeftModel.from_pretrained(model, self.path, **kwargs)
