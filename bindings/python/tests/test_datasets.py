"""Datasets: stored, restored, read by rows."""

import json

import pytest
import sparse_llm


def rows_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_manifest_and_estimate(data, tmp_path):
    made = sparse_llm.compress_dataset_delta(
        data / "base-data.jsonl", data / "derived-data.jsonl", tmp_path / "d.sparse", key="id"
    )
    assert made.size_stats["savings_pct"] > 50 and made.rows["total"] == 1000
    found = sparse_llm.estimate_dataset_delta_savings(
        data / "base-data.jsonl", data / "derived-data.jsonl", share=1
    )
    assert abs(found.savings_pct - made.size_stats["savings_pct"]) < 5


def test_files_come_back(data, tmp_path):
    out = tmp_path / "out.jsonl"
    sparse_llm.compress_dataset_delta(
        data / "base-data.jsonl", data / "derived-data.jsonl", tmp_path / "d.sparse",
        exact=True, sha256=True,
    )
    sparse_llm.restore_dataset(tmp_path / "d.sparse", out, data / "base-data.jsonl")
    assert out.read_bytes() == (data / "derived-data.jsonl").read_bytes()
    assert sparse_llm.verify_dataset(tmp_path / "d.sparse", data / "base-data.jsonl")["exactness"] == "bytes"


def test_the_recorded_base_is_found_beside_the_delta(data):
    # It lies in the folder of the delta, and was recorded by its path.
    assert sparse_llm.verify_dataset(data / "data.sparse").rows == 1000


def test_another_base_is_refused(data):
    with pytest.raises(sparse_llm.BaseMismatchError):
        sparse_llm.verify_dataset(data / "data.sparse", data / "derived-data.jsonl")


def test_rows_by_range(data):
    pytest.importorskip("pyarrow")
    want = rows_of(data / "derived-data.jsonl")
    with sparse_llm.open_dataset(data / "data.sparse", data / "base-data.jsonl") as file:
        assert file.num_rows == {"train": 1000}
        assert file.table().to_pylist() == want
        assert file.table(rows=range(7, 11)).to_pylist() == want[7:11]
        assert file.table("train", (0, 0)).num_rows == 0
        readers = [file.reader(rows=(a, a + 5)) for a in (0, 500)]
        found = [reader.read_all().to_pylist() for reader in readers]
        assert found == [want[0:5], want[500:505]]
        for bad in ((-1, 3), (5, 2), (990, 1001)):
            with pytest.raises(sparse_llm.InvalidArgumentError):
                file.table(rows=bad)
        with pytest.raises(sparse_llm.NotFoundError):
            file.table("test")


def test_streams_outlive_the_file(data):
    pyarrow = pytest.importorskip("pyarrow")
    with sparse_llm.open_dataset(data / "data.sparse", data / "base-data.jsonl") as file:
        stream = file.stream()
    assert pyarrow.table(stream).num_rows == 1000
    with pytest.raises(sparse_llm.InvalidArgumentError):
        pyarrow.table(stream)
    with pytest.raises(sparse_llm.InvalidArgumentError):
        file.table()


def test_datasets_with_features(tmp_path):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])}
    )
    rows = {"text": [f"row {i} of some text" for i in range(400)], "label": [i % 2 for i in range(400)]}
    whole = datasets.Dataset.from_dict(rows, features=features)
    whole.to_parquet(tmp_path / "base.parquet")
    part = whole.select(range(10, 300)).map(lambda row: {"text": row["text"].upper()})
    part.to_parquet(tmp_path / "part.parquet")
    delta = tmp_path / "d.sparse"
    sparse_llm.compress_dataset_delta(tmp_path / "base.parquet", tmp_path / "part.parquet", delta)
    found = sparse_llm.load_dataset(delta, tmp_path / "base.parquet")
    assert isinstance(found, datasets.DatasetDict) and list(found) == ["train"]
    assert found["train"].features == features and found["train"][:] == part[:]
    train = datasets.Split.TRAIN
    some = sparse_llm.load_dataset(delta, tmp_path / "base.parquet", train, rows=range(5, 9))
    assert isinstance(some, datasets.Dataset) and some[:] == part[5:9]
    assert sparse_llm.reconstruct_from_dataset_delta(delta)["train"].num_rows == 290
