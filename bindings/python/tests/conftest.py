"""What tests and examples work on: the pair that the repository has, and a dataset made here."""

import json
import pathlib
import random
import shutil

import pytest
import sparse_llm

ROOT = pathlib.Path(__file__).parents[3]
FIXTURES = ROOT / "fixtures"


def write_datasets(folder):
    """Write a small dataset and one derived from it."""
    draw = random.Random(1)
    words = "the river under quiet stars a small lamp stands by seven".split()
    rows = [
        {"id": i, "text": " ".join(draw.choices(words, k=12)), "label": draw.randrange(3)}
        for i in range(1000)
    ]
    derived = [dict(row, label=(row["label"] + 1) % 3) if row["id"] % 50 == 0 else row for row in rows]
    for name, content in (("base-data", rows), ("derived-data", derived)):
        text = "".join(json.dumps(row) + "\n" for row in content)
        (folder / f"{name}.jsonl").write_text(text)


@pytest.fixture(scope="session")
def base():
    return FIXTURES / "minilm-bf16" / "base"


@pytest.fixture(scope="session")
def finetuned():
    return FIXTURES / "minilm-bf16" / "finetuned"


@pytest.fixture(scope="session")
def delta(base, finetuned, tmp_path_factory):
    out = tmp_path_factory.mktemp("delta") / "minilm.sparse"
    sparse_llm.compress_delta(base, finetuned, out)
    return out


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """Folder with base-data.jsonl, derived-data.jsonl and data.sparse."""
    folder = tmp_path_factory.mktemp("data")
    write_datasets(folder)
    sparse_llm.compress_dataset_delta(
        folder / "base-data.jsonl", folder / "derived-data.jsonl", folder / "data.sparse"
    )
    return folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """A cache of our own, and no network."""
    monkeypatch.setenv("SPARSE_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def write_llamas(folder):
    """Write a whole model, and one of which every eighth weight moved by one unit in the last place."""
    for name in ("base", "finetuned"):
        shutil.copytree(FIXTURES / "llama-micro", folder / name)
    weights = folder / "finetuned" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    for place in range(8 + int.from_bytes(content[:8], "little"), len(content), 16):
        content[place] ^= 1
    weights.write_bytes(content)


@pytest.fixture(scope="session")
def llamas(tmp_path_factory):
    """Folder with the models base and finetuned, and model.sparse."""
    folder = tmp_path_factory.mktemp("llamas")
    write_llamas(folder)
    sparse_llm.compress_delta(folder / "base", folder / "finetuned", folder / "model.sparse")
    return folder


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """Folder that the examples of the README work in, which is also the current one."""
    write_llamas(tmp_path)
    write_datasets(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(autouse=True)
def example_names(request, doctest_namespace):
    """Names that the examples in docstrings use."""
    if type(request.node).__name__ != "DoctestItem":
        return
    data, llamas = request.getfixturevalue("data"), request.getfixturevalue("llamas")
    if request.node.name.startswith("sparse_llm.transformers"):
        pytest.importorskip("transformers")
    doctest_namespace.update(
        sparse_llm=sparse_llm,
        base=request.getfixturevalue("base"),
        finetuned=request.getfixturevalue("finetuned"),
        delta=request.getfixturevalue("delta"),
        llama=llamas / "base",
        llama_delta=llamas / "model.sparse",
        folder=request.getfixturevalue("tmp_path"),
        base_data=data / "base-data.jsonl",
        derived_data=data / "derived-data.jsonl",
        data_delta=data / "data.sparse",
    )
