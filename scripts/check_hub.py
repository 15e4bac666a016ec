#!/usr/bin/env python3
"""The cache of the Hub is shared with huggingface_hub: what one fetched, the other reads without a network.

    check_hub.py HUB_SERVER HUB_FETCH HUB_PUSH SPARSE

The first three are examples of sparse-remote: a server on loopback, and our client, which also pushes; the last is the
command. Needs huggingface_hub 2.4, which has its own client and its own idea of the cache. `./check hub` calls it.
"""
import contextlib, fcntl, json, os, pathlib, shutil, signal, subprocess, sys, tempfile, threading, time

SERVER, FETCH, PUSH, SPARSE = sys.argv[1:]
PAIR = pathlib.Path(__file__).resolve().parent.parent / "fixtures/minilm-bf16"
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
NEEDED = {"README.md", "config.json", "tokenizer/merges.txt", "model.safetensors.index.json", *SHARDS}
TOKEN = "hf_of_the_check"


def write_repositories(root):
    """Folders that the server serves; each content is random, so that no two are mixed up."""
    model = root / "model"
    (model / "tokenizer").mkdir(parents=True)
    (model / "README.md").write_text("# A model\n")
    (model / "config.json").write_text('{"model_type": "llama"}')
    (model / "tokenizer/merges.txt").write_bytes(os.urandom(5000))
    weight_map = ", ".join(f'"{i}.weight": "{name}"' for i, name in enumerate(SHARDS))
    (model / "model.safetensors.index.json").write_text('{"metadata": {}, "weight_map": {%s}}' % weight_map)
    for name in SHARDS:
        (model / name).write_bytes(os.urandom(3_000_000))
    (model / "pytorch_model.bin").write_bytes(os.urandom(1_000_000))
    big = root / "big"
    big.mkdir()
    (big / "model.safetensors").write_bytes(os.urandom(1 << 20) * 96)
    lines, tables = root / "lines", root / "tables"
    (tables / "default/train").mkdir(parents=True)
    lines.mkdir()
    (lines / "train.csv").write_text("a\n1\n")
    (tables / "default/train/0000.parquet").write_bytes(os.urandom(100_000))
    base = root / "base"
    shutil.copytree(PAIR / "base", base)
    (base / "README.md").write_text("---\nlicense: apache-2.0\n---\n# A base\n")
    return [
        f"model:org/base={base}",
        f"model:org/name={model}",
        f"gated-model:org/gated={model}",
        f"model:org/big={big}",
        f"dataset:org/data={lines}",
        f"dataset:org/data@refs/convert/parquet={tables}",
        f"token:{TOKEN}",
    ]


def fetch(cache, *args, **env):
    """Runs our client; the folder and the files that it names."""
    env = {"HF_ENDPOINT": ENDPOINT, "HF_HUB_CACHE": str(cache), "HF_HOME": str(HOME), "PATH": os.environ["PATH"], **env}
    run = subprocess.run([FETCH, *args], capture_output=True, text=True, env=env, timeout=120)
    if run.returncode:
        raise RuntimeError(run.stderr.strip())
    folder, *files = run.stdout.splitlines()
    return folder, set(files)


def refused(cache, *args, **env):
    try:
        fetch(cache, *args, **env)
    except RuntimeError as e:
        assert TOKEN not in str(e), e
        return str(e)
    raise AssertionError(f"{args} should have failed")


def same(folder, name, source):
    assert pathlib.Path(folder, name).read_bytes() == (source / name).read_bytes(), name


def blobs(cache):
    return {p: (p.stat().st_ino, p.stat().st_mtime_ns) for p in cache.glob("*/blobs/*")}


def ours_is_read_by_python(root):
    cache = root / "ours"
    folder, files = fetch(cache, "model", "org/name")
    assert files == NEEDED, files
    assert hub.snapshot_download("org/name", cache_dir=cache, local_files_only=True) == folder
    for name in NEEDED:
        path = hub.hf_hub_download("org/name", name, cache_dir=cache, local_files_only=True)
        assert path == os.path.join(folder, name)
        same(folder, name, root / "model")
    folder, files = fetch(cache, "dataset", "org/data")
    revision = "refs/convert/parquet"
    local = dict(repo_type="dataset", revision=revision, cache_dir=cache, local_files_only=True)
    assert files == {"default/train/0000.parquet"} and hub.snapshot_download("org/data", **local) == folder
    # Its own inventory of a cache finds nothing to complain about.
    found = hub.scan_cache_dir(cache)
    assert not found.warnings, found.warnings
    repos = {(r.repo_type, r.repo_id): r for r in found.repos}
    assert set(repos) == {("model", "org/name"), ("dataset", "org/data")}
    assert repos["model", "org/name"].nb_files == len(NEEDED) and repos["model", "org/name"].refs.keys() == {"main"}
    assert repos["dataset", "org/data"].refs.keys() == {revision}
    # With a network, it fetches what is missing and nothing again.
    before = blobs(cache)
    hub.snapshot_download("org/name", cache_dir=cache)
    after = blobs(cache)
    assert after.items() >= before.items() and len(after) == len(before) + 1
    print("what we fetched is read by Python")


def pythons_is_read_by_us(root):
    cache = root / "theirs"
    offline = dict(HF_HUB_OFFLINE="1")
    assert "HF_HUB_OFFLINE" in refused(cache, "model", "org/name", **offline)
    # A part of a model is not taken for the whole.
    hub.snapshot_download("org/name", cache_dir=cache, allow_patterns=["*.json"])
    assert "the snapshot lacks " in refused(cache, "model", "org/name", **offline)
    # What is for people to read may be left out.
    hub.snapshot_download("org/name", cache_dir=cache, ignore_patterns=["README.md"])
    assert fetch(cache, "model", "org/name", **offline)[1] == NEEDED - {"README.md"}
    folder = hub.snapshot_download("org/name", cache_dir=cache)
    assert fetch(cache, "model", "org/name", **offline) == (folder, NEEDED)
    assert fetch(cache, "model", f"org/name@{os.path.basename(folder)}", **offline)[0] == folder
    path = hub.hf_hub_download("org/big", "model.safetensors", cache_dir=cache)
    assert fetch(cache, "model", "org/big", **offline)[0] == os.path.dirname(path)
    folder = hub.snapshot_download("org/data", repo_type="dataset", revision="refs/convert/parquet", cache_dir=cache)
    assert fetch(cache, "dataset", "org/data", **offline) == (folder, {"default/train/0000.parquet"})
    # With a network, nothing is fetched again.
    before = blobs(cache)
    for args in (("model", "org/name"), ("model", "org/big"), ("dataset", "org/data")):
        fetch(cache, *args)
    assert blobs(cache) == before
    print("what Python fetched is read by us")


def one_completes_the_other(root):
    cache = root / "mixed"
    hub.hf_hub_download("org/name", "config.json", cache_dir=cache)
    folder, files = fetch(cache, "model", "org/name")
    assert files == NEEDED
    for name in NEEDED:
        same(folder, name, root / "model")
    print("we complete what Python began")


def both_at_once(root):
    cache, results = root / "both", []
    work = [
        lambda: fetch(cache, "model", "org/big")[0],
        lambda: fetch(cache, "model", "org/big")[0],
        lambda: hub.snapshot_download("org/big", cache_dir=cache),
    ]
    threads = [threading.Thread(target=lambda w=w: results.append(w())) for w in work]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert len(results) == 3 and len(set(results)) == 1, results
    same(results[0], "model.safetensors", root / "big")
    assert [p.name for p in cache.glob("*/blobs/*") if "." in p.name] == []
    print("both at once")


def locks_are_the_same(root):
    cache = root / "locks"
    before, _ = fetch(cache, "file", "org/name", "config.json")
    lock = next((cache / ".locks").glob("*/*.lock"))
    shutil.rmtree(cache / "models--org--name")
    from filelock import FileLock

    with FileLock(lock):
        # fcntl.flock, and not a lock of another kind.
        with open(lock) as f, contextlib.suppress(BlockingIOError):
            fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
            raise AssertionError("Python's lock is none")
        ours = threading.Thread(target=fetch, args=(cache, "file", "org/name", "config.json"))
        ours.start()
        ours.join(0.5)
        assert ours.is_alive(), "we do not wait for Python's lock"
    ours.join()
    same(before, "config.json", root / "model")
    print("locks are the same")


def killed_and_resumed(root):
    cache = root / "killed"
    env = {"HF_ENDPOINT": ENDPOINT, "HF_HUB_CACHE": str(cache), "HF_HOME": str(HOME)}
    kills = 0
    for _ in range(20):
        ours = subprocess.Popen([FETCH, "model", "org/big"], env=env, stdout=subprocess.DEVNULL)
        before = sum(p.stat().st_size for p in cache.glob("*/blobs/*.incomplete"))
        deadline = time.monotonic() + 20
        while ours.poll() is None and time.monotonic() < deadline:
            if sum(p.stat().st_size for p in cache.glob("*/blobs/*.incomplete")) > before + (1 << 20):
                ours.send_signal(signal.SIGKILL)
                kills += 1
                break
        ours.wait()
        if ours.returncode == 0:
            break
        assert not list(cache.glob("*/refs/*")) and not list(cache.glob("*/snapshots/*"))
    assert kills, "nothing was killed"
    folder, _ = fetch(cache, "model", "org/big")
    same(folder, "model.safetensors", root / "big")
    assert hub.snapshot_download("org/big", cache_dir=cache, local_files_only=True) == folder
    print(f"killed {kills} times, and resumed")


def tokens(root):
    cache = root / "gated"
    assert "is gated" in refused(cache, "model", "org/gated")
    assert "does not know this token" in refused(cache, "model", "org/gated", HF_TOKEN=TOKEN + "x")
    folder, _ = fetch(cache, "model", "org/gated", HF_TOKEN=TOKEN)
    same(folder, "config.json", root / "model")
    # As `hf auth login` leaves it.
    (HOME / "token").write_text(TOKEN + "\n")
    assert fetch(root / "gated2", "model", "org/gated")[0] != folder
    (HOME / "token").unlink()
    print("tokens of the environment and of the file")


def pushed(root):
    """What we push, Python reads; and the server takes from Python what it takes from us."""
    env = {"HF_ENDPOINT": ENDPOINT, "HF_HOME": str(HOME), "HF_TOKEN": TOKEN}
    files = [root / "model" / name for name in ("README.md", SHARDS[0])]
    run = subprocess.run([PUSH, "org/pushed", *files], env=env, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    info = hub.model_info("org/pushed")
    there = {s.rfilename for s in info.siblings} - {".gitattributes"}
    assert info.sha == run.stdout.strip() and there == {f.name for f in files}
    for file in files:
        path = hub.hf_hub_download("org/pushed", file.name, cache_dir=root / "pushed")
        assert pathlib.Path(path).read_bytes() == file.read_bytes()
    api = hub.HfApi(token=TOKEN)
    api.create_repo("org/python")
    api.upload_folder(repo_id="org/python", folder_path=root / "model")
    folder, names = fetch(root / "python", "model", "org/python")
    assert names == NEEDED
    for name in NEEDED:
        same(folder, name, root / "model")
    path = root / "model" / SHARDS[1]
    hub.upload_file(path_or_fileobj=path, path_in_repo="a/b.safetensors", repo_id="org/python", token=TOKEN)
    back = hub.hf_hub_download("org/python", "a/b.safetensors", cache_dir=root / "python2")
    assert pathlib.Path(back).read_bytes() == path.read_bytes()
    print("what we push is read by Python")


def published(root):
    """`sparse push`: its card is one to Python, and the delta comes back through either client."""
    env = {"HF_ENDPOINT": ENDPOINT, "HF_HOME": str(root / "published"), "HF_TOKEN": TOKEN}
    delta = root / "minilm.sparse"

    def sparse(*args):
        run = subprocess.run([SPARSE, *map(str, args)], env=env, capture_output=True, text=True, timeout=120)
        assert run.returncode == 0, run.stderr
        return run.stdout

    sparse("compress", "org/base", PAIR / "finetuned", "-o", delta)
    told = json.loads(sparse("push", delta, "org/minilm", "--json"))
    card = hub.ModelCard.load("org/minilm")
    assert card.data.base_model == "org/base" and card.data.license == "apache-2.0", card.data
    assert card.data.library_name == "sparse" and card.data.tags == ["sparse", "delta"], card.data
    assert card.data.to_dict()["base_model_relation"] == "finetune" and told["sha256"] in card.text
    card.validate()
    path = hub.hf_hub_download("org/minilm", "minilm.sparse", cache_dir=root / "published/python")
    assert pathlib.Path(path).read_bytes() == delta.read_bytes()
    out = root / "restored"
    sparse("reconstruct", "org/minilm", "-o", out)
    for file in (PAIR / "finetuned").iterdir():
        same(out, file.name, PAIR / "finetuned")
    print("what `sparse push` publishes is a model card to Python")


def offline_opens_no_socket(root):
    if not shutil.which("strace"):
        print("SKIPPED: there is no strace to show that no socket is opened")
        return
    env = {"HF_ENDPOINT": ENDPOINT, "HF_HUB_CACHE": str(root / "ours"), "HF_HUB_OFFLINE": "1", "HOME": str(HOME)}
    for name in ("org/name", "org/none"):
        trace = root / "trace"
        subprocess.run(
            ["strace", "-f", "-e", "trace=%network", "-o", trace, FETCH, "model", name], env=env, capture_output=True
        )
        calls = [line for line in trace.read_text().splitlines() if "socket(" in line or "connect(" in line]
        assert not calls, calls
    print("offline opens no socket")


with tempfile.TemporaryDirectory() as folder:
    ROOT = pathlib.Path(folder).resolve()
    HOME = ROOT / "home"
    HOME.mkdir()
    for name in [n for n in os.environ if n.startswith(("HF_", "HUGGING", "TRANSFORMERS_"))]:
        del os.environ[name]
    server = subprocess.Popen(
        [SERVER, *write_repositories(ROOT)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        ENDPOINT = server.stdout.readline().strip()
        os.environ.update(
            HF_ENDPOINT=ENDPOINT, HF_HOME=str(HOME), HF_HUB_DISABLE_TELEMETRY="1", HF_HUB_DISABLE_PROGRESS_BARS="1"
        )
        # The server has plain HTTP alone.
        os.environ["HF_HUB_DISABLE_XET"] = "1"
        import huggingface_hub as hub

        print(f"huggingface_hub {hub.__version__}")
        for check in (
            ours_is_read_by_python,
            pythons_is_read_by_us,
            one_completes_the_other,
            both_at_once,
            locks_are_the_same,
            killed_and_resumed,
            tokens,
            pushed,
            published,
            offline_opens_no_socket,
        ):
            check(ROOT)
    finally:
        log, _ = server.communicate()
    leaked = [line for line in log.splitlines() if line.startswith("400")]
    assert not leaked, leaked
