//! Tests of torch files, with a writer of our own: `torch.save` in small.

use super::*;
use sparse_core::{Dtype, TensorSpec};

/// Writes a pickle, opcode by opcode.
#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn raw(mut self, bytes: &[u8]) -> Writer {
        self.0.extend(bytes);
        self
    }

    fn text(self, s: &str) -> Writer {
        self.raw(b"X").raw(&(s.len() as u32).to_le_bytes()).raw(s.as_bytes())
    }

    fn int(self, n: u64) -> Writer {
        self.raw(b"J").raw(&(n as i32).to_le_bytes())
    }

    fn tuple(self, numbers: &[u64]) -> Writer {
        numbers.iter().fold(self.raw(b"("), |w, &n| w.int(n)).raw(b"t")
    }

    /// Writes a tensor: storage class and key, elements of the storage, offset, shape, strides.
    fn tensor(self, class: &str, key: &str, len: u64, view: (u64, &[u64], &[u64])) -> Writer {
        let w = self.raw(b"ctorch._utils\n_rebuild_tensor_v2\n((").text("storage");
        let w = w.raw(format!("ctorch\n{class}\n").as_bytes()).text(key).text("cpu").int(len);
        let w = w.raw(b"tQ").int(view.0).tuple(view.1).tuple(view.2);
        w.raw(b"\x89ccollections\nOrderedDict\n)RtR")
    }
}

/// Writes an archive of stored members.
fn zip(members: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for (name, content) in members {
        let (at, len) = ((out.len() as u32).to_le_bytes(), (content.len() as u32).to_le_bytes());
        let name_len = (name.len() as u16).to_le_bytes();
        let pad = (64 - (out.len() + 30 + name.len() + 4) % 64) % 64;
        let extra = [&b"FB"[..], &(pad as u16).to_le_bytes(), &vec![b'Z'; pad]].concat();
        let both = [&[0; 10][..], &[9; 4], &len, &len, &name_len].concat();
        out.extend([b"PK\x03\x04", &both[..], &(extra.len() as u16).to_le_bytes()].concat());
        out.extend([name.as_bytes(), &extra, content].concat());
        directory.extend([&b"PK\x01\x02\0\0"[..], &both, &[0; 12], &at, name.as_bytes()].concat());
    }
    let (at, len) = (out.len() as u32, directory.len() as u32);
    out.extend(directory);
    let count = (members.len() as u16).to_le_bytes();
    out.extend([&b"PK\x05\x06\0\0\0\0"[..], &count, &count, &len.to_le_bytes()].concat());
    out.extend([&at.to_le_bytes()[..], &[0, 0]].concat());
    out
}

fn file(pickle: Writer, storages: &[(&str, usize)]) -> Vec<u8> {
    let pickle = [b"\x80\x02", &pickle.0[..], b"."].concat();
    let names: Vec<String> = storages.iter().map(|s| format!("archive/data/{}", s.0)).collect();
    let mut members = vec![("archive/data.pkl", pickle), ("archive/byteorder", b"little".into())];
    members.extend(
        names
            .iter()
            .zip(storages)
            .map(|(name, s)| (&**name, (0..s.1).map(|i| (i % 251) as u8).collect::<Vec<u8>>())),
    );
    zip(&members)
}

/// Returns name, type and shape of each tensor, and checks that it lies where its storage does.
#[allow(clippy::ptr_arg, reason = "a slice is no source of bytes")]
fn found(file: &Vec<u8>) -> Vec<(String, Dtype, Vec<u64>)> {
    let tensors = ContainerFormat::Torch.tensors(file);
    for t in &tensors {
        assert!(t.offset + t.spec.byte_len() <= file.len() as u64);
    }
    let part = |t: HeaderTensor| (t.name, t.spec.dtype(), t.spec.shape().to_vec());
    tensors.into_iter().map(part).collect()
}

#[test]
fn a_state_dict() {
    let w = Writer::default().raw(b"ccollections\nOrderedDict\n)R(");
    let w = w.text("a.weight").tensor("BFloat16Storage", "0", 200, (0, &[10, 20], &[20, 1]));
    let w = w.text("column").tensor("FloatStorage", "1", 128, (0, &[128, 1], &[1, 1]));
    let w = w.text("small").tensor("LongStorage", "2", 1, (0, &[], &[]));
    // The same storage twice: tied weights.
    let w = w.text("tied").tensor("BFloat16Storage", "0", 200, (0, &[10, 20], &[20, 1]));
    let bytes = file(w.raw(b"u"), &[("0", 400), ("1", 512), ("2", 8)]);
    assert_eq!(
        found(&bytes),
        [
            ("a.weight".to_owned(), Dtype::Bf16, vec![10, 20]),
            ("column".to_owned(), Dtype::F32, vec![128, 1])
        ]
    );
    let first = &ContainerFormat::Torch.tensors(&bytes)[0];
    let at = first.offset as usize;
    assert_eq!(at % 64, 0);
    assert!((0..400).all(|i| usize::from(bytes[at + i]) == i % 251));
}

#[test]
fn an_optimiser_state_has_names_of_its_keys() {
    let w = Writer::default().raw(b"}(").text("state").raw(b"}(").int(3).raw(b"}(");
    let w = w.text("exp_avg").tensor("FloatStorage", "0", 100, (0, &[100], &[1])).raw(b"uu");
    let w = w.text("list").raw(b"](").tensor("HalfStorage", "1", 200, (0, &[200], &[1]));
    let bytes = file(w.raw(b"eu"), &[("0", 400), ("1", 400)]);
    assert_eq!(
        found(&bytes),
        [
            ("state.3.exp_avg".to_owned(), Dtype::F32, vec![100]),
            ("list.0".to_owned(), Dtype::F16, vec![200])
        ]
    );
}

#[test]
fn views_parameters_and_transposed_tensors() {
    let w = Writer::default().raw(b"}(");
    // Two views that share a storage, each a tensor.
    let w = w.text("k").tensor("FloatStorage", "0", 200, (0, &[100], &[1]));
    let w = w.text("v").tensor("FloatStorage", "0", 200, (100, &[10, 10], &[10, 1]));
    // Transposed: the shape in which it lies.
    let w = w.text("t").tensor("FloatStorage", "1", 200, (0, &[10, 20], &[1, 10]));
    // Every other element: the storage as a whole.
    let w = w.text("s").tensor("FloatStorage", "2", 200, (0, &[100], &[2]));
    let w = w.text("p").raw(b"ctorch._utils\n_rebuild_parameter\n(");
    let w = w.tensor("DoubleStorage", "3", 50, (0, &[50], &[1])).raw(b"\x88ccollections\n");
    let w = w.raw(b"OrderedDict\n)RtR").raw(b"u");
    let bytes = file(w, &[("0", 800), ("1", 800), ("2", 800), ("3", 400)]);
    assert_eq!(
        found(&bytes),
        [
            ("k".to_owned(), Dtype::F32, vec![100]),
            ("v".to_owned(), Dtype::F32, vec![10, 10]),
            ("t".to_owned(), Dtype::F32, vec![20, 10]),
            ("s".to_owned(), Dtype::F32, vec![200]),
            ("p".to_owned(), Dtype::F64, vec![50])
        ]
    );
}

#[test]
fn odd_files_have_no_tensors() {
    let whole = || {
        let w = Writer::default().raw(b"}").text("a");
        w.tensor("FloatStorage", "0", 100, (0, &[100], &[1])).raw(b"s")
    };
    assert_eq!(found(&file(whole(), &[("0", 400)])).len(), 1);
    // The storage is missing, or too short for its view.
    assert_eq!(found(&file(whole(), &[])), []);
    let short = found(&file(whole(), &[("0", 300)]));
    assert_eq!(short, [("a".to_owned(), Dtype::F32, vec![75])]);
    let bytes = file(whole(), &[("0", 400)]);
    for len in 0..bytes.len() {
        assert_eq!(found(&bytes[..len].to_vec()), [], "{len}");
    }
    // No damage of one byte makes a panic or a tensor that is outside of the file.
    for at in 0..bytes.len() {
        for bit in [1, 0x80] {
            let mut bytes = bytes.clone();
            bytes[at] ^= bit;
            found(&bytes);
        }
    }
}

#[test]
fn tensors_are_apart() {
    let tensor = |name: &str, offset, len| HeaderTensor {
        name: name.to_owned(),
        spec: TensorSpec::new(Dtype::U8, [len]).unwrap(),
        offset,
    };
    let list = vec![
        tensor("c", 1000, 300),
        tensor("a", 0, 300),
        tensor("overlap", 299, 300),
        tensor("short", 400, 255),
        tensor("a", 700, 256),
        tensor("outside", 1744, 257),
        tensor("b", 300, 300),
        tensor("far", u64::MAX, 300),
    ];
    let names: Vec<String> = apart(list, 2000).into_iter().map(|t| t.name).collect();
    assert_eq!(names, ["a", "b", "c"]);
}
