//! Manifests that lie: each is refused when it is read, and none of them can be written.

use super::*;
use crate::exact::Style;
use crate::plan::{ColumnPlan, Source};
use arrow_schema::{DataType, Field, TimeUnit};

const INT: Kind = Kind::Int { width: 8, signed: true };

fn split(name: &str, dtype: DataType) -> SplitRecord {
    let schema = Schema::new(vec![Field::new("c", dtype, true)]);
    let kinds = kinds_of(&schema).unwrap_or_else(|_| vec![Kind::Bytes]);
    let plan = Plan {
        kinds,
        base_kinds: [INT].into(),
        templates: Templates::default(),
        columns: vec![ColumnPlan::new(Source::None)],
        order: vec![0],
        bits: 12,
        prime_rows: 5,
        prime_stride: 2,
    };
    let file = |i: u32, rows| FileRows {
        path: format!("{name}/{i}.parquet"),
        format: Format::Parquet,
        rows,
    };
    SplitRecord {
        name: name.into(),
        schema: Arc::new(schema),
        plan,
        groups: vec![3, 4],
        files: vec![file(0, 2), file(1, 5)],
    }
}

fn honest() -> Manifest {
    let base = BaseRecord {
        rows: 10,
        columns: Digest([1; 16]),
        fingerprint: Digest([2; 16]),
        kinds: vec![INT],
    };
    let splits = vec![split("train", DataType::Int64), split("test", DataType::Utf8)];
    let details = StoredDetails::default();
    let (single, all_exact, old_json, exact) = (false, false, false, Vec::new());
    let (templates, recent) = (false, false);
    Manifest { base, splits, single, exact, all_exact, details, old_json, templates, recent }
}

/// Refused by a reader with this kind and sentence, and by a writer.
fn lie(change: impl FnOnce(&mut Manifest), kind: ErrorKind, says: &str) {
    let mut manifest = honest();
    change(&mut manifest);
    let bytes = manifest.encode().unwrap();
    let error = Manifest::read(&bytes, 1000).unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.message().contains(says), "{error}");
    let error = manifest.write().unwrap_err();
    assert!(error.message().contains(says), "{error}");
    assert_ne!(error.kind(), ErrorKind::Corrupt, "{error}");
}

fn corrupt(change: impl FnOnce(&mut Manifest), says: &str) {
    lie(change, ErrorKind::Corrupt, says);
}

#[test]
fn what_is_true_is_read() {
    let manifest = honest();
    let bytes = manifest.write().unwrap();
    assert_eq!(Manifest::read(&bytes, 4).unwrap(), manifest);
    // Each row group has an entry in the index.
    let error = Manifest::read(&bytes, 3).unwrap_err();
    assert!(error.message().contains("does not fit its row groups"), "{error}");
}

#[test]
fn types() {
    let field = |dtype| Arc::new(Field::new("f", dtype, true));
    let wide = DataType::FixedSizeList(field(DataType::Int8), i32::MAX);
    let squares = DataType::FixedSizeList(
        field(DataType::FixedSizeList(field(DataType::Int8), 30_000)),
        30_000,
    );
    let binary = DataType::Struct(vec![field(DataType::FixedSizeBinary(i32::MAX))].into());
    let deep =
        (0..70).fold(DataType::Int8, |t, _| DataType::List(Arc::new(Field::new("f", t, true))));
    for (dtype, says) in [
        (wide, "column \"c\": a null of type FixedSizeList"),
        (squares, "column \"c\": a null of type FixedSizeList"),
        (binary, "column \"c\": a null of type FixedSizeBinary"),
        (DataType::Decimal128(255, 5), "1 to 38 digits"),
        (DataType::Time64(TimeUnit::Second), "its unit does not fit"),
        (
            DataType::Map(field(DataType::Struct(vec![field(DataType::Utf8)].into())), false),
            "two fields",
        ),
        (DataType::RunEndEncoded(field(DataType::Utf8), field(DataType::Utf8)), "runs cannot end"),
        (deep, "nests too deeply"),
    ] {
        corrupt(|m| m.splits[0] = split("train", dtype), says);
    }
    let twice = Schema::new(vec![
        Field::new("c", DataType::Int8, true),
        Field::new("c", DataType::Int8, true),
    ]);
    corrupt(|m| m.splits[0].schema = Arc::new(twice), "two columns have the name \"c\"");
}

#[test]
fn numbers() {
    let plan = |m: &mut Manifest, rows, stride| {
        (m.splits[1].plan.prime_rows, m.splits[1].plan.prime_stride) = (rows, stride);
    };
    for (rows, stride) in
        [(1 << 63, 0), (2, 0), (1, 0), (11, 1), (6, 2), (2, u64::MAX), (u64::MAX, u64::MAX)]
    {
        corrupt(|m| plan(m, rows, stride), "models learn from");
    }
    corrupt(|m| m.splits[0].plan.bits = 99, "the size of its models");
    corrupt(|m| m.splits[0].groups = vec![0, 7], "has 0 rows");
    corrupt(
        |m| {
            m.splits[0].groups = vec![1 << 40];
            m.splits[0].files[1].rows = (1 << 40) - 2;
        },
        "has 1099511627776 rows",
    );
    corrupt(|m| m.splits[0].files[0].rows = 3, "do not add up");
    corrupt(|m| m.splits[0].files[0].rows = u64::MAX, "do not add up");
    for kind in [
        Kind::Int { width: 3, signed: true },
        Kind::Float { width: 2 },
        Kind::Int { width: 0, signed: false },
    ] {
        corrupt(|m| m.base.kinds[0] = kind, "a column of the base has numbers");
    }
}

#[test]
fn files() {
    corrupt(|m| m.splits[1].name = "train".into(), "two splits have the name \"train\"");
    corrupt(|m| m.splits[1].files[0].path = "train/0.parquet".into(), "is listed twice");
    corrupt(|m| m.splits[1].files[0].path = "train/0.parquet/x".into(), "is also the folder of");
    corrupt(|m| m.single = true, "a single file is recorded as 4 files");
    let exact = |path: &str, reference| {
        let path = path.to_owned();
        ExactFile { path, packed: None, reference, window: 16 }
    };
    corrupt(
        |m| m.exact = vec![exact("a", Reference::Nothing), exact("a/b", Reference::Nothing)],
        "is also the folder of",
    );
    corrupt(
        |m| m.exact = vec![exact("a", Reference::Written(Style::default()))],
        "against a file without rows",
    );
    lie(|m| m.splits[0].files[0].path = "../x".into(), ErrorKind::InvalidInput, "unsafe path");
}

/// A few bytes of a compressed index can ask for millions of things.
#[test]
fn counts() {
    let limited =
        |change: &dyn Fn(&mut Manifest), says: &str| lie(change, ErrorKind::LimitExceeded, says);
    limited(&|m| m.base.kinds = vec![INT; MAX_FIELDS + 1], "columns of the base");
    let fields = || (0..1 << 16).map(|i| Field::new(format!("{i:x}"), DataType::Null, true));
    limited(
        &|m| {
            for s in &mut m.splits {
                let inner = DataType::Struct(fields().collect());
                s.schema = Arc::new(Schema::new(vec![Field::new("c", inner, true)]));
            }
        },
        "fields of a dataset: 131074, limit 131072",
    );
    limited(
        &|m| m.splits = vec![m.splits[0].clone(); MAX_SPLITS + 1],
        "splits: 16385, limit 16384",
    );
    limited(
        &|m| m.splits[0].files = vec![m.splits[0].files[0].clone(); MAX_FILES + 1],
        "more than 1048576 files",
    );
}
