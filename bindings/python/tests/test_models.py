"""Models: stored, restored, checked."""

import filecmp
import os
import signal
import threading
import time

import pytest
import sparse_llm


def same_folders(a, b):
    names = sorted(path.relative_to(a) for path in a.rglob("*") if path.is_file())
    assert names == sorted(path.relative_to(b) for path in b.rglob("*") if path.is_file())
    assert all(filecmp.cmp(a / name, b / name, shallow=False) for name in names)


def test_every_bit_comes_back(base, finetuned, tmp_path):
    manifest = sparse_llm.compress_delta(base, finetuned, tmp_path / "d.sparse")
    assert manifest.delta_type == manifest["delta_type"] == "lossless"
    assert manifest.size_stats["delta_bytes"] == (tmp_path / "d.sparse").stat().st_size
    assert manifest.compression_ratio == manifest.target_bytes / manifest.delta_bytes
    report = sparse_llm.restore(base, tmp_path / "d.sparse", tmp_path / "out")
    assert report.files == 7
    same_folders(finetuned, tmp_path / "out")
    assert sparse_llm.verify(base, tmp_path / "d.sparse").tensors == 9


def test_sha256(base, finetuned, tmp_path):
    made = sparse_llm.compress_delta(base, finetuned, tmp_path / "d.sparse", sha256=True)
    restored = sparse_llm.restore(
        base, tmp_path / "d.sparse", tmp_path / "out", sha256=made["sha256"]
    )
    assert restored["sha256"] == made["sha256"]
    with pytest.raises(sparse_llm.SparseError):
        sparse_llm.verify(base, tmp_path / "d.sparse", sha256="0" * 64)


def test_losses_are_as_asked(base, finetuned, tmp_path):
    rules = ["*LayerNorm*:lossless", "*:max-error=0.2"]
    made = sparse_llm.compress_delta(base, finetuned, tmp_path / "d.sparse", policy=rules)
    assert made.delta_type == "per-tensor"
    found = sparse_llm.quality(base, finetuned, tmp_path / "d.sparse")
    assert 0 < found["relative_error"] <= 0.2
    norms = [tensor for tensor in found["tensors"] if "LayerNorm" in tensor["name"]]
    assert norms and all(tensor["exact_rate"] == 1 for tensor in norms)


def test_without_a_base(finetuned, tmp_path):
    sparse_llm.compress_delta(None, finetuned, tmp_path / "d.sparse")
    sparse_llm.restore(None, tmp_path / "d.sparse", tmp_path / "out")
    same_folders(finetuned, tmp_path / "out")


def test_nothing_is_replaced_unasked(base, finetuned, tmp_path):
    out = tmp_path / "d.sparse"
    out.write_bytes(b"mine")
    with pytest.raises(FileExistsError) as caught:
        sparse_llm.compress_delta(base, finetuned, out)
    assert caught.value.kind == "already_exists" and out.read_bytes() == b"mine"
    sparse_llm.compress_delta(base, finetuned, out, overwrite=True)
    assert out.stat().st_size > 4


@pytest.mark.parametrize(
    ("call", "kind", "also"),
    [
        (lambda f: sparse_llm.info(f / "missing.sparse"), "not_found", FileNotFoundError),
        (lambda f: sparse_llm.info(f / "text.sparse"), "not_this_format", ValueError),
        (lambda f: sparse_llm.compress_delta(None, f, f / "x.sparse"), None, Exception),
        (lambda f: sparse_llm.compress_delta(None, "", f / "x.sparse"), "invalid_argument", ValueError),
        (lambda f: sparse_llm.info("s3://bucket/x.sparse"), "invalid_argument", ValueError),
        (
            lambda f: sparse_llm.compress_delta(None, f, "https://user:pw@host/x"),
            "invalid_argument",
            ValueError,
        ),
    ],
)
def test_errors_say_what_and_where(tmp_path, call, kind, also):
    (tmp_path / "text.sparse").write_text("no delta, but long enough to be one" * 10)
    with pytest.raises(sparse_llm.SparseError) as caught:
        call(tmp_path)
    assert isinstance(caught.value, also)
    assert kind is None or caught.value.kind == kind
    assert "pw" not in str(caught.value)


def test_another_base_is_refused(finetuned, delta):
    with pytest.raises(sparse_llm.BaseMismatchError) as caught:
        sparse_llm.verify(finetuned, delta)
    assert caught.value.file == "config.json"


@pytest.mark.parametrize(
    "options",
    [
        {"policy": "losless"},
        {"policy": "max-error=x"},
        {"effort": "most"},
        {"threads": 0},
        {"threads": 10**9},
        {"threads": 1.5},
        {"threads": "2"},
        {"progress": 3},
    ],
)
def test_arguments_are_checked_before_work(base, finetuned, tmp_path, options):
    with pytest.raises(sparse_llm.InvalidArgumentError):
        sparse_llm.compress_delta(base, finetuned, tmp_path / "d.sparse", **options)
    assert not any(tmp_path.iterdir())


def test_progress_is_told(base, finetuned, tmp_path):
    told = []
    sparse_llm.compress_delta(
        base, finetuned, tmp_path / "d.sparse", progress=lambda *what: told.append(what)
    )
    assert told and all(0 <= done <= total for _, done, total in told if total)
    assert {type(phase) for phase, _, _ in told} == {str}


class Odd(Exception):
    pass


def large_pair(folder, megabytes):
    """Write a pair of models that takes a while to be coded."""
    numpy = pytest.importorskip("numpy")
    save_file = pytest.importorskip("safetensors.numpy").save_file
    draw = numpy.random.default_rng(1)
    count = megabytes << 18
    weights = draw.standard_normal(count, dtype=numpy.float32)
    tuned = weights + draw.standard_normal(count, dtype=numpy.float32) * numpy.float32(1e-3)
    for name, values in (("base", weights), ("tuned", tuned)):
        (folder / name).mkdir()
        save_file({"w": values.reshape(1024, -1)}, folder / name / "model.safetensors")
    return folder / "base", folder / "tuned"


def test_an_exception_of_progress_stops_the_job(tmp_path):
    base, tuned = large_pair(tmp_path, 64)

    def refuse(phase, done, total):
        raise Odd(phase)

    with pytest.raises(Odd):
        sparse_llm.compress_delta(base, tuned, tmp_path / "d.sparse", effort="max", progress=refuse)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "tuned"]


@pytest.mark.skipif(os.name != "posix", reason="sends a signal")
def test_interrupts_stop_within_a_second(tmp_path):
    base, tuned = large_pair(tmp_path, 256)
    sent = []
    # Whoever runs the tests in the background may have had it ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def interrupt():
        time.sleep(0.7)
        sent.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        sparse_llm.compress_delta(base, tuned, tmp_path / "d.sparse", effort="max")
    took = time.monotonic() - sent[0]
    thread.join()
    signal.signal(signal.SIGINT, before)
    # `./check` builds without optimisation, and says so.
    assert took < (5 if os.environ.get("SPARSE_TEST_UNOPTIMISED") else 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "tuned"]


def test_other_threads_run_meanwhile(tmp_path):
    base, tuned = large_pair(tmp_path, 64)
    counted = [0]
    done = threading.Event()

    def count():
        while not done.is_set():
            counted[0] += 1
            time.sleep(0.001)

    thread = threading.Thread(target=count)
    thread.start()
    start = time.monotonic()
    sparse_llm.compress_delta(base, tuned, tmp_path / "d.sparse", verify=False)
    took = time.monotonic() - start
    done.set()
    thread.join()
    assert counted[0] > 20 * took


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_forked_process_has_threads_of_its_own(base, delta):
    assert sparse_llm.verify(base, delta).tensors == 9
    child = os.fork()
    if child == 0:
        try:
            code = 0 if sparse_llm.verify(base, delta).tensors == 9 else 1
        except BaseException:
            code = 2
        os._exit(code)
    for _ in range(300):
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            break
        time.sleep(0.1)
    else:
        os.kill(child, signal.SIGKILL)
        pytest.fail("the child hangs")
    assert os.waitstatus_to_exitcode(status) == 0
