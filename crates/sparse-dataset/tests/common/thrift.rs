//! Parquet files by hand, well formed or not: Thrift's compact protocol, pages, footers.

#![allow(dead_code, unreachable_pub)]

pub fn varint(mut n: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
    out
}

fn zigzag(n: i64) -> Vec<u8> {
    varint((n << 1 ^ n >> 63) as u64)
}

/// A struct in the making; fields come in the order of their numbers.
#[derive(Clone, Default)]
pub struct Thrift {
    bytes: Vec<u8>,
    last: u8,
}

impl Thrift {
    fn field(mut self, id: u8, wire: u8) -> Thrift {
        self.bytes.push((id - self.last) << 4 | wire);
        self.last = id;
        self
    }

    pub fn int(self, id: u8, value: i64) -> Thrift {
        let mut out = self.field(id, 6);
        out.bytes.extend(zigzag(value));
        out
    }

    pub fn text(self, id: u8, text: &[u8]) -> Thrift {
        let mut out = self.field(id, 8);
        out.bytes.extend(varint(text.len() as u64));
        out.bytes.extend_from_slice(text);
        out
    }

    pub fn inner(self, id: u8, inner: Thrift) -> Thrift {
        let mut out = self.field(id, 12);
        out.bytes.extend(inner.end());
        out
    }

    /// A list that says it has `count` elements of a type.
    pub fn list(self, id: u8, wire: u8, count: u64, elements: &[Vec<u8>]) -> Thrift {
        let mut out = self.field(id, 9);
        out.bytes.push(0xf0 | wire);
        out.bytes.extend(varint(count));
        elements.iter().for_each(|e| out.bytes.extend(e));
        out
    }

    pub fn structs(self, id: u8, structs: &[Thrift]) -> Thrift {
        let elements: Vec<Vec<u8>> = structs.iter().cloned().map(Thrift::end).collect();
        self.list(id, 12, elements.len() as u64, &elements)
    }

    pub fn end(mut self) -> Vec<u8> {
        self.bytes.push(0);
        self.bytes
    }
}

/// A group of `children` in the schema.
pub fn group(name: &[u8], repetition: Option<i64>, children: i64) -> Thrift {
    let out = repetition.into_iter().fold(Thrift::default(), |t, r| t.int(3, r));
    out.text(4, name).int(5, children)
}

/// A column in the schema; `len` for bytes of a fixed length.
pub fn leaf(name: &[u8], kind: i64, len: Option<i64>, repetition: i64) -> Thrift {
    let out = len.into_iter().fold(Thrift::default().int(1, kind), |t, n| t.int(2, n));
    out.int(3, repetition).text(4, name)
}

/// Everything but the footer's length.
pub fn file_metadata(schema: &[Thrift], rows: i64, groups: &[Thrift]) -> Thrift {
    Thrift::default().int(1, 2).structs(2, schema).int(3, rows).structs(4, groups)
}

/// A file with a footer behind `body`.
pub fn parquet(body: &[u8], footer: Thrift) -> Vec<u8> {
    let footer = footer.end();
    let mut out = b"PAR1".to_vec();
    out.extend_from_slice(body);
    out.extend_from_slice(&footer);
    out.extend((footer.len() as u32).to_le_bytes());
    out.extend_from_slice(b"PAR1");
    out
}

/// A page of data of version 1.
pub fn data_page(plain: i64, values: i64, encoding: i64, data: &[u8]) -> Vec<u8> {
    let header = Thrift::default().int(1, values).int(2, encoding).int(3, 3).int(4, 3);
    page(Thrift::default().int(1, 0).int(2, plain).int(3, data.len() as i64).inner(5, header), data)
}

pub fn dictionary_page(values: i64, data: &[u8]) -> Vec<u8> {
    let (header, len) = (Thrift::default().int(1, values).int(2, 0), data.len() as i64);
    page(Thrift::default().int(1, 2).int(2, len).int(3, len).inner(7, header), data)
}

fn page(header: Thrift, data: &[u8]) -> Vec<u8> {
    let mut out = header.end();
    out.extend_from_slice(data);
    out
}

/// What a column chunk is like.
pub struct Chunk {
    pub kind: i64,
    pub codec: i64,
    pub values: i64,
    pub rows: i64,
    pub has_dictionary: bool,
}

/// A file of one column in one row group.
pub fn one_column(schema: &[Thrift], chunk: &Chunk, pages: &[Vec<u8>]) -> Vec<u8> {
    let body: Vec<u8> = pages.concat();
    let len = body.len() as i64;
    let column = Thrift::default()
        .int(1, chunk.kind)
        .list(2, 5, 1, &[zigzag(0)])
        .list(3, 8, 1, &[vec![1, b'x']])
        .int(4, chunk.codec)
        .int(5, chunk.values)
        .int(6, len)
        .int(7, len)
        .int(9, 4);
    let column = if chunk.has_dictionary { column.int(11, 4) } else { column };
    let group = Thrift::default()
        .structs(1, &[Thrift::default().int(2, 4).inner(3, column)])
        .int(2, len)
        .int(3, chunk.rows);
    parquet(&body, file_metadata(schema, chunk.rows, &[group]))
}
