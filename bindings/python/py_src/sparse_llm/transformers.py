"""Models of transformers from a base and a delta, one tensor at a time."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._options import Name, Progress, name
from .errors import _make
from .reading import DeltaFile, DeltaSlice
from .reading import open as open_delta

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["from_pretrained_with_delta", "reconstruct_from_delta", "reconstruct_from_svd_delta"]

# Files that are read before the weights: they are small.
_HEADS = ("config.json", "generation_config.json")

# Arguments that from_pretrained itself takes, though configurations have attributes of the same names.
_OF_LOADING = {"attn_implementation", "dtype", "experts_implementation", "quantization_config", "torch_dtype"}


def from_pretrained_with_delta(
    delta: Name,
    base_model_id: Name | None = None,
    cls: Any = None,
    *,
    threads: int | None = None,
    stream: bool = False,
    progress: Progress = None,
    **kwargs: Any,
) -> PreTrainedModel:
    """Load the model that a delta restores over its base, as ``cls.from_pretrained`` would the model itself.

    Nothing is written: each tensor is decoded as the model takes it. Where the class reads files of its own
    (code beside the weights, ``trust_remote_code=True``), where weights lie in folders of the model, and for
    adapters, which are merged, the model is restored to the cache first (:class:`sparse_llm.DeltaCache`).

    Args:
        delta: name of the delta.
        base_model_id: name of the base; None for that which the delta records (on the Hub).
        cls: class of the model; ``AutoModelForCausalLM`` by default.
        threads, stream, progress: as :func:`sparse_llm.open`.
        kwargs: what ``from_pretrained`` takes: ``device_map``, ``dtype``, ``attn_implementation``, …

    Returns:
        The model, in evaluation mode.

    >>> model = from_pretrained_with_delta(llama_delta, llama)
    >>> type(model).__name__
    'LlamaForCausalLM'
    """
    import transformers

    cls = transformers.AutoModelForCausalLM if cls is None else cls
    if not hasattr(cls, "from_pretrained"):
        raise _make("invalid_argument", f"{cls!r} has no from_pretrained: give a class as cls")
    for taken in ("state_dict", "config_path", "pretrained_model_name_or_path"):
        if taken in kwargs:
            raise _make("invalid_argument", f"{taken} comes from the delta: leave it out")
    with open_delta(
        base_model_id, delta, "pt", threads=threads, stream=stream, progress=progress
    ) as file:
        source = None if _needs_files(file, cls, kwargs) else _load_lazily(file, cls, kwargs)
    if source is not None:
        return _remembering(source, delta)
    from .cache import DeltaCache

    folder = DeltaCache().get_or_reconstruct(base_model_id, delta, stream=stream, progress=progress)
    return _remembering(cls.from_pretrained(folder.path, **kwargs), delta)


def reconstruct_from_delta(base_model_id: Name | None, delta_path: Name, **kwargs: Any) -> Any:
    """Load the model that a delta restores: :func:`from_pretrained_with_delta` by its older name.

    Args:
        base_model_id: name of the base, or None.
        delta_path: name of the delta.
        kwargs: as :func:`from_pretrained_with_delta`.
    """
    return from_pretrained_with_delta(delta_path, base_model_id, **kwargs)


def reconstruct_from_svd_delta(base_model_id: Name | None, delta_path: Name, **kwargs: Any) -> Any:
    """Load the model that a delta of factors restores, as :func:`reconstruct_from_delta`.

    What a delta is made of is written in it, so that one function reads them all.
    """
    return from_pretrained_with_delta(delta_path, base_model_id, **kwargs)


class _Tensors(Mapping[str, DeltaSlice]):
    """Names of the tensors, and what reads each: nothing is decoded before it is indexed."""

    def __init__(self, file: DeltaFile) -> None:
        self._file = file

    def __getitem__(self, key: str) -> DeltaSlice:
        if key not in self._file:
            raise KeyError(key)
        return self._file.get_slice(key)

    def __iter__(self) -> Any:
        return iter(self._file)

    def __len__(self) -> int:
        return len(self._file)


def _needs_files(file: DeltaFile, cls: Any, kwargs: Mapping[str, Any]) -> bool:
    """Return whether the model cannot be made of its tensors and its configuration alone."""
    import transformers

    files = set(file.files())
    if "config.json" not in files or not len(file):
        return True
    if not isinstance(cls, type) or not (
        issubclass(cls, transformers.PreTrainedModel) or hasattr(cls, "_model_mapping")
    ):
        return True
    # Such as an adapter's, which are not the model's.
    if any("/" in path and path.endswith(".safetensors") for path in files):
        return True
    config = json.loads(file.read_file("config.json"))
    return bool(
        "auto_map" in config
        or "quantization_config" in config
        or kwargs.get("gguf_file")
        or kwargs.get("subfolder")
        or kwargs.get("variant")
    )


def _load_lazily(file: DeltaFile, cls: Any, kwargs: dict[str, Any]) -> Any:
    import transformers

    kwargs = dict(kwargs)
    with tempfile.TemporaryDirectory(prefix="sparse-") as folder:
        for head in set(_HEADS) & set(file.files()):
            Path(folder, head).write_bytes(file.read_file(head))
        config = kwargs.pop("config", None)
        if not isinstance(config, transformers.PreTrainedConfig):
            source = config or folder
            kind = getattr(cls, "config_class", None) or transformers.AutoConfig
            config = kind.from_pretrained(source)
            # What is the configuration's goes there, as from_pretrained does it with files.
            own = {key for key in kwargs if hasattr(config, key) and key not in _OF_LOADING}
            if own:
                config = kind.from_pretrained(source, **{key: kwargs.pop(key) for key in own})
        generation = None
        if Path(folder, "generation_config.json").exists():
            generation = transformers.GenerationConfig.from_pretrained(folder)
    if hasattr(cls, "_model_mapping"):
        cls = _class_of(cls, config)
    dtype = kwargs.pop("dtype", kwargs.pop("torch_dtype", None))
    if dtype is None or dtype == "auto":
        dtype = getattr(config, "dtype", None) or _first_float(file)
    model = cls.from_pretrained(
        None, config=config, state_dict=_Tensors(file), dtype=dtype, **kwargs
    )
    if generation is not None and getattr(model, "generation_config", None) is not None:
        model.generation_config = generation
    return model


def _class_of(auto: Any, config: Any) -> Any:
    """Return the class that one of the Auto classes stands for."""
    try:
        found = auto._model_mapping[type(config)]
    except KeyError:
        raise _make(
            "invalid_argument",
            f"{auto.__name__} has no class for {type(config).__name__}: give another as cls",
        ) from None
    if isinstance(found, (list, tuple)):
        wanted = getattr(config, "architectures", None) or []
        found = next((one for one in found if one.__name__ in wanted), found[0])
    return found


def _first_float(file: DeltaFile) -> Any:
    """Return the type of the first tensor of floating-point numbers."""
    from .frameworks.torch import dtype

    for key in file:
        kind = dtype(file.get_dtype(key))
        if kind.is_floating_point:
            return kind
    return None


def _remembering(model: PreTrainedModel, delta: Name) -> PreTrainedModel:
    """Let the configuration say where the model comes from."""
    config: Any = getattr(model, "config", None)
    if hasattr(config, "_name_or_path"):
        config._name_or_path = name(delta)
    return model
