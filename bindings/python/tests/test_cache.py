"""The cache of restored models."""

import copy
import filecmp
import gc
import os
import pathlib
import pickle

import pytest
import sparse_llm


@pytest.fixture
def cache(tmp_path):
    return sparse_llm.DeltaCache(tmp_path / "cache")


def test_restored_once(cache, base, finetuned, delta):
    with cache.get_or_reconstruct(base, delta) as entry:
        path = pathlib.Path(entry)
        assert os.fspath(entry) == entry.path
        for file in finetuned.iterdir():
            assert filecmp.cmp(file, path / file.name, shallow=False)
        first = (path / "model.safetensors").stat().st_mtime_ns
    with cache.get_or_reconstruct(base, delta) as entry:
        assert (pathlib.Path(entry) / "model.safetensors").stat().st_mtime_ns == first
    assert [one["files"] for one in cache.list()] == [7]


def test_found_by_digests_and_not_by_names(cache, base, delta, tmp_path):
    copy = tmp_path / "another-name.sparse"
    copy.write_bytes(delta.read_bytes())
    first, second = (cache.get_or_reconstruct(base, one) for one in (delta, copy))
    assert first.path == second.path


def test_the_environment_names_the_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("SPARSE_CACHE", str(tmp_path / "elsewhere"))
    assert sparse_llm.DeltaCache().folder == str(tmp_path / "elsewhere")


def test_what_is_in_use_stays(cache, base, delta):
    entry = cache.get_or_reconstruct(base, delta)
    assert cache.clear()["removed"] == 0 and pathlib.Path(entry).exists()
    path = entry.path
    del entry
    gc.collect()
    assert cache.clear()["removed"] == 1 and not pathlib.Path(path).exists()


def test_damage_is_noticed_and_mended(cache, base, finetuned, delta):
    with cache.get_or_reconstruct(base, delta) as entry:
        path = pathlib.Path(entry)
    weights = path / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert len(cache.verify()["damaged"]) == 1
    with cache.get_or_reconstruct(base, delta) as entry:
        found = (pathlib.Path(entry) / "model.safetensors").read_bytes()
    assert found == (finetuned / "model.safetensors").read_bytes()


def test_a_limit_removes_the_oldest(base, finetuned, delta, tmp_path):
    cache = sparse_llm.DeltaCache(tmp_path / "cache", limit=3 << 20)
    for number in range(4):
        other = tmp_path / f"{number}.sparse"
        sparse_llm.compress_delta(base, finetuned, other, effort=["fast", "default", "max"][number % 3])
        cache.get_or_reconstruct(base, other).close()
    assert sum(entry["bytes"] for entry in cache.list()) <= 3 << 20


def test_in_the_background(cache, base, delta, tmp_path):
    job = cache.prefetch_deltas(base, [delta, tmp_path / "missing.sparse"])
    with pytest.raises(sparse_llm.NotFoundError):
        job.wait()
    assert job.done() and list(job.errors()) == [str(tmp_path / "missing.sparse")]
    assert job.progress()["finished"] == 2
    entries = cache.get_or_reconstruct(base, delta, background=True).wait()
    assert len(entries) == 1 and pathlib.Path(entries[0]).exists()


def test_a_handle_need_not_be_kept(cache, base, delta):
    cache.prefetch(base, [delta])
    gc.collect()
    with cache.get_or_reconstruct(base, delta) as entry:
        assert pathlib.Path(entry).exists()


def test_an_entry_is_a_path(cache, base, delta):
    entry = cache.get_or_reconstruct(base, delta)
    assert isinstance(entry, str) and str(entry) == entry == entry.path == os.fspath(entry)
    assert type(copy.deepcopy(entry)) is str and pickle.loads(pickle.dumps(entry)) == entry
    assert os.path.isfile(os.path.join(entry, "config.json"))


def test_waiting_twice_says_the_same(cache, base, delta):
    job = cache.prefetch_deltas(base, ["missing.sparse", delta])
    for _ in range(2):
        with pytest.raises(sparse_llm.NotFoundError):
            job.wait()
    assert list(job.entries()) == [str(delta)]
    with pytest.raises(sparse_llm.InvalidArgumentError):
        cache.get_or_reconstruct(base, delta, background=True, progress=print)
