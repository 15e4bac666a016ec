#!/usr/bin/env python3
"""The command with names of objects (`s3://`), against an emulator of S3 (moto), which is not S3 itself.

    check_s3_command.py SPARSE PAIR

SPARSE is the command, built with the feature `object-store`; PAIR a folder with the models `base` and `finetuned`.
Needs moto[server] and boto3. `./check objects` calls it.
"""
import json, os, pathlib, signal, subprocess, sys, tempfile, time
import boto3
from moto.server import ThreadedMotoServer

BOX = "box-of-tests"
SECRET = "s3cret-of-tests"
LONGEST = 120  # seconds that one command may take


def main():
    sparse, pair = sys.argv[1], pathlib.Path(sys.argv[2])
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        with tempfile.TemporaryDirectory() as folder:
            Check(sparse, pair, f"http://{host}:{port}", pathlib.Path(folder)).all()
    finally:
        server.stop()


class Check:
    def __init__(self, sparse, pair, url, folder):
        self.sparse, self.pair, self.folder = sparse, pair, folder
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "HF_"))}
        keys = {"AWS_ACCESS_KEY_ID": "key-of-tests", "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_REGION": "us-east-1"}
        self.env = kept | keys | {"AWS_ENDPOINT_URL": url, "HF_HUB_OFFLINE": "1", "TMPDIR": str(folder / "tmp")}
        (folder / "tmp").mkdir()
        names = {"aws_access_key_id": "key-of-tests", "aws_secret_access_key": SECRET, "region_name": "us-east-1"}
        self.s3 = boto3.client("s3", endpoint_url=url, **names)
        self.s3.create_bucket(Bucket=BOX)

    def run(self, *args, code=0):
        done = subprocess.run([self.sparse, *map(str, args), "--json"], env=self.env, capture_output=True, timeout=LONGEST)
        text = (done.stdout + done.stderr).decode()
        assert SECRET not in text, f"the secret is shown: {text}"
        assert done.returncode == code, f"{args}: exit code {done.returncode}, not {code}: {text}"
        return json.loads(done.stdout)

    def keys(self):
        return sorted(o["Key"] for o in self.s3.list_objects_v2(Bucket=BOX).get("Contents", []))

    def all(self):
        base, tuned, out = self.pair / "base", self.pair / "finetuned", self.folder / "out"
        delta, remote_base = f"s3://{BOX}/deltas/mine.sparse", f"s3://{BOX}/models/base"
        for file in sorted(base.rglob("*")):
            if file.is_file():
                self.s3.upload_file(str(file), BOX, f"models/base/{file.relative_to(base)}")

        made = self.run("compress", base, tuned, "-o", delta)
        assert made["output"] == delta
        local = self.folder / "local.sparse"
        self.run("compress", base, tuned, "-o", local)
        stored = self.s3.get_object(Bucket=BOX, Key="deltas/mine.sparse")["Body"].read()
        assert stored == local.read_bytes(), "the object is the delta"
        refused = self.run("compress", base, tuned, "-o", delta, code=6)
        assert delta in refused["error"]["message"], refused
        self.run("compress", base, tuned, "-o", delta, "--force")

        self.run("info", delta)
        self.run("verify", remote_base, delta)
        self.run("reconstruct", remote_base, delta, "-o", out)
        files = lambda root: {p.relative_to(root): p.read_bytes() for p in root.rglob("*") if p.is_file()}
        assert files(out) == files(tuned), "what comes back is the model"
        self.run("compress", remote_base, tuned, "-o", self.folder / "again.sparse")

        pushed = f"s3://{BOX}/pushed.sparse"
        told = self.run("push", local, pushed)
        assert (told["destination"], told["card"], told["changed"]) == (pushed, "none", True), told
        assert self.s3.get_object(Bucket=BOX, Key="pushed.sparse")["Body"].read() == local.read_bytes()
        self.run("push", local, pushed, code=6)
        self.run("push", local, pushed, "--force")

        before = self.keys()
        refused = self.run("reconstruct", base, delta, "-o", f"s3://{BOX}/restored", code=2)
        assert "folder" in refused["error"]["message"], refused
        self.run("info", f"s3://{BOX}/deltas/none.sparse", code=1)
        self.run("info", "s3://bucket-that-is-not-there/x.sparse", code=1)
        for force in [], ["--force"]:
            refused = self.run("compress", base, tuned, "-o", "s3://bucket-that-is-not-there/x.sparse", *force, code=1)
            assert "no such bucket" in refused["error"]["message"], refused
        self.killed(base, tuned)
        assert self.keys() == before, "nothing else is visible"
        assert not any((self.folder / "tmp").iterdir()), "nothing is left in the folder for temporary files"
        print("the command and an emulator of S3: written, read by ranges, refused, killed: all right")

    def killed(self, base, tuned):
        """Kills the command at several moments: no object of that name may appear, unless it is whole."""
        for wait in (0.02, 0.1, 0.2, 0.3):
            command = [self.sparse, "compress", base, tuned, "-o", f"s3://{BOX}/killed.sparse"]
            process = subprocess.Popen(list(map(str, command)), env=self.env, stdout=subprocess.DEVNULL)
            time.sleep(wait)
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=LONGEST)
            if "killed.sparse" in self.keys():
                self.run("verify", base, f"s3://{BOX}/killed.sparse")
                self.s3.delete_object(Bucket=BOX, Key="killed.sparse")


main()
