#!/usr/bin/env python3
"""Objects of `sparse-remote` against what Azure and Google document of their protocols.

    check_stores.py OBJECTS

OBJECTS is the program of `crates/sparse-remote/examples/objects.rs`. There is no emulator of these stores as a Python
package; the server below speaks as much of their protocols as is used here, and checks Azure's signatures. It is ours,
so that it shows that requests are as documented, and not that the stores take them. It listens on the loopback device
alone. Needs nothing but Python. `./check objects` calls it.
"""
import base64, hashlib, hmac, http.server, json, os, random, re, subprocess, sys, tempfile, threading, time
from urllib.parse import parse_qsl, unquote, urlsplit

PART = 5 << 20
BOX = "box"
KEY = base64.b64encode(b"key of tests").decode()
DATE = "Sun, 29 Nov 2026 12:00:00 GMT"


class Store(http.server.BaseHTTPRequestHandler):
    """A bucket: `objects` has (bytes, metadata) by key, `uploads` parts by upload and name, `log` the keys asked for."""

    protocol_version = "HTTP/1.1"
    objects, uploads, log = {}, {}, []

    def log_message(self, *_):
        pass

    def handle_any(self):
        url = urlsplit(self.path)
        self.query = dict(parse_qsl(url.query, keep_blank_values=True))
        self.key = unquote(url.path).partition(f"/{BOX}/")[2]
        self.body = self.rfile.read(int(self.headers.get("content-length") or 0))
        self.log.append(self.key)
        refusal = self.refusal()
        if refusal:
            return self.answer(refusal, f"<Error><Code>Refused</Code><StringToSign>{KEY}</StringToSign></Error>")
        if self.key:
            return self.object()
        self.answer(200, self.page(sorted(k for k in self.objects if k.startswith(self.query.get("prefix", "")))))

    def object(self):
        if self.command in ("GET", "HEAD"):
            return self.read()
        status, content = self.change()
        if status == 200 and content is not None:
            if self.key in self.objects and self.must_be_new():
                return self.answer(self.EXISTS, "<Error><Code>Exists</Code></Error>")
            meta = {k.lower(): v for k, v in self.headers.items() if k.lower().startswith(self.META)}
            self.objects[self.key] = content, self.uploads.pop(self.query.get("uploadId"), {}).get("meta", meta)
        self.answer(status, "" if content is None or isinstance(content, bytes) else content)

    def read(self):
        if self.key not in self.objects:
            return self.answer(404, "<Error><Code>NotThere</Code></Error>")
        content, meta = self.objects[self.key]
        if self.headers.get("if-match") not in (None, etag(content)):
            return self.answer(412, "")
        meta = meta | {"ETag": etag(content), "Last-Modified": DATE}
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("range") or "")
        if not found:
            return self.answer(200, content, meta)
        start, last = int(found[1]), min(int(found[2]), len(content) - 1)
        if start > last:
            return self.answer(416, "")
        self.answer(206, content[start : last + 1], meta | {"Content-Range": f"bytes {start}-{last}/{len(content)}"})

    def answer(self, status, body, headers={}):
        body = body.encode() if isinstance(body, str) else body
        self.send_response_only(status)
        for name, value in ({"ETag": etag(self.body)} | headers).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_any


def etag(content):
    return f'"0x{hashlib.md5(content).hexdigest().upper()}"'


class Azure(Store):
    META, EXISTS = "x-ms-meta-", 409
    objects, uploads, log, rival = {}, {}, [], None

    def refusal(self):
        """Whether the signature by the account's key is wrong, or that in the query is not there."""
        if "authorization" not in self.headers:
            return 0 if self.query.get("sig") == KEY else 403
        names = "content-encoding content-language content-length content-md5 content-type date if-modified-since " \
            "if-match if-none-match if-unmodified-since range"
        values = [self.headers.get(name) or "" for name in names.split()]
        values[2] = "" if values[2] == "0" else values[2]
        own = sorted(f"{k.lower()}:{v}\n" for k, v in self.headers.items() if k.lower().startswith("x-ms-"))
        query = "".join(f"\n{k.lower()}:{v}" for k, v in sorted(self.query.items()))
        text = "\n".join([self.command, *values, ""]) + "".join(own) + f"/account{urlsplit(self.path).path}{query}"
        sign = lambda key: base64.b64encode(hmac.digest(base64.b64decode(key), text.encode(), "sha256")).decode()
        return 0 if self.headers["authorization"] == f"SharedKey account:{sign(KEY)}" else 403

    def change(self):
        if self.query.get("comp") == "block":
            self.uploads.setdefault(self.key, {})[self.query["blockid"]] = self.body
            return 201, None
        if self.query.get("comp") == "blocklist":
            blocks = self.uploads.pop(self.key, {})
            if self.rival:
                self.objects[self.key] = self.rival
            return 200, b"".join(blocks[name] for name in re.findall(r"<Uncommitted>(.*?)<", self.body.decode()))
        assert self.headers["x-ms-blob-type"] == "BlockBlob"
        return 200, self.body

    def must_be_new(self):
        return self.headers.get("if-none-match") == "*"

    def page(self, keys):
        blob = lambda k, c: f"<Blob><Name>{k}</Name><Properties><Last-Modified>{DATE}</Last-Modified><Content-Length>" \
            f"{len(c)}</Content-Length><Content-Type>x</Content-Type><Etag>{etag(c)[1:-1]}</Etag></Properties></Blob>"
        blobs = "".join(blob(k, self.objects[k][0]) for k in keys)
        return f"<EnumerationResults><Blobs>{blobs}</Blobs><NextMarker/></EnumerationResults>"


class Google(Store):
    META, EXISTS = "x-goog-meta-", 412
    objects, uploads, log = {}, {}, []

    def refusal(self):
        condition = "x-goog-if-generation-match" in self.headers or "if-none-match" in self.headers
        return 400 if condition and {"uploads", "uploadId"} & set(self.query) else 0  # as documented: NotImplemented

    def change(self):
        upload = self.query.get("uploadId")
        if "uploads" in self.query:
            meta = {k.lower(): v for k, v in self.headers.items() if k.lower().startswith(self.META)}
            upload = str(len(self.log))
            self.uploads[upload] = {"meta": meta}
            return 201, f"<InitiateMultipartUploadResult><UploadId>{upload}</UploadId></InitiateMultipartUploadResult>"
        if upload and self.command == "DELETE":
            del self.uploads[upload]
            return 204, None
        if upload and self.command == "PUT":
            self.uploads[upload][int(self.query["partNumber"])] = self.body
            return 201, None
        if upload:
            numbers = [int(n) for n in re.findall(r"<PartNumber>(\d+)<", self.body.decode())]
            self.result = "<CompleteMultipartUploadResult><ETag>x</ETag></CompleteMultipartUploadResult>"
            return 200, b"".join(self.uploads[upload][n] for n in numbers)
        return 200, self.body

    def answer(self, status, body, headers={}):
        super().answer(status, self.__dict__.pop("result", body) if status == 200 else body, headers)

    def must_be_new(self):
        return self.headers.get("x-goog-if-generation-match") == "0"

    def page(self, keys):
        entry = lambda k, c: f"<Contents><Key>{k}</Key><Size>{len(c)}</Size><LastModified>2026-11-29T12:00:00.000Z" \
            f"</LastModified><ETag>{etag(c)}</ETag></Contents>"
        entries = "".join(entry(k, self.objects[k][0]) for k in keys)
        return f"<ListBucketResult>{entries}</ListBucketResult>"


def check(store, scheme, env, note):
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "AZURE_", "GOOGLE_"))}
    url = lambda key: f"{scheme}://{BOX}/{key}"

    def run(*args, input=b"", **more):
        done = subprocess.run([OBJECTS, *args], input=input, env=kept | env | more, capture_output=True, timeout=120)
        assert KEY.encode() not in done.stderr, "a key is shown"
        return done.returncode, done.stdout, done.stderr.decode()

    def good(*args, **more):
        code, out, err = run(*args, **more)
        assert code == 0, f"objects {' '.join(args)}: {err}"
        return out

    def bad(kind, *args, **more):
        code, _, err = run(*args, **more)
        assert code == 1 and err.startswith(f"{kind}({args[1]}: "), f"objects {' '.join(args)}: {code}, {err}"

    made = {}
    for length in 0, 10, PART, 2 * PART + 17:
        key = f"a folder/ü + 100%20 {length}"
        made[key] = random.Random(length).randbytes(length)
        good("put", url(key), input=made[key])
        assert store.objects[key][0] == made[key] and good("get", url(key)) == made[key], key
        assert any(name.endswith("sparseupload") for name in store.objects[key][1]), "metadata is missing"
        bad("AlreadyExists", "put", url(key), input=b"another")
        good("put", url(key), "overwrite", input=made[key])
    lines = good("list", url("a folder")).decode().splitlines()
    assert lines == [f"{len(made[k])} {k}" for k in sorted(made)], lines
    assert good("all", url("a folder")) == b"".join(made[k] for k in sorted(made))
    assert good("ranges", url(key), "5-9", "0-1") == made[key][5:9] + made[key][:1]
    bad("NotFound", "get", url("missing"))
    # Another object appears while one is written.
    for length in 10, 2 * PART:
        process = subprocess.Popen([OBJECTS, "put", url("late")], env=kept | env, stdin=-1, stdout=-1, stderr=-1)
        process.stdin.write(bytes(length))
        process.stdin.flush()
        end = time.time() + 60
        while "late" not in store.log:
            assert time.time() < end, "no request comes"
            time.sleep(0.01)
        store.objects["late"] = b"another's", {}
        _, err = process.communicate(timeout=120)
        assert process.returncode == 1 and err.startswith(b"AlreadyExists("), err
        assert store.objects.pop("late")[0] == b"another's"
        store.log.clear()
    assert scheme != "gs" or not store.uploads, "an upload is left"
    print(f"{scheme}, {note}: good", flush=True)
    return bad


def serve(store):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), store)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, f"http://127.0.0.1:{server.server_address[1]}"


def main():
    azure, url = serve(Azure)
    env = {"AZURE_STORAGE_ACCOUNT_NAME": "account", "AZURE_STORAGE_ENDPOINT": url}
    signed = {"AZURE_STORAGE_ACCOUNT_KEY": KEY}
    bad = check(Azure, "az", env | signed, "signed by the account's key")
    bad("AccessDenied", "get", f"az://{BOX}/x", AZURE_STORAGE_ACCOUNT_KEY=base64.b64encode(b"wrong").decode())
    Azure.objects.clear()
    bad = check(Azure, "az", env | {"AZURE_STORAGE_SAS_TOKEN": f"sv=1&sig={KEY}"}, "signed in the query")
    # It appears after the last look, so that only the condition keeps it.
    Azure.rival = b"another's", {}
    bad("AlreadyExists", "put", f"az://{BOX}/race", input=bytes(2 * PART))
    assert Azure.objects["race"] == Azure.rival
    azure.shutdown()
    google, url = serve(Google)
    with tempfile.TemporaryDirectory() as folder:
        account = {"gcs_base_url": url, "disable_oauth": True, "client_email": "", "private_key": "", "private_key_id": ""}
        with open(f"{folder}/account.json", "w") as file:
            json.dump(account, file)
        check(Google, "gs", {"GOOGLE_SERVICE_ACCOUNT": f"{folder}/account.json"}, "without signature")
    google.shutdown()
    print("objects of Azure and Google: requests are as documented")


if __name__ == "__main__":
    OBJECTS = sys.argv[1]
    main()
