"""Write the small data sets that `crates/sparse-dataset/tests/fixtures` holds, as other programs write them.

    pip install pyarrow polars datasets
    python scripts/make_dataset_fixtures.py

Each has a base and a derivative: rows removed, moved, appended, and cells edited.
"""

import datetime
import decimal
import json
import pathlib
import random
import shutil

import datasets
import numpy
import polars
import pyarrow
import pyarrow.ipc
import pyarrow.parquet

OUT = pathlib.Path(__file__).parent.parent / "crates/sparse-dataset/tests/fixtures"
ROWS = 20


def change(rows):
    """The derivative of a list of rows."""
    rows = [dict(r) for r in rows]
    rows = rows[3:13] + rows[:2] + rows[15:]
    for i in (3, 7, 14):
        for key, value in rows[i].items():
            if isinstance(value, str):
                rows[i][key] = value.replace("a", "o") + "!"
    rows[10] = {k: (v if k == "id" else None) for k, v in rows[10].items()}
    return rows + [dict(rows[2], id=1000), dict(rows[4], id=1001)]


def values(i):
    rng = random.Random(i)
    words = "a small lamp stands by the quiet river under seven stars".split()
    return {
        "id": i,
        "text": " ".join(rng.choices(words, k=8)) + (" é ß 漢" if i % 9 == 0 else ""),
        "kind": ("alpha", "beta", "gamma")[i % 3],
        "flag": i % 4 == 0,
        "small": i % 100 - 50,
        "float": float("nan") if i % 13 == 0 else i / 7,
        "day": datetime.date(2020, 1, 1) + datetime.timedelta(days=i),
        "time": datetime.datetime(2021, 5, 4, 3, 2, 1, 123456) + datetime.timedelta(hours=i),
        "money": decimal.Decimal(i * 101) / 100,
        "bytes": bytes([i % 256, 0, 255]),
        "list": None if i % 10 == 5 else [None if k == 2 else k * i for k in range(i % 5)],
        "struct": {"x": i, "y": [f"n{i}", None]},
        "map": [(f"k{k}", k) for k in range(i % 3)],
        "nothing": None,
    }


TYPES = pyarrow.schema(
    [
        pyarrow.field("id", pyarrow.int64(), nullable=False),
        ("text", pyarrow.string()),
        ("kind", pyarrow.dictionary(pyarrow.int8(), pyarrow.string())),
        ("flag", pyarrow.bool_()),
        ("small", pyarrow.int8()),
        ("float", pyarrow.float64()),
        ("day", pyarrow.date32()),
        ("time", pyarrow.timestamp("us", "Europe/Berlin")),
        ("money", pyarrow.decimal128(12, 2)),
        ("bytes", pyarrow.binary()),
        ("list", pyarrow.list_(pyarrow.int32())),
        ("struct", pyarrow.struct([("x", pyarrow.uint16()), ("y", pyarrow.large_list(pyarrow.large_string()))])),
        ("map", pyarrow.map_(pyarrow.string(), pyarrow.int16())),
        ("nothing", pyarrow.null()),
    ],
    metadata={"made_by": "pyarrow"},
)


def with_views(table):
    """Types that Parquet has not."""
    views = pyarrow.array(table["text"].to_pylist(), pyarrow.string_view())
    half = pyarrow.array([None if v is None else numpy.float16(v) for v in table["small"].to_pylist()], pyarrow.float16())
    span = pyarrow.array([None if v is None else v * 1000 for v in table["small"].to_pylist()], pyarrow.duration("ms"))
    lists = pyarrow.array(table["list"].to_pylist(), pyarrow.list_view(pyarrow.int32()))
    runs = pyarrow.RunEndEncodedArray.from_arrays(
        pyarrow.array([len(table) // 2, len(table)], pyarrow.int32()), pyarrow.array(["first", "second"])
    )
    for name, column in (("views", views), ("half", half), ("span", span), ("lists", lists), ("runs", runs)):
        table = table.append_column(name, column)
    return table


def write_pyarrow(name, rows):
    table = pyarrow.Table.from_pylist(rows, TYPES)
    write = pyarrow.parquet.write_table
    write(table, OUT / f"pyarrow-v1-{name}.parquet", compression="snappy")
    write(
        table.drop_columns(["nothing"]),
        OUT / f"pyarrow-v2-{name}.parquet",
        compression="zstd",
        data_page_version="2.0",
        use_dictionary=["kind"],
        column_encoding={
            "id": "DELTA_BINARY_PACKED",
            "text": "DELTA_BYTE_ARRAY",
            "float": "BYTE_STREAM_SPLIT",
            "bytes": "DELTA_LENGTH_BYTE_ARRAY",
        },
        row_group_size=10,
    )
    full = with_views(table)
    with pyarrow.ipc.new_file(str(OUT / f"pyarrow-{name}.arrow"), full.schema) as out:
        out.write_table(full, max_chunksize=100)
    plain = table.drop_columns(["map"])
    options = pyarrow.ipc.IpcWriteOptions(compression="lz4")
    with pyarrow.ipc.new_stream(str(OUT / f"pyarrow-stream-{name}.arrow"), plain.schema, options=options) as out:
        out.write_table(plain, max_chunksize=10)


def write_polars(name, rows):
    keys = ("id", "text", "kind", "flag", "small", "float", "day", "time", "list", "struct", "bytes")
    frame = polars.DataFrame([{k: r[k] for k in keys} for r in rows], infer_schema_length=None)
    frame = frame.with_columns(polars.col("kind").cast(polars.Categorical), polars.col("small").cast(polars.Int8))
    frame.write_parquet(OUT / f"polars-{name}.parquet")
    frame.write_ipc(OUT / f"polars-{name}.arrow")
    flat = frame.select("id", "text", "kind", "flag", "small", "float", "day")
    flat.write_csv(OUT / f"polars-{name}.csv")
    flat.drop("day").write_ndjson(OUT / f"polars-{name}.jsonl")


def write_python(name, rows):
    with open(OUT / f"python-{name}.jsonl", "w") as out:
        for r in rows:
            keys = ("id", "text", "kind", "flag", "small", "list", "struct")
            out.write(json.dumps({k: r[k] for k in keys}) + "\n")


def write_datasets(name, rows):
    features = datasets.Features(
        {
            "id": datasets.Value("int64"),
            "text": datasets.Value("string"),
            "label": datasets.ClassLabel(names=["alpha", "beta", "gamma"]),
            "tokens": datasets.List(datasets.Value("int32")),
            "answers": {"text": datasets.List(datasets.Value("string")), "start": datasets.Value("int32")},
            "matrix": datasets.Array2D((2, 2), "float32"),
            "day": datasets.Value("date32"),
            "blob": datasets.Value("binary"),
        }
    )

    def record(r):
        start = r["small"]
        return {
            "id": r["id"],
            "text": r["text"],
            "label": r["id"] % 3,
            "tokens": r["list"],
            "answers": {"text": [r["text"] or "none"], "start": start},
            "matrix": [[1.0, r["id"]], [start or 0, 2.5]],
            "day": r["day"],
            "blob": r["bytes"],
        }

    def dataset(rows):
        return datasets.Dataset.from_list([record(r) for r in rows], features=features)

    full = datasets.DatasetDict({"train": dataset(rows[:13]), "test": dataset(rows[13:])})
    folder = OUT / f"datasets-{name}"
    full.save_to_disk(str(folder), num_shards={"train": 2, "test": 1})
    full["train"].to_parquet(str(OUT / f"datasets-{name}.parquet"))


def main():
    datasets.disable_progress_bars()
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    base = [values(i) for i in range(ROWS)]
    for name, rows in (("base", base), ("derivative", change(base))):
        write_pyarrow(name, rows)
        write_polars(name, rows)
        write_python(name, rows)
        write_datasets(name, rows)


if __name__ == "__main__":
    main()
