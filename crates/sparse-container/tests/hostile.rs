//! Files that are damaged, foreign, too new or malicious.

#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use proptest::prelude::*;
use sparse_container::*;
use sparse_core::{CodecId, Dtype, ErrorKind, Limits, Segment, TensorSpec, UnitSpec};

#[test]
fn every_truncation() {
    let (file, _) = small();
    for len in 0..file.len() {
        let e = open(&file[..len]).unwrap_err();
        let want = if len == 0 { ErrorKind::NotThisFormat } else { ErrorKind::Truncated };
        assert_eq!(e.kind(), want, "{len}: {e}");
        if len > 0 {
            assert!(e.message().contains(&format!("{len} bytes")), "{e}");
        }
    }
}

#[test]
fn every_changed_byte() {
    let (file, index) = small();
    let (payload, plain) = unframe(&file);
    let want = payload_of(&open(&file).unwrap()).unwrap();
    for file in [file, frame(&payload, &plain)] {
        for at in 0..file.len() {
            for mask in 1..=255 {
                let mut bad = file.clone();
                bad[at] ^= mask;
                match open(&bad) {
                    Err(e) => assert!(
                        at < 12 || e.kind() == ErrorKind::Corrupt || at >= file.len() - 40,
                        "byte {at}: {e}"
                    ),
                    Ok(reader) => {
                        assert_eq!(*reader.index(), index);
                        match payload_of(&reader) {
                            Ok(got) => assert_eq!(got, want),
                            Err(e) => assert_eq!(e.kind(), ErrorKind::Corrupt),
                        }
                        // Every payload byte of this file is under some checksum.
                        assert!(payload_of(&reader).is_err(), "byte {at} is unchecked");
                    }
                }
            }
        }
    }
}

#[test]
fn wrong_checksums_say_where() {
    let (mut file, index) = small();
    file[index.units[0].chunks_offset as usize] ^= 1;
    let e = open(&file).unwrap().read_chunk(0, 0).unwrap_err();
    assert_eq!((e.kind(), e.offset()), (ErrorKind::Corrupt, Some(index.units[0].chunks_offset)));
    let at = file.len() - 45;
    file[at] ^= 1;
    let e = open(&file).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Corrupt);
    assert!(e.offset().is_some());
}

#[test]
fn other_files_and_versions() {
    let kind = |bytes: &[u8]| open(bytes).unwrap_err().kind();
    for other in [
        &b""[..],
        b"x",
        b"PK\x03\x04 and so on",
        &[0; 100],
        b"\xd3SPRS\n\x1a: line ends were changed",
    ] {
        assert_eq!(kind(other), ErrorKind::NotThisFormat);
    }
    let (file, _) = small();
    for (version, shown) in
        [([2, 0], "2.0"), ([3, 7], "3.7"), ([65535, 65535], "65535.65535"), ([0, 3], "0.3")]
    {
        let mut file = file.clone();
        file[8..10].copy_from_slice(&u16::to_le_bytes(version[0]));
        file[10..12].copy_from_slice(&u16::to_le_bytes(version[1]));
        let e = open(&file).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::UnsupportedVersion);
        assert!(e.message().contains(shown) && e.message().contains("1."), "{e}");
        assert_eq!(e.message().contains("update"), shown != "0.3");
        // A newer file may have another trailer, so the version is what decides.
        assert_eq!(kind(&file[..12]), ErrorKind::UnsupportedVersion);
    }
}

/// What they add are attributes that this reader passes over.
#[test]
fn newer_minor_versions_are_read() {
    let (file, index) = small();
    let (mut payload, plain) = unframe(&file);
    payload[10..12].copy_from_slice(&u16::to_le_bytes(9));
    let newer = frame(&payload, &plain);
    let reader = open(&newer).unwrap();
    assert_eq!((reader.version().to_string(), reader.index()), ("1.9".to_owned(), &index));
}

#[test]
fn appended_bytes() {
    let (mut file, _) = small();
    let trailer = file[file.len() - 40..].to_vec();
    file.push(0);
    assert_eq!(open(&file).unwrap_err().kind(), ErrorKind::Truncated);
    file.extend(trailer);
    assert_eq!(open(&file).unwrap_err().kind(), ErrorKind::Corrupt);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None,
        ..Default::default() })]

    /// Damage behind correct checksums: what an attacker would send.
    #[test]
    fn forged_indexes(seed in any::<u64>(), edits in prop::collection::vec((any::<u16>(),
        any::<u8>(), 0..4u8), 1..6)) {
        let (file, _) = random(seed % 1000);
        let (payload, mut plain) = unframe(&file);
        for (at, byte, what) in edits {
            let at = at as usize % plain.len();
            match what {
                0 => plain[at] = byte,
                1 => plain[at] ^= 1 << (byte % 8),
                2 => plain.insert(at, byte),
                _ => { plain.remove(at); }
            }
            if plain.is_empty() {
                return Ok(());
            }
        }
        let forged = frame(&payload, &plain);
        if let Ok(reader) = open(&forged) {
            // What a reader takes, a writer writes, and it comes back the same.
            let mut w = Writer::new(Vec::new()).unwrap();
            w.append(&payload[12..]).unwrap();
            let again = w.finish(reader.index()).unwrap();
            let again = open(&again).unwrap();
            prop_assert_eq!(again.index(), reader.index());
            let _ = payload_of(&reader);
        }
    }

    #[test]
    fn garbage_indexes(plain in prop::collection::vec(prop_oneof![Just(0u8), 0..4u8,
        any::<u8>()], 0..200)) {
        let header = &small().0[..12];
        let _ = open(&frame(header, &plain));
    }
}

#[test]
fn huge_counts_take_no_memory() {
    let header = &small().0[..12];
    let huge = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
    for position in 0..5 {
        let mut plain = vec![0; position];
        plain.extend(huge);
        plain.extend([0; 40]);
        assert_eq!(open(&frame(header, &plain)).unwrap_err().kind(), ErrorKind::Corrupt);
    }
    // One unit of 2^60 one-element chunks.
    let mut plain = vec![0, 0, 0, 0, 1, 0, 0, 0, 0];
    plain.extend([0, 1, 255, 1]); // codec, type, no base, chunk length
    plain.extend([0, 0, 0, 1]); // parameters, offset of chunks, one segment
    plain.extend([0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10, 1]);
    plain.extend([0; 40]);
    let e = open(&frame(header, &plain)).unwrap_err();
    assert!(e.kind() == ErrorKind::Corrupt && e.message().contains("chunks"), "{e}");
}

#[test]
fn names_cannot_multiply_without_bound() {
    // A name of 64 KiB, then 20,000 that repeat it: 1.3 GB from 180 KB, and from 100 bytes once
    // compressed.
    let header = &small().0[..12];
    let n = 20_000u16;
    let mut plain = vec![0, n as u8 | 0x80, (n >> 7) as u8 & 0x7f | 0x80, (n >> 14) as u8];
    plain.extend([0, 0, 0, 0, 0, 0, 0]);
    plain.extend(vec![1; n.into()]);
    plain.push(0);
    plain.extend([b'x'; 65536]);
    plain.extend([0xff, 1, 1, 0]);
    for _ in 1..n {
        plain.extend([0, 0xff, 1, 1, 0]);
    }
    plain.extend(vec![0; n as usize + 100]);
    let e = open(&frame(header, &plain)).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::LimitExceeded, "{e}");
}

#[test]
fn trailers_that_lie() {
    let (file, index) = small();
    let (payload, plain) = unframe(&file);
    let kind = |file: &[u8]| open(file).unwrap_err().kind();
    let len = plain.len() as u64;
    assert_eq!(*open(&frame(&payload, &plain)).unwrap().index(), index);
    assert_eq!(kind(&frame_as(&payload, &plain, len + 1, 0)), ErrorKind::Corrupt);
    assert_eq!(kind(&frame_as(&payload, &plain, len, 1)), ErrorKind::Corrupt);
    assert_eq!(kind(&frame_as(&payload, &plain, len, 2)), ErrorKind::Corrupt);
    assert_eq!(kind(&frame_as(&payload, &plain, 1 << 40, 1)), ErrorKind::LimitExceeded);
    let zeros = zstd::encode_all(&vec![0; 1 << 20][..], 3).unwrap();
    assert_eq!(kind(&frame_as(&payload, &zeros, 1 << 20, 1)), ErrorKind::Corrupt);
    assert_eq!(kind(&frame_as(&payload, &zeros, 1 << 19, 1)), ErrorKind::Corrupt);
    // Bytes after the frame, and a second frame.
    let repetitive = [&plain[..], &[0; 1000]].concat();
    let packed = zstd::encode_all(&repetitive[..], 3).unwrap();
    for tail in [&[0; 5][..], &packed] {
        let stored = [&packed[..], tail].concat();
        assert_eq!(
            kind(&frame_as(&payload, &stored, repetitive.len() as u64, 1)),
            ErrorKind::Corrupt
        );
    }
}

/// What a writer says to an index, and what a reader says to the same index if a writer had not
/// cared.
fn refused(index: &Index) -> ErrorKind {
    let mut w = Writer::new(Vec::new()).unwrap();
    w.append(&[0; 100]).unwrap();
    w.finish(index).unwrap_err().kind()
}

#[test]
fn writers_refuse_bad_references() {
    type Edit = fn(&mut Index);
    let good = || {
        let mut index = small().1;
        // The payload of `refused` is larger, and nobody verifies its checksums here.
        index.units[0].params.offset = 12;
        index
    };
    let mut w = Writer::new(Vec::new()).unwrap();
    w.append(&[0; 100]).unwrap();
    w.finish(&good()).unwrap();
    let blob = |index: &mut Index, f: fn(&mut BlobRef)| {
        if let PieceSource::Blob { blob, .. } = &mut index.entries[0].pieces[0].source {
            f(blob);
        }
    };
    let mut index = good();
    blob(&mut index, |b| b.offset = 11);
    assert_eq!(refused(&index), ErrorKind::InvalidArgument);
    blob(&mut index, |b| b.offset = u64::MAX);
    assert_eq!(refused(&index), ErrorKind::InvalidArgument);
    blob(&mut index, |b| (b.offset, b.len) = (12, 101));
    assert_eq!(refused(&index), ErrorKind::InvalidArgument);
    let edits: &[Edit] = &[
        |i| i.units[0].params.offset = 113,
        |i| i.units[0].chunks_offset = 100,
        |i| i.units[0].chunks[0].len = 1000,
        |i| i.units[0].chunks[1].checksum = 0,
        |i| i.units[0].chunks.truncate(2),
        |i| i.units[0].chunk_len = 0,
        |i| i.units[0].base_dtype = None,
        |i| i.units[0].base_dtype = Some(Dtype::F16),
        |i| i.units[0].segments[0].base = None,
        |i| i.units[0].segments[0].base = Some(BaseStart { base: 4, offset: 0 }),
        |i| i.units[0].segments[0].base = Some(BaseStart { base: 1, offset: 1 }),
        |i| i.units[0].segments[0].rows = u64::MAX,
        |i| i.entries[1].pieces[0].len = 119,
        |i| i.entries[1].pieces[0].len = 121,
        |i| {
            i.entries[1]
                .pieces
                .push(Piece { len: 0, source: PieceSource::Base { base: 1, offset: 0 } })
        },
        |i| i.entries[1].pieces[0].source = PieceSource::Unit { unit: 1, segment: 0, offset: 0 },
        |i| i.entries[1].pieces[0].source = PieceSource::Unit { unit: 0, segment: 1, offset: 0 },
        |i| i.entries[1].pieces[0].source = PieceSource::Unit { unit: 0, segment: 0, offset: 1 },
        |i| i.entries[1].pieces[0].source = PieceSource::Base { base: 0, offset: 0 },
        |i| i.entries[1].spec = TensorSpec::new(Dtype::U8, [120]).unwrap(),
        |i| i.entries[1].kind = EntryKind::Bytes,
        |i| i.entries[3].digest = digest(b"not the base's"),
        |i| i.bases[3].spec = TensorSpec::new(Dtype::I8, [33]).unwrap(),
        |i| i.files[0].parts.push(4),
        |i| i.files[1].digest = digest(b"not the entry's"),
        |i| i.files[2].digest = digest(b"not nothing's"),
        |i| i.files[1].path = "model.safetensors".into(),
        |i| i.files[1].path = "model.safetensors/config.json".into(),
        |i| i.files[1].path = "logs".into(),
        |i| i.folders.push("assets".into()),
        |i| i.folders.push("logs".into()),
    ];
    for (n, edit) in edits.iter().enumerate() {
        let mut index = good();
        edit(&mut index);
        assert_eq!(refused(&index), ErrorKind::InvalidArgument, "edit {n}");
    }
    let paths: &[Edit] = &[
        |i| i.files[0].path = "../x".into(),
        |i| i.files[0].path = "/etc/passwd".into(),
        |i| i.folders[0] = "a/../../b".into(),
        |i| i.files[0].path = "data/nul.txt".into(),
        |i| i.files[0].path = "a.".into(),
        |i| i.files[0].path = "gpj.\u{202e}exe".into(),
        |i| i.folders[0] = "a\x1b[2J".into(),
        |i| i.bases[0].file = "c:\\x".into(),
    ];
    for edit in paths {
        let mut index = good();
        edit(&mut index);
        assert_eq!(refused(&index), ErrorKind::InvalidInput);
    }
    let limits: &[Edit] =
        &[|i| i.units[0].params.len = 1 << 31, |i| i.units[0].chunks[0].len = u32::MAX];
    for edit in limits {
        let mut index = good();
        edit(&mut index);
        assert_eq!(refused(&index), ErrorKind::LimitExceeded);
    }
}

#[test]
fn readers_refuse_unsafe_paths() {
    let (file, _) = small();
    let (payload, plain) = unframe(&file);
    // Same lengths, so that the structure stays whole.
    for (from, to) in [
        ("assets/empty.txt", "../../empty.txt!"),
        ("logs", "/log"),
        ("logs", "l\\gs"),
        ("logs", "a/.."),
        ("logs", "COM1"),
        ("logs", "aux."),
        ("logs", "log "),
        ("logs", "l\ngs"),
        ("logs", "lo\u{9b}"),
        ("logs", "l\u{200f}"),
        ("assets/empty.txt", "assets/nul.json!"),
    ] {
        let at = plain.windows(from.len()).rposition(|w| w == from.as_bytes()).unwrap();
        let mut plain = plain.clone();
        plain[at..at + to.len()].copy_from_slice(to.as_bytes());
        let e = open(&frame(&payload, &plain)).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::InvalidInput, "{e}");
    }
}

#[test]
fn limits_are_the_readers() {
    let spec = TensorSpec::new(Dtype::U8, [1 << 20]).unwrap();
    let unit = UnitSpec::new(Dtype::U8, None, 1 << 20, [Segment::of(&spec)]).unwrap();
    let mut w = Writer::new(Vec::new()).unwrap();
    let params = w.append(&[7; 1000]).unwrap();
    let (offset, chunk) = w.append_chunk(b"x").unwrap();
    let mut index = Index::default();
    index.units.push(UnitRecord::new(CodecId(1), &unit, &[], params, offset, vec![chunk]).unwrap());
    index.attributes.insert(0, vec![0; 5000]);
    let file = w.finish(&index).unwrap();
    let open = |f: fn(&mut Limits)| {
        let mut limits = Limits::default();
        f(&mut limits);
        Reader::open(&file, &limits).map(|_| ()).map_err(|e| e.kind())
    };
    assert_eq!(open(|_| {}), Ok(()));
    assert_eq!(open(|l| l.max_chunk_bytes = (1 << 20) - 1), Err(ErrorKind::LimitExceeded));
    assert_eq!(open(|l| l.max_params_bytes = 999), Err(ErrorKind::LimitExceeded));
    assert_eq!(open(|l| l.max_index_bytes = 5000), Err(ErrorKind::LimitExceeded));
    let reader = Reader::open(&file, &Limits::default()).unwrap();
    assert_eq!(reader.read_blob(&params, 999).unwrap_err().kind(), ErrorKind::LimitExceeded);
    let stray = BlobRef { offset: 0, ..params };
    assert_eq!(reader.read_blob(&stray, 1000).unwrap_err().kind(), ErrorKind::Corrupt);
}

/// Names that are stored by what differs take more memory than file.
#[test]
fn memory_of_names_is_bounded() {
    let mut index = Index::default();
    index.folders = (1..=16_000).map(|n| "a".repeat(n.min(4000)) + &format!("/{n}")).collect();
    let written = Writer::new(Vec::new()).unwrap().finish(&index).unwrap();
    assert!(written.len() < 200_000, "{}", written.len());
    let mut limits = Limits::default();
    Reader::open(&written, &limits).unwrap();
    // 60 MB of names in an index of 150 KB.
    limits.max_index_bytes = 20 << 20;
    let error = Reader::open(&written, &limits).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitExceeded);
    assert!(error.message().contains("memory for the index"), "{error}");
    // What a reader would refuse by default is not written.
    index.folders = (1..=40_000).map(|n| "a".repeat(n.min(4000)) + &format!("/{n}")).collect();
    let error = Writer::new(Vec::new()).unwrap().finish(&index).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitExceeded);
    index.folders.clear();
    index.attributes.insert(7, vec![0; 65 << 20]);
    let error = Writer::new(Vec::new()).unwrap().finish(&index).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitExceeded);
}

/// The largest deltas that there are pass the default limits.
#[test]
fn many_tensors_and_files() {
    let mut index = Index::default();
    let mut w = Writer::new(Vec::new()).unwrap();
    let params = w.append(b"p").unwrap();
    let spec = TensorSpec::new(Dtype::U8, vec![16, 4]).unwrap();
    let unit =
        UnitSpec::new(Dtype::U8, Some(Dtype::U8), 16, vec![Segment { rows: 16, row_len: 4 }])
            .unwrap();
    for i in 0..80_000u32 {
        let name =
            format!("model.language_model.layers.{}.mlp.experts.{i}.down_proj.weight", i / 1000);
        let file = format!("model-{:05}-of-00200.safetensors", i / 400);
        index.bases.push(BaseEntry::tensor(
            name.clone(),
            file,
            spec.clone(),
            digest(&i.to_le_bytes()),
        ));
        let mut chunks = Vec::new();
        let mut first = 0;
        for c in 0..4 {
            let (at, chunk) = w.append_chunk(b"chunk").unwrap();
            first = if c == 0 { at } else { first };
            chunks.push(chunk);
        }
        let base = BaseStart { base: i, offset: 0 };
        index
            .units
            .push(UnitRecord::new(CodecId(1), &unit, &[base], params, first, chunks).unwrap());
        let source = PieceSource::Unit { unit: i, segment: 0, offset: 0 };
        let piece = Piece { len: 64, source };
        index.entries.push(Entry::tensor(name, spec.clone(), digest(b"x"), vec![piece]));
    }
    for i in 0..100_000 {
        index.files.push(FileRecord::new(
            format!("folder-{}/file-{i}.json", i / 50),
            digest(b""),
            vec![],
        ));
    }
    let written = w.finish(&index).unwrap();
    Reader::open(&written, &Limits::default()).unwrap();
}

#[test]
fn a_failed_write_stays_failed() {
    #[derive(Debug)]
    struct Full(usize);
    impl std::io::Write for Full {
        fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
            if self.0 == 0 {
                return Err(std::io::ErrorKind::StorageFull.into());
            }
            let n = buf.len().min(self.0);
            self.0 -= n;
            Ok(n)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut full = Full(20);
    let mut w = Writer::new(&mut full).unwrap();
    assert_eq!(w.append(&[0; 100]).unwrap_err().kind(), ErrorKind::Io);
    assert_eq!(w.append(&[]).unwrap_err().kind(), ErrorKind::Io);
    assert_eq!(w.finish(&Index::default()).unwrap_err().kind(), ErrorKind::Io);
}
