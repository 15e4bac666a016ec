//! Buckets, sources and writers over a store in memory.

use super::{Bucket, ObjectWriter, WriteOptions};
use sparse_core::{ByteSource, CancelToken, Error, ErrorKind};
use std::io::Write;

const KIB: usize = 1 << 10;

fn bucket() -> Bucket {
    Bucket::in_memory("box").unwrap()
}

/// Bytes that tell where they come from.
fn pattern(len: usize, seed: u32) -> Vec<u8> {
    (0u32..).map(|i| (i.wrapping_mul(2_654_435_761) >> 16) as u8 ^ seed as u8).take(len).collect()
}

/// Options with small parts.
fn parts() -> WriteOptions {
    WriteOptions::new().part_bytes(KIB)
}

fn write(bucket: &Bucket, key: &str, bytes: &[u8], options: WriteOptions) -> Result<(), Error> {
    let mut object = bucket.write(key, options)?;
    object.write_all(bytes).unwrap();
    let info = object.commit()?;
    assert_eq!((info.key.as_str(), info.len), (key, bytes.len() as u64));
    Ok(())
}

fn read(bucket: &Bucket, key: &str) -> Vec<u8> {
    let info = bucket.head(key).unwrap();
    bucket.get_range(&info, 0..info.len).unwrap()
}

#[test]
fn objects_of_any_length_come_back() {
    let bucket = bucket();
    for len in [0, 1, KIB - 1, KIB, KIB + 1, 9 * KIB, 20 * KIB + 7] {
        let (key, bytes) = (format!("a/{len}"), pattern(len, 1));
        write(&bucket, &key, &bytes, parts()).unwrap();
        assert_eq!(read(&bucket, &key), bytes, "{len}");
    }
}

#[test]
fn small_writes_are_gathered() {
    let bucket = bucket();
    let bytes = pattern(5 * KIB + 3, 2);
    let mut object = bucket.write("x", parts()).unwrap();
    for piece in bytes.chunks(7) {
        object.write_all(piece).unwrap();
    }
    object.flush().unwrap();
    assert_eq!(object.written(), bytes.len() as u64);
    object.commit().unwrap();
    assert_eq!(read(&bucket, "x"), bytes);
}

#[test]
fn nothing_is_visible_before_the_end() {
    let bucket = bucket();
    for len in [10, 9 * KIB] {
        let mut object = bucket.write("x", parts()).unwrap();
        object.write_all(&pattern(len, 3)).unwrap();
        assert_eq!(bucket.head("x").unwrap_err().kind(), ErrorKind::NotFound);
        assert!(bucket.list("").unwrap().is_empty());
        drop(object);
        assert!(bucket.list("").unwrap().is_empty());
    }
}

#[test]
fn nothing_is_replaced_unless_allowed() {
    let bucket = bucket();
    write(&bucket, "x", b"first", parts()).unwrap();
    let e = bucket.write("x", parts()).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::AlreadyExists);
    assert!(e.to_string().starts_with("s3://box/x: "), "{e}");
    write(&bucket, "x", b"second", parts().overwrite(true)).unwrap();
    assert_eq!(read(&bucket, "x"), b"second");
}

#[test]
fn an_object_that_appears_meanwhile_stays() {
    let bucket = bucket();
    for len in [10, 9 * KIB] {
        let key = len.to_string();
        let mut object = bucket.write(&key, parts()).unwrap();
        object.write_all(&pattern(len, 4)).unwrap();
        write(&bucket, &key, b"another's", parts()).unwrap();
        assert_eq!(object.commit().unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(read(&bucket, &key), b"another's");
    }
}

#[test]
fn a_replaced_object_is_an_error_and_no_mixture() {
    let bucket = bucket();
    let old = pattern(9 << 20, 5);
    write(&bucket, "x", &old, WriteOptions::new()).unwrap();
    let info = bucket.head("x").unwrap();
    let source = bucket.source("x").unwrap();
    assert_eq!(*source.bytes_at(7, 100).unwrap(), old[7..107]);
    source.check_unchanged().unwrap();
    // Same length, so that the ETag alone tells.
    write(&bucket, "x", &pattern(9 << 20, 6), WriteOptions::new().overwrite(true)).unwrap();
    assert_eq!(bucket.get_range(&info, 0..10).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(source.bytes_at(8 << 20, 10).unwrap_err().kind(), ErrorKind::InvalidInput);
    let e = source.check_unchanged().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::InvalidInput);
    let text = "s3://box/x: the object was replaced while it was read: start again";
    assert_eq!(e.to_string(), text);
}

#[test]
fn ranges_come_in_their_order() {
    let bucket = bucket();
    let bytes = pattern(50_000, 7);
    write(&bucket, "x", &bytes, WriteOptions::new()).unwrap();
    let info = bucket.head("x").unwrap();
    let ranges: Vec<_> = (0..40u64).map(|i| (i * 997 % 40_000)..(i * 997 % 40_000 + i)).collect();
    let got = bucket.get_ranges(&info, &ranges).unwrap();
    for (range, got) in ranges.iter().zip(&got) {
        assert_eq!(got[..], bytes[range.start as usize..range.end as usize]);
    }
    for bad in [49_999..50_001, 50_001..50_001, u64::MAX - 1..u64::MAX] {
        assert_eq!(bucket.get_range(&info, bad).unwrap_err().kind(), ErrorKind::Truncated);
    }
    #[expect(clippy::reversed_empty_ranges, reason = "it must be refused")]
    let reversed = bucket.get_range(&info, 5..4);
    assert_eq!(reversed.unwrap_err().kind(), ErrorKind::Truncated);
    assert!(bucket.get_range(&info, 50_000..50_000).unwrap().is_empty());
}

#[test]
fn a_source_reads_like_a_file() {
    let bucket = bucket();
    let bytes = pattern(300_000, 8);
    write(&bucket, "a/x", &bytes, WriteOptions::new()).unwrap();
    let source = bucket.source("a/x").unwrap();
    assert_eq!((source.byte_len(), source.info().len), (300_000, 300_000));
    assert_eq!(source.name().to_string(), "s3://box/a/x");
    for (at, len) in [(0, 10), (10, 1000), (299_999, 1), (300_000, 0), (0, 300_000)] {
        assert_eq!(*source.bytes_at(at as u64, len).unwrap(), bytes[at..at + len]);
    }
    assert_eq!(source.bytes_at(299_999, 2).unwrap_err().kind(), ErrorKind::Truncated);
}

#[test]
fn lists_are_sorted_and_end_where_a_part_does() {
    let bucket = bucket();
    for key in ["f/b/2", "f/a", "f/b/10", "fx", "g/a"] {
        write(&bucket, key, key.as_bytes(), parts()).unwrap();
    }
    let keys = |prefix: &str| -> Vec<String> {
        bucket.list(prefix).unwrap().into_iter().map(|object| object.key).collect()
    };
    assert_eq!(keys("f"), ["f/a", "f/b/10", "f/b/2"]);
    assert_eq!(keys("").len(), 5);
    assert!(keys("h").is_empty());
    let found = &bucket.list("f/a").unwrap();
    assert!(found.is_empty(), "an object is not below itself: {found:?}");
}

#[test]
fn cancelling_stops_reads_and_writes() {
    let bucket = bucket();
    write(&bucket, "x", b"there", parts()).unwrap();
    let cancel = CancelToken::new();
    let stopped = bucket.with_cancel(cancel.clone());
    let mut object = stopped.write("y", parts()).unwrap();
    object.write_all(&pattern(3 * KIB, 9)).unwrap();
    cancel.cancel();
    assert_eq!(stopped.head("x").unwrap_err().kind(), ErrorKind::Cancelled);
    let e = object.write_all(&pattern(3 * KIB, 9)).unwrap_err();
    let inner = e.get_ref().and_then(|e| e.downcast_ref::<Error>()).unwrap();
    assert_eq!(inner.kind(), ErrorKind::Cancelled);
    assert_eq!(object.commit().unwrap_err().kind(), ErrorKind::Cancelled);
    assert_eq!(bucket.list("").unwrap().len(), 1);
}

#[test]
fn parts_are_limited_and_grow_with_what_is_expected() {
    let bucket = bucket();
    let bytes = pattern(10_001, 10);
    let mut object = bucket.write("x", WriteOptions::new().part_bytes(1)).unwrap();
    assert!(object.write_all(&bytes).is_err());
    assert_eq!(object.commit().unwrap_err().kind(), ErrorKind::LimitExceeded);
    assert!(bucket.list("").unwrap().is_empty());
    write(&bucket, "x", &bytes, WriteOptions::new().part_bytes(1).expecting(10_001)).unwrap();
    assert_eq!(read(&bucket, "x"), bytes);
}

#[test]
fn keys_that_make_no_sense_are_refused() {
    let bucket = bucket();
    for key in ["", "/x", "x/", "a//b", "a/../b", ".", "a\nb"] {
        let kinds = [
            bucket.head(key).unwrap_err().kind(),
            bucket.write(key, parts()).unwrap_err().kind(),
            bucket.source(key).unwrap_err().kind(),
        ];
        assert_eq!(kinds, [ErrorKind::InvalidArgument; 3], "{key:?}");
    }
}

#[test]
fn many_threads_share_a_bucket() {
    let bucket = bucket();
    let bytes = pattern(100_000, 11);
    write(&bucket, "x", &bytes, WriteOptions::new()).unwrap();
    let info = bucket.head("x").unwrap();
    std::thread::scope(|s| {
        for t in 0..16u64 {
            let (bucket, info, bytes) = (&bucket, &info, &bytes);
            s.spawn(move || {
                for i in 0..20 {
                    let at = (t * 5_003 + i * 1_009) % 90_000;
                    let got = bucket.get_range(info, at..at + 500).unwrap();
                    assert_eq!(got, bytes[at as usize..at as usize + 500]);
                }
            });
        }
    });
}

#[test]
fn parts_of_this_can_be_sent_to_threads_and_shown() {
    fn sendable<T: Send + std::fmt::Debug>() {}
    sendable::<Bucket>();
    sendable::<ObjectWriter>();
    let shown = format!("{:?} {:?}", bucket(), bucket().write("x", parts()).unwrap());
    assert!(shown.contains("s3://box"), "{shown}");
}
