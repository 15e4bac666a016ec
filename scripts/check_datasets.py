#!/usr/bin/env python3
"""Datasets come back as an independent reader sees them: pyarrow, with metadata, and Python's own json and csv.

    check_datasets.py SPARSE

Tables of every type and metadata, JSON Lines and CSV are written, compressed against a base, verified, restored and
compared. Needs pyarrow. `./check datasets` calls it.
"""
import csv, datetime, decimal, json, pathlib, subprocess, sys, tempfile
import pyarrow as pa, pyarrow.ipc as ipc, pyarrow.parquet as pq

ROWS = 60


def sparse(*args):
    run = subprocess.run([SPARSE, *map(str, args)], capture_output=True, text=True)
    if run.returncode:
        raise SystemExit(f"sparse {' '.join(map(str, args))}: exit {run.returncode}, {run.stderr.strip()}")
    return run.stdout + run.stderr


def restored(work, base, derivative, *options):
    """Compresses, verifies and restores; where the result is."""
    delta, out = work / "delta.sparse", work / ("out" + derivative.suffix)
    sparse("dataset-compress", base, derivative, "-o", delta, "-f", *options)
    sparse("verify", base, delta)
    sparse("dataset-reconstruct", delta, "--base", base, "-o", out, "-f")
    return out


def columns():
    """A column of each type, each with nulls."""
    some = lambda make: [None if i % 7 == 3 else make(i) for i in range(ROWS)]
    day, moment = datetime.date(2024, 2, 29), datetime.datetime(2024, 2, 29, 12, 30, 15, 123456)
    yield "bool", pa.array(some(lambda i: i % 2 == 0))
    for t in (pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()):
        yield str(t), pa.array(some(lambda i: i), t)
    for t in (pa.float32(), pa.float64()):
        yield str(t), pa.array(some(lambda i: i / 7), t)
    yield "huge", pa.array(some(lambda i: 2**64 - 1 - i), pa.uint64())
    yield "string", pa.array(some(lambda i: f"caf\u00e9 {i}"))
    yield "large_string", pa.array(some(str), pa.large_string())
    yield "binary", pa.array(some(lambda i: bytes([i, 0, 255])))
    yield "fixed", pa.array(some(lambda i: bytes([i] * 4)), pa.binary(4))
    yield "date32", pa.array(some(lambda i: day + datetime.timedelta(i)))
    yield "date64", pa.array(some(lambda i: day + datetime.timedelta(i)), pa.date64())
    for unit in ("ms", "us", "ns"):
        yield f"time_{unit}", pa.array(some(lambda i: i * 1000), pa.int64() if unit != "ms" else pa.int32()).cast(
            pa.time32(unit) if unit == "ms" else pa.time64(unit)
        )
        yield f"plain_{unit}", pa.array(some(lambda i: moment + datetime.timedelta(i)), pa.timestamp(unit))
        for zone in ("UTC", "Europe/Paris", "+05:30"):
            yield f"{zone}_{unit}", pa.array(some(lambda i: moment + datetime.timedelta(i)), pa.timestamp(unit, zone))
        yield f"duration_{unit}", pa.array(some(lambda i: i), pa.duration(unit))
    for digits, scale in ((7, 2), (18, 4), (38, 10)):
        yield f"decimal_{digits}", pa.array(some(lambda i: decimal.Decimal(i).scaleb(-2)), pa.decimal128(digits, scale))
    yield "decimal256", pa.array(some(lambda i: decimal.Decimal(i)), pa.decimal256(60, 3))
    yield "list", pa.array(some(lambda i: list(range(i % 3))), pa.list_(pa.int32()))
    yield "large_list", pa.array(some(lambda i: ["x"] * (i % 3)), pa.large_list(pa.string()))
    yield "three", pa.array(some(lambda i: [i, None, 2.5]), pa.list_(pa.float32(), 3))
    yield "struct", pa.array(some(lambda i: {"b": i, "a": [str(i)]}), pa.struct([("b", pa.int64()), ("a", pa.list_(pa.string()))]))
    yield "map", pa.array(some(lambda i: [("k", i)]), pa.map_(pa.string(), pa.int32()))
    yield "words", pa.array(some(lambda i: ["a", "b"][i % 2])).dictionary_encode()
    yield "null", pa.nulls(ROWS)


def table():
    fields, arrays = [], []
    for name, array in columns():
        fields.append(pa.field(name, array.type, metadata={"of": name}))
        arrays.append(array)
    inner = pa.field("inner", pa.int32(), metadata={"deep": "yes"})
    fields.append(pa.field("nested", pa.struct([inner]), nullable=False))
    arrays.append(pa.StructArray.from_arrays([pa.array(range(ROWS), pa.int32())], fields=[inner]))
    meta = {"huggingface": json.dumps({"info": {"features": {}}}), "pandas": "{}", "own": "caf\u00e9"}
    return pa.table(arrays, schema=pa.schema(fields, metadata=meta))


def same(want, got, what):
    if not got.schema.equals(want.schema, check_metadata=True):
        raise SystemExit(f"{what}: another schema:\n{got.schema.to_string(show_field_metadata=True)}\ninstead of\n{want.schema.to_string(show_field_metadata=True)}")
    # How a dictionary numbers its values is not compared.
    plain = lambda c: c.cast(c.type.value_type) if pa.types.is_dictionary(c.type) else c
    names = [n for n in want.column_names if not plain(got[n]).equals(plain(want[n]))]
    if names:
        raise SystemExit(f"{what}: other values in {names}")


def write_file(t, path):
    with ipc.new_file(path, t.schema) as w:
        w.write_table(t)


def write_stream(t, path):
    with ipc.new_stream(path, t.schema) as w:
        w.write_table(t)


FORMATS = {
    "parquet": (lambda t, p: pq.write_table(t, p), lambda p: pq.read_table(p, partitioning=None)),
    "parquet without Arrow": (lambda t, p: pq.write_table(t, p, store_schema=False), lambda p: pq.read_table(p, partitioning=None)),
    "Arrow file": (write_file, lambda p: ipc.open_file(p).read_all()),
    "Arrow stream": (write_stream, lambda p: ipc.open_stream(p).read_all()),
}


def check_types(work):
    whole = table()
    for name, (write, read) in FORMATS.items():
        suffix = "parquet" if name.startswith("parquet") else "arrow"
        t = whole
        if name == "parquet without Arrow":
            # What only the Arrow schema tells.
            t = t.drop_columns([c for c in t.column_names if c.startswith("duration")])
        base, derivative = work / f"base.{suffix}", work / f"derivative.{suffix}"
        write(t, base)
        for label, d in (("rows dropped", t.slice(5, 40)), ("no rows", t.slice(0, 0)), ("metadata gone", t.replace_schema_metadata())):
            write(d, derivative)
            out = restored(work, base, derivative)
            same(read(derivative), read(out), f"{name}, {label}")
            if suffix == "parquet":
                want, got = pq.read_metadata(derivative).metadata or {}, pq.read_metadata(out).metadata or {}
                strip = lambda m: {k: v for k, v in m.items() if k != b"ARROW:schema"}
                assert strip(want) == strip(got) and (b"ARROW:schema" in want) == (b"ARROW:schema" in got), (name, label)


def check_shards(work):
    base, derivative = work / "b", work / "d"
    t = pa.table({"id": range(90), "text": [f"row {i}" for i in range(90)], "label": [i % 3 for i in range(90)]})
    for folder, order in ((base, ["id", "text", "label"]), (derivative, ["text", "label", "id"])):
        folder.mkdir()
        pq.write_table(t.slice(0, 40), folder / "train-0.parquet")
        pq.write_table(t.slice(40).select(order).replace_schema_metadata({"shard": "1"}), folder / "train-1.parquet")
        (folder / "README.md").write_text(f"# {folder.name}\n")
    out = restored(work, base, derivative)
    for f in derivative.glob("*.parquet"):
        same(pq.read_table(f), pq.read_table(out / f.name), f.name)
    assert (out / "README.md").read_bytes() == (derivative / "README.md").read_bytes()


LINES = [
    '{"z": 1, "a": "x", "n": 9007199254740993, "u": 18446744073709551615, "m": 1, "o": {"k": [1, "x", null]}, "e": null}',
    '{"z": 2.5, "a": "caf\\u00e9", "n": -5, "u": 0, "m": "1", "o": {}, "e": 1}',
    '{"z": -0.0, "n": 0, "u": 1, "m": [true], "big": 123456789012345678901234567890, "o": null}',
    '{"z": 1e300, "a": null, "n": 1, "u": 9223372036854775808, "m": {"q": "\\ud800"}}',
]


def check_json(work):
    base, derivative = work / "base.jsonl", work / "derivative.jsonl"
    exact = lambda p: [json.loads(l, object_pairs_hook=list) for l in p.read_text("utf-8-sig").splitlines()]
    base.write_text("\n".join(LINES[:2]) + "\n")
    for lines in (LINES, LINES[:1], LINES[2:], ["\ufeff" + LINES[0]], ['{"a": 1, "b": 9007199254740993}', '{"a": 2, "b": 0.5}']):
        derivative.write_text("\n".join(lines) + "\n", encoding="utf-8")
        want, got = exact(derivative), exact(restored(work, base, derivative))
        assert repr(want) == repr(got) or want == got, (want, got)
        out = restored(work, base, derivative, "--exact")
        assert out.read_bytes() == derivative.read_bytes()


def check_csv(work):
    base, derivative = work / "base.csv", work / "derivative.csv"
    base.write_text('id,"te,xt"\n1,"a ""quote"""\n2,\n')
    for text in ('id,"te,xt"\n', 'id,"te,xt"\n1,"a\nb"\n007,x\n', "x\n1\n2\n"):
        derivative.write_text(text)
        read = lambda p: list(csv.reader(p.open(newline="")))
        assert read(derivative) == read(restored(work, base, derivative)), text


SPARSE = sys.argv[1]
for check in (check_types, check_shards, check_json, check_csv):
    with tempfile.TemporaryDirectory() as folder:
        check(pathlib.Path(folder))
    print(f"ok {check.__name__}")
