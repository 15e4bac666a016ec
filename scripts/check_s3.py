#!/usr/bin/env python3
"""Objects of `sparse-remote` against an emulator of S3 (moto), which is not S3 itself.

    check_s3.py OBJECTS

OBJECTS is the program of `crates/sparse-remote/examples/objects.rs`. What it writes is read by boto3, and the other way
round. The emulator listens on the loopback device alone and ends with this script, as does a proxy that spoils a part
of the answers. Needs moto[server] and boto3. `./check objects` calls it.
"""
import concurrent.futures, contextlib, hashlib, http.client, http.server, json, os, random, socket, subprocess, sys
import tempfile, threading, time, urllib.request
import boto3
from botocore.config import Config
from botocore.exceptions import ClientError
from moto.server import ThreadedMotoServer

PART = 5 << 20
LONGEST = 300  # seconds that one command may take
BOX = "box-of-tests"


def data(length, seed):
    return random.Random(seed).randbytes(length)


class Server:
    """The emulator, or a proxy before it, as the environment names it."""

    def __init__(self, port):
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "AZURE_", "GOOGLE_"))}
        keys = {"AWS_ACCESS_KEY_ID": "key-of-tests", "AWS_SECRET_ACCESS_KEY": "s3cret-of-tests"}
        self.env = kept | keys | {"AWS_REGION": "us-east-1", "AWS_ENDPOINT_URL": self.url}

    def start(self, *args, without="", **env):
        pipes = {name: subprocess.PIPE for name in ("stdin", "stdout", "stderr")}
        env = {k: v for k, v in (self.env | env).items() if k != without}
        return subprocess.Popen([OBJECTS, *args], env=env, **pipes)

    def run(self, *args, input=b"", without="", **env):
        """Exit status, output, and what was printed of an error; secrets are in neither."""
        process = self.start(*args, without=without, **env)
        try:
            out, err = process.communicate(input, timeout=LONGEST)
        except subprocess.TimeoutExpired:
            process.kill()
            raise SystemExit(f"objects {' '.join(args)}: still running after {LONGEST} s")
        for secret in (self.env | env)["AWS_SECRET_ACCESS_KEY"], "Signature=", "Credential=":
            assert secret not in out.decode("latin-1") + err.decode(), f"shown: {secret}"
        return process.returncode, out, err.decode()

    def good(self, *args, **more):
        code, out, err = self.run(*args, **more)
        assert code == 0, f"objects {' '.join(args)}: {err}"
        return out

    def bad(self, kind, *args, **more):
        """Runs what must fail with this kind of error, naming the address."""
        code, _, err = self.run(*args, **more)
        assert code == 1 and err.startswith(f"{kind}({args[1]}: "), f"objects {' '.join(args)}: {code}, {err}"
        return err


class Proxy(http.server.BaseHTTPRequestHandler):
    """Hands requests on to the emulator. `fault` decides for each which of them goes wrong, and how."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def handle_any(self):
        length = int(self.headers.get("content-length") or 0)
        body = self.rfile.read(length)
        fault = self.server.fault(self.command, self.path)
        if fault == "busy":
            return self.answer(503, [], b"<Error><Code>SlowDown</Code></Error>")
        if fault == "deaf":
            return self.hang_up()
        upstream = http.client.HTTPConnection("127.0.0.1", self.server.behind, timeout=60)
        headers = {k: v for k, v in self.headers.items() if k.lower() not in ("connection", "content-length")}
        upstream.request(self.command, self.path, body, headers | {"Content-Length": str(length)})
        response = upstream.getresponse()
        answer, headers = response.read(), response.getheaders()
        upstream.close()
        if fault == "lost":
            return self.hang_up()
        self.answer(response.status, headers, answer, cut=fault == "cut" and len(answer) > 1)

    def answer(self, status, headers, body, cut=False):
        self.send_response_only(status)
        skipped = ("connection", "transfer-encoding", "content-length")
        for name, value in headers:
            if name.lower() not in skipped:
                self.send_header(name, value)
        # Of what HEAD asks for, the length is the answer.
        length = dict((k.lower(), v) for k, v in headers).get("content-length", str(len(body)))
        self.send_header("Content-Length", length if self.command == "HEAD" else str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if cut else body)
        if cut:
            self.hang_up()

    def hang_up(self):
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_any


@contextlib.contextmanager
def proxy(behind, fault):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    server.daemon_threads, server.behind, server.fault = True, behind, fault
    server.handle_error = lambda *_: None  # clients hang up, too
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield Server(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()


def keys():
    return [o["Key"] for page in S3.get_paginator("list_objects_v2").paginate(Bucket=BOX) for o in page.get("Contents", [])]


def uploads():
    return S3.list_multipart_uploads(Bucket=BOX).get("Uploads", [])


def stored(key):
    return S3.get_object(Bucket=BOX, Key=key)["Body"].read()


def put_and_get(server):
    odd = "a folder/ü + 100%20 = ~.bin"
    for number, length in enumerate([0, 1, PART - 1, PART, PART + 1, 3 * PART + 17]):
        key, content = f"{odd}{number}", data(length, number)
        size, etag = server.good("put", f"s3://{BOX}/{key}", input=content).decode().split()
        head = S3.head_object(Bucket=BOX, Key=key)
        assert int(size) == length == head["ContentLength"] and etag == head["ETag"], key
        assert stored(key) == content and server.good("get", f"s3://{BOX}/{key}") == content, key
        many = length >= PART
        assert etag.strip('"').endswith(f"-{length // PART + (length % PART > 0)}") == many, f"{length} bytes: {etag}"
    assert not uploads()


def memory(server):
    """What is written and read passes through, and is never in memory whole."""
    content, url = data(120_000_000, 0), f"s3://{BOX}/large"
    put = server.start("put", url)
    put.stdin.write(content)
    put.stdin.flush()
    written = most_memory(put)
    _, err = put.communicate(timeout=LONGEST)
    assert put.returncode == 0, err
    get = server.start("get", url)
    start = get.stdout.read(len(content) - (2 << 20))  # it waits for the rest to be taken
    read = most_memory(get)
    rest = get.stdout.read()
    assert get.wait(LONGEST) == 0 and start + rest == content, get.stderr.read()
    S3.delete_object(Bucket=BOX, Key="large")
    assert written < 80 and read < 130, (written, read)
    return f"{written} MiB to write 120 MB, {read} MiB to read them"


def most_memory(process):
    """The most that a process had in memory so far, in MiB; 0 where that is not to be had."""
    with contextlib.suppress(OSError), open(f"/proc/{process.pid}/status") as file:
        return next(int(line.split()[1]) >> 10 for line in file if line.startswith("VmHWM"))
    return 0


def ranges(server):
    content = data(1 << 20, 1)
    S3.put_object(Bucket=BOX, Key="ranged", Body=content)
    wanted = [(i * 104_729 % 1_000_000, i * 104_729 % 1_000_000 + i) for i in range(40)]
    got = server.good("ranges", f"s3://{BOX}/ranged", *(f"{a}-{b}" for a, b in wanted))
    assert got == b"".join(content[a:b] for a, b in wanted)
    server.bad("Truncated", "ranges", f"s3://{BOX}/ranged", "1048570-1048577")


def conditions(server):
    url = f"s3://{BOX}/once"
    for length in 10, 2 * PART:
        first, second = data(length, 2), data(length, 3)
        server.good("put", url, "overwrite", input=first)
        server.bad("AlreadyExists", "put", url, input=second)
        # It appears while another is written.
        S3.delete_object(Bucket=BOX, Key="once")
        process = server.start("put", url)
        process.stdin.write(second[: length // 2])
        process.stdin.flush()
        wait_for(lambda: length < PART or uploads())
        time.sleep(0.5)
        S3.put_object(Bucket=BOX, Key="once", Body=first)
        _, err = process.communicate(second[length // 2 :], timeout=LONGEST)
        assert process.returncode == 1 and err.startswith(b"AlreadyExists("), err
        assert stored("once") == first
        server.good("put", url, "overwrite", input=second)
        assert stored("once") == second
    assert not uploads(), "an upload that was refused is left"


def race(server):
    """Another object appears after the last look, so that only the store's own condition keeps it."""
    def appear(method, path):
        if method == "POST" and "uploadId=" in path:
            S3.put_object(Bucket=BOX, Key="race", Body=b"another's")
    with proxy(server.port, appear) as spoiled:
        spoiled.bad("AlreadyExists", "put", f"s3://{BOX}/race", input=data(2 * PART, 4))
    assert stored("race") == b"another's" and not uploads()


def lost_answers(server):
    """The store did what it was asked for, and its answer is lost: what is asked again is not refused."""
    def lose():
        lost = []
        def fault(method, path):
            last = method == "POST" and "uploadId=" in path or method == "PUT" and "partNumber" not in path
            if last and len(lost) < 2:
                lost.append(path)
                return "lost"
        return fault, lost
    for name, length in ("small", 10), ("large", 2 * PART):
        content, (fault, lost) = data(length, 5), lose()
        with proxy(server.port, fault) as spoiled:
            spoiled.good("put", f"s3://{BOX}/lost-{name}", input=content)
        assert len(lost) >= 1 and stored(f"lost-{name}") == content


def replaced(server):
    first = data(1 << 20, 7)
    for again in data(1 << 20, 6), data(1000, 6):
        S3.put_object(Bucket=BOX, Key="pinned", Body=first)
        process = server.start("pinned", f"s3://{BOX}/pinned")
        assert process.stdout.read(1) == first[:1]
        S3.put_object(Bucket=BOX, Key="pinned", Body=again)
        out, err = process.communicate(b"\n", timeout=LONGEST)
        assert process.returncode == 1 and out == b"" and err.startswith(b"InvalidInput("), (out, err)


def killed(server):
    process = server.start("put", f"s3://{BOX}/killed")
    process.stdin.write(data(4 * PART, 8))
    process.stdin.flush()
    wait_for(lambda: uploads() and parts(uploads()[0]) >= 2)
    process.kill()
    process.wait()
    assert "killed" not in keys() and len(uploads()) == 1
    try:
        S3.head_object(Bucket=BOX, Key="killed")
        raise SystemExit("an object is there whose upload was killed")
    except ClientError as e:
        assert e.response["ResponseMetadata"]["HTTPStatusCode"] == 404
    server.good("put", f"s3://{BOX}/killed", input=b"again")
    S3.abort_multipart_upload(Bucket=BOX, Key="killed", UploadId=uploads()[0]["UploadId"])
    # One that is given up leaves nothing, parts included.
    server.good("put", f"s3://{BOX}/abandoned", "abandon", input=data(3 * PART, 9))
    assert "abandoned" not in keys() and not uploads()


def parts(upload):
    return len(S3.list_parts(Bucket=BOX, Key=upload["Key"], UploadId=upload["UploadId"]).get("Parts", []))


def wait_for(condition):
    end = time.time() + 60
    while not condition():
        assert time.time() < end, "it does not happen"
        time.sleep(0.05)


def folders(server):
    made = {f"folder/{i % 7}/{i:04}": data(i % 50, i) for i in range(1100)}  # two pages
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda item: S3.put_object(Bucket=BOX, Key=item[0], Body=item[1]), made.items()))
    S3.put_object(Bucket=BOX, Key="folder/", Body=b"")  # as consoles mark a folder
    S3.put_object(Bucket=BOX, Key="folder-2/x", Body=b"")
    lines = server.good("list", f"s3://{BOX}/folder").decode().splitlines()
    assert lines == [f"{len(content)} {key}" for key, content in sorted(made.items())], lines[:3]
    some = b"".join(content for key, content in sorted(made.items()) if key.startswith("folder/3/"))
    assert server.good("all", f"s3://{BOX}/folder/3") == some
    assert server.good("list", f"s3://{BOX}/nothing") == b""


def refusals(server):
    server.bad("NotFound", "get", f"s3://{BOX}/missing")
    missing = "s3://no-such-bucket/x"
    server.bad("NotFound", "get", missing)
    assert "NoSuchBucket" in server.bad("NotFound", "list", missing)
    server.bad("NotFound", "put", missing, input=b"x")
    server.bad("NotFound", "put", missing, input=data(2 * PART, 10))
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nobody = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{closed.getsockname()[1]}"}
        started = time.time()
        server.bad("Unavailable", "get", f"s3://{BOX}/x", **nobody)
        assert time.time() - started < 60
    err = server.bad("InvalidArgument", "get", f"s3://{BOX}/x", AWS_ENDPOINT_URL="http://192.0.2.1:9")
    assert "plain HTTP" in err, err
    server.bad("InvalidArgument", "get", f"s3://{BOX}/x", AWS_ENDPOINT_URL="no address")
    server.bad("InvalidArgument", "get", f"s3://{BOX}/x", AWS_SECRET_ACCESS_KEY="s3cret-of-tests\n")


def credentials(server):
    """From here on, the emulator looks at signatures."""
    iam = boto3.client("iam", **CLIENT)
    iam.create_user(UserName="me")
    allowed = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
    iam.put_user_policy(UserName="me", PolicyName="all", PolicyDocument=json.dumps(allowed))
    key = iam.create_access_key(UserName="me")["AccessKey"]
    iam.create_user(UserName="nobody")
    other = iam.create_access_key(UserName="nobody")["AccessKey"]
    S3.put_object(Bucket=BOX, Key="guarded", Body=b"guarded")
    plain = {"Content-Type": "text/plain"}
    urllib.request.urlopen(urllib.request.Request(server.url + "/moto-api/reset-auth", b"0", plain, method="POST")).close()
    variables = lambda key: dict(zip(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), (key["AccessKeyId"], key["SecretAccessKey"])))
    url = f"s3://{BOX}/guarded"
    assert server.good("get", url, **variables(key)) == b"guarded"
    # From the files of Amazon's tools, where the environment has none.
    with tempfile.TemporaryDirectory() as home:
        os.mkdir(f"{home}/.aws")
        with open(f"{home}/.aws/credentials", "w") as file:
            file.write("[mine]\n" + "".join(f"{k.lower()} = {v}\n" for k, v in variables(key).items()))
        named = {"AWS_PROFILE": "mine", "HOME": home}
        assert server.good("get", url, without="AWS_ACCESS_KEY_ID", **named) == b"guarded"
        server.bad("NotFound", "get", url, without="AWS_ACCESS_KEY_ID", **named | {"AWS_PROFILE": "other"})
    server.good("put", url, "overwrite", input=data(2 * PART, 11), **variables(key))
    for wrong in variables(other), variables(key | {"SecretAccessKey": "wr0ng"}), variables(key | {"AccessKeyId": "AKIANOBODY"}):
        for command in ("get", url), ("list", f"s3://{BOX}"), ("put", f"s3://{BOX}/refused", "overwrite"):
            server.bad("AccessDenied", *command, input=b"x", **wrong)


def faults(server):
    """One request in ten goes wrong; each round ends bit for bit, or with an error that says so."""
    chance, spoiled = random.Random(12), []
    def fault(_, path):
        if chance.random() < 0.1:
            spoiled.append((chance.choice(["busy", "deaf", "lost", "cut"]), path.partition("?")[2]))
            return spoiled[-1][0]
    def rounds(seed):
        content, url = data(seed % 3 * PART + 12345, seed), f"s3://{BOX}/fault-{seed}"
        code, _, err = fragile.run("put", url, input=content)
        if code:
            assert err.startswith("Unavailable("), err
            return False
        assert hashlib.sha256(stored(f"fault-{seed}")).digest() == hashlib.sha256(content).digest()
        code, out, err = fragile.run("get", url)
        assert out == content if code == 0 else err.startswith("Unavailable("), err
        return code == 0
    with proxy(server.port, fault) as fragile, concurrent.futures.ThreadPoolExecutor(4) as pool:
        good = sum(pool.map(rounds, range(100)))
    assert good >= 95 and len(spoiled) > 50, (good, len(spoiled))
    # Of an upload that begins and whose answer is lost, nobody knows the name.
    unknown = sum(how in ("lost", "cut") and query.startswith("uploads") for how, query in spoiled)
    assert len(uploads()) <= unknown and not any(map(parts, uploads())), "an upload is left"
    return f"{good} of 100 rounds, {len(spoiled)} answers spoiled"


def main():
    global OBJECTS, S3, CLIENT
    OBJECTS = sys.argv[1]
    emulator = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    emulator.start()
    try:
        server = Server(emulator.get_host_and_port()[1])
        CLIENT = dict(endpoint_url=server.url, region_name="us-east-1", aws_access_key_id="key-of-tests",
            aws_secret_access_key="s3cret-of-tests", config=Config(proxies={}))
        S3 = boto3.client("s3", **CLIENT)
        S3.create_bucket(Bucket=BOX)
        for check in put_and_get, memory, ranges, conditions, race, lost_answers, replaced, killed, folders, refusals, faults, credentials:
            started = time.time()
            said = check(server)
            print(f"{check.__name__.replace('_', ' ')}: good, {time.time() - started:.1f} s{said and ': ' + said or ''}", flush=True)
    finally:
        emulator.stop()
    print("objects: as they should be, against an emulator of S3")


if __name__ == "__main__":
    import logging
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    main()
