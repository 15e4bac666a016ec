//! Blocks of symbols, coded with Huffman codes of their own, with fixed ones, or stored.

use super::bits::Bits;

const LITERALS: usize = 256;
const END_OF_BLOCK: usize = 256;
/// Codes of literals, the end of a block, and lengths.
const L_CODES: usize = 286;
const D_CODES: usize = 30;
/// Codes of the lengths of codes.
const BL_CODES: usize = 19;
const MAX_BITS: usize = 15;
const MAX_BL_BITS: usize = 7;
const HEAP_SIZE: usize = 2 * L_CODES + 1;

const EXTRA_LENGTH: [u32; 29] =
    [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0];
const EXTRA_DISTANCE: [u32; D_CODES] = [
    0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13,
    13,
];
const EXTRA_BL: [u32; BL_CODES] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 3, 7];
const BL_ORDER: [usize; BL_CODES] =
    [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
/// Repeats the last length 3 to 6 times; then a length of zero 3 to 10, and 11 to 138 times.
const REPEAT: usize = 16;
const ZEROS: usize = 17;
const MANY_ZEROS: usize = 18;

/// Returns the code of a length less 3, the number of its extra bits, and their value.
fn length_code(length: u32) -> (usize, u32, u32) {
    if length == 255 {
        return (28, 0, 0);
    }
    if length < 8 {
        return (length as usize, 0, 0);
    }
    // Four codes for each number of extra bits.
    let extra = length.ilog2() - 2;
    let code = 4 * extra + 4 + ((length >> extra) & 3);
    (code as usize, extra, length & ((1 << extra) - 1))
}

/// Returns the code of a distance less 1, the number of its extra bits, and their value.
fn distance_code(distance: u32) -> (usize, u32, u32) {
    if distance < 4 {
        return (distance as usize, 0, 0);
    }
    let extra = distance.ilog2() - 1;
    let code = 2 * extra + 2 + ((distance >> extra) & 1);
    (code as usize, extra, distance & ((1 << extra) - 1))
}

fn static_length(code: usize) -> u32 {
    match code {
        0..=143 | 280.. => 8,
        144..=255 => 9,
        256..=279 => 7,
    }
}

const STATIC_DISTANCE: u32 = 5;

/// What a tree codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Alphabet {
    Symbols,
    Distances,
    Lengths,
}

impl Alphabet {
    fn size(self) -> usize {
        match self {
            Alphabet::Symbols => L_CODES,
            Alphabet::Distances => D_CODES,
            Alphabet::Lengths => BL_CODES,
        }
    }

    fn extra(self, code: usize) -> u32 {
        let extra = match self {
            Alphabet::Symbols => code.checked_sub(LITERALS + 1).and_then(|i| EXTRA_LENGTH.get(i)),
            Alphabet::Distances => EXTRA_DISTANCE.get(code),
            Alphabet::Lengths => EXTRA_BL.get(code),
        };
        extra.copied().unwrap_or(0)
    }

    fn fixed(self, code: usize) -> Option<u32> {
        match self {
            Alphabet::Symbols => Some(static_length(code)),
            Alphabet::Distances => Some(STATIC_DISTANCE),
            Alphabet::Lengths => None,
        }
    }

    fn max_bits(self) -> usize {
        if self == Alphabet::Lengths { MAX_BL_BITS } else { MAX_BITS }
    }
}

/// Frequencies of codes, then the codes made of them.
#[derive(Debug)]
struct Tree {
    alphabet: Alphabet,
    /// By code, then by inner node.
    frequency: [u32; HEAP_SIZE],
    parent: [u16; HEAP_SIZE],
    length: [u16; HEAP_SIZE],
    code: [u16; HEAP_SIZE],
    max_code: usize,
}

/// Lengths of a block in bits.
#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    own: i64,
    fixed: i64,
}

impl Tree {
    fn new(alphabet: Alphabet) -> Tree {
        Tree {
            alphabet,
            frequency: [0; HEAP_SIZE],
            parent: [0; HEAP_SIZE],
            length: [0; HEAP_SIZE],
            code: [0; HEAP_SIZE],
            max_code: 0,
        }
    }

    /// Makes the codes.
    fn build(&mut self, cost: &mut Cost) {
        let size = self.alphabet.size();
        let mut heap = Heap { nodes: [0; HEAP_SIZE], len: 0, depth: [0; HEAP_SIZE] };
        let mut max_code = None;
        for n in 0..size {
            self.length[n] = 0;
            if self.frequency[n] != 0 {
                heap.len += 1;
                heap.nodes[heap.len] = n as u16;
                max_code = Some(n);
            }
        }
        // There are at least two codes, so that each has a bit.
        while heap.len < 2 {
            let node = match max_code {
                None => 0,
                Some(n) if n < 2 => n + 1,
                Some(_) => 0,
            };
            if max_code.is_none_or(|n| n < 2) {
                max_code = Some(node);
            }
            heap.len += 1;
            heap.nodes[heap.len] = node as u16;
            self.frequency[node] = 1;
            cost.own -= 1;
            cost.fixed -= i64::from(self.alphabet.fixed(node).unwrap_or(0));
        }
        self.max_code = max_code.unwrap_or(0);
        for n in (1..=heap.len / 2).rev() {
            heap.down(&self.frequency, n);
        }
        let mut node = size;
        let mut end = HEAP_SIZE;
        loop {
            let n = heap.nodes[1];
            heap.nodes[1] = heap.nodes[heap.len];
            heap.len -= 1;
            heap.down(&self.frequency, 1);
            let m = heap.nodes[1];
            end -= 2;
            (heap.nodes[end + 1], heap.nodes[end]) = (n, m);
            let (n, m) = (usize::from(n), usize::from(m));
            self.frequency[node] = self.frequency[n] + self.frequency[m];
            heap.depth[node] = heap.depth[n].max(heap.depth[m]) + 1;
            (self.parent[n], self.parent[m]) = (node as u16, node as u16);
            heap.nodes[1] = node as u16;
            node += 1;
            heap.down(&self.frequency, 1);
            if heap.len < 2 {
                break;
            }
        }
        end -= 1;
        heap.nodes[end] = heap.nodes[1];
        let counts = self.lengths(&heap.nodes, end, cost);
        self.codes(&counts);
    }

    /// Computes the lengths of codes; returns the number of codes of each length.
    fn lengths(
        &mut self,
        nodes: &[u16; HEAP_SIZE],
        root: usize,
        cost: &mut Cost,
    ) -> [u16; MAX_BITS + 1] {
        let max = self.alphabet.max_bits();
        let mut counts = [0u16; MAX_BITS + 1];
        let mut overflow = 0i32;
        self.length[usize::from(nodes[root])] = 0;
        for &node in &nodes[root + 1..] {
            let n = usize::from(node);
            let mut bits = usize::from(self.length[usize::from(self.parent[n])]) + 1;
            if bits > max {
                bits = max;
                overflow += 1;
            }
            self.length[n] = bits as u16;
            if n > self.max_code {
                continue;
            }
            counts[bits] += 1;
            let (extra, times) = (self.alphabet.extra(n), i64::from(self.frequency[n]));
            cost.own += times * (bits as i64 + i64::from(extra));
            let fixed = self.alphabet.fixed(n).map_or(0, |fixed| fixed + extra);
            cost.fixed += times * i64::from(fixed);
        }
        if overflow == 0 {
            return counts;
        }
        while overflow > 0 {
            let mut bits = max - 1;
            while counts[bits] == 0 {
                bits -= 1;
            }
            counts[bits] -= 1;
            counts[bits + 1] += 2;
            counts[max] -= 1;
            overflow -= 2;
        }
        let mut at = HEAP_SIZE;
        for bits in (1..=max).rev() {
            let mut left = counts[bits];
            while left != 0 {
                at -= 1;
                let m = usize::from(nodes[at]);
                if m > self.max_code {
                    continue;
                }
                let more = bits as i64 - i64::from(self.length[m]);
                cost.own += more * i64::from(self.frequency[m]);
                self.length[m] = bits as u16;
                left -= 1;
            }
        }
        counts
    }

    /// Assigns the codes, their bits in the order in which they are written.
    fn codes(&mut self, counts: &[u16; MAX_BITS + 1]) {
        let mut next = [0u32; MAX_BITS + 1];
        let mut code = 0u32;
        for bits in 1..=MAX_BITS {
            code = (code + u32::from(counts[bits - 1])) << 1;
            next[bits] = code;
        }
        for n in 0..=self.max_code {
            let bits = usize::from(self.length[n]);
            if bits != 0 {
                self.code[n] = reversed(next[bits], bits as u32);
                next[bits] += 1;
            }
        }
    }

    fn put(&self, code: usize, bits: &mut Bits) {
        bits.put(self.code[code].into(), self.length[code].into());
    }

    /// Calls `each` for the runs of lengths: with the length, or `None` for what a code of a repeat
    /// says, that code, and how often.
    fn runs(&self, mut each: impl FnMut(usize, u32)) {
        let limits = |length: Option<u16>, repeats: bool| match length {
            Some(0) => (138, 3),
            _ if repeats => (6, 3),
            _ => (7, 4),
        };
        let at = |n: usize| (n <= self.max_code).then(|| self.length[n]);
        let (mut previous, mut count) = (None, 0u32);
        let (mut most, mut least) = limits(at(0), false);
        for n in 0..=self.max_code {
            let (length, next) = (self.length[n], at(n + 1));
            count += 1;
            if count < most && next == Some(length) {
                continue;
            }
            if count < least {
                (0..count).for_each(|_| each(length.into(), 0));
            } else if length != 0 {
                if previous != Some(length) {
                    each(length.into(), 0);
                    count -= 1;
                }
                each(REPEAT, count - 3);
            } else if count <= 10 {
                each(ZEROS, count - 3);
            } else {
                each(MANY_ZEROS, count - 11);
            }
            count = 0;
            previous = Some(length);
            (most, least) = limits(next, next == Some(length));
        }
    }
}

fn reversed(code: u32, bits: u32) -> u16 {
    (code as u16).reverse_bits() >> (16 - bits)
}

/// Nodes, the rarest first; from the end, those that were taken.
struct Heap {
    nodes: [u16; HEAP_SIZE],
    len: usize,
    depth: [u8; HEAP_SIZE],
}

impl Heap {
    fn smaller(&self, frequency: &[u32; HEAP_SIZE], a: u16, b: u16) -> bool {
        let (a, b) = (usize::from(a), usize::from(b));
        (frequency[a], self.depth[a]) <= (frequency[b], self.depth[b])
    }

    /// Moves a node down to its place.
    fn down(&mut self, frequency: &[u32; HEAP_SIZE], from: usize) {
        let mut at = from;
        let moved = self.nodes[at];
        let mut child = 2 * at;
        while child <= self.len {
            let (left, right) = (self.nodes[child], self.nodes[child + 1]);
            if child < self.len && self.smaller(frequency, right, left) {
                child += 1;
            }
            if self.smaller(frequency, moved, self.nodes[child]) {
                break;
            }
            self.nodes[at] = self.nodes[child];
            at = child;
            child *= 2;
        }
        self.nodes[at] = moved;
    }
}

/// A literal, with distance 0, or a match: its length less 3.
#[derive(Clone, Copy, Debug)]
struct Symbol {
    distance: u16,
    value: u8,
}

/// Collects the symbols of a block, and writes it.
#[derive(Debug)]
pub(super) struct Blocks {
    pub(super) bits: Bits,
    symbols: Vec<Symbol>,
    matches: usize,
    literal: Tree,
    distance: Tree,
    lengths: Tree,
}

impl Blocks {
    pub(super) fn new() -> Blocks {
        let mut blocks = Blocks {
            bits: Bits::default(),
            symbols: Vec::new(),
            matches: 0,
            literal: Tree::new(Alphabet::Symbols),
            distance: Tree::new(Alphabet::Distances),
            lengths: Tree::new(Alphabet::Lengths),
        };
        blocks.begin();
        blocks
    }

    fn begin(&mut self) {
        self.symbols.clear();
        self.matches = 0;
        for tree in [&mut self.literal, &mut self.distance, &mut self.lengths] {
            tree.frequency = [0; HEAP_SIZE];
        }
        self.literal.frequency[END_OF_BLOCK] = 1;
    }

    pub(super) fn symbols(&self) -> usize {
        self.symbols.len()
    }

    pub(super) fn matches(&self) -> usize {
        self.matches
    }

    /// Returns the bits that distances take at least, with 5 for each code.
    pub(super) fn distance_bits(&self) -> u64 {
        let bits = |(code, extra): (usize, &u32)| {
            u64::from(self.distance.frequency[code]) * (5 + u64::from(*extra))
        };
        EXTRA_DISTANCE.iter().enumerate().map(bits).sum()
    }

    pub(super) fn literal(&mut self, byte: u8) {
        self.symbols.push(Symbol { distance: 0, value: byte });
        self.literal.frequency[usize::from(byte)] += 1;
    }

    /// Adds a match of `length + 3` bytes.
    pub(super) fn repeat(&mut self, distance: u16, length: u8) {
        self.symbols.push(Symbol { distance, value: length });
        self.matches += 1;
        self.literal.frequency[LITERALS + 1 + length_code(length.into()).0] += 1;
        self.distance.frequency[distance_code(u32::from(distance) - 1).0] += 1;
    }

    /// Writes the block of the symbols so far, whose text is `text` if it is still known.
    pub(super) fn end(&mut self, text: Option<&[u8]>, len: usize, last: bool) {
        let mut cost = Cost::default();
        self.literal.build(&mut cost);
        self.distance.build(&mut cost);
        let lengths = &mut self.lengths;
        for tree in [&self.literal, &self.distance] {
            tree.runs(|code, _| lengths.frequency[code] += 1);
        }
        lengths.build(&mut cost);
        let used = (3..BL_CODES).rev().find(|&i| self.lengths.length[BL_ORDER[i]] != 0);
        let used = used.unwrap_or(2);
        cost.own += 3 * (used as i64 + 1) + 5 + 5 + 4;
        let bytes = |bits: i64| (bits + 3 + 7) >> 3;
        let fixed = bytes(cost.fixed);
        let best = bytes(cost.own).min(fixed);
        let last = u32::from(last);
        match text {
            Some(text) if len as i64 + 4 <= best => {
                self.bits.put(last, 3);
                self.bits.align();
                self.bits.put(len as u32 & 0xffff, 16);
                self.bits.put(!len as u32 & 0xffff, 16);
                self.bits.out.extend(text);
            }
            _ if fixed == best => {
                self.bits.put(2 + last, 3);
                self.write(true);
            }
            _ => {
                self.bits.put(4 + last, 3);
                self.write_trees(used);
                self.write(false);
            }
        }
        self.begin();
        if last != 0 {
            self.bits.align();
        }
    }

    /// Writes an empty stored block, after which a byte begins.
    pub(super) fn align(&mut self) {
        self.bits.put(0, 3);
        self.bits.align();
        self.bits.out.extend([0, 0, 0xff, 0xff]);
    }

    fn write_trees(&mut self, used: usize) {
        let bits = &mut self.bits;
        bits.put((self.literal.max_code + 1 - 257) as u32, 5);
        bits.put(self.distance.max_code as u32, 5);
        bits.put((used + 1 - 4) as u32, 4);
        for &code in &BL_ORDER[..=used] {
            bits.put(self.lengths.length[code].into(), 3);
        }
        for tree in [&self.literal, &self.distance] {
            tree.runs(|code, more| {
                self.lengths.put(code, bits);
                bits.put(more, EXTRA_BL[code]);
            });
        }
    }

    fn write(&mut self, fixed: bool) {
        let bits = &mut self.bits;
        let symbol = |code: usize, bits: &mut Bits| match fixed {
            true => {
                let (code, length) = static_code(code);
                bits.put(code.into(), length);
            }
            false => self.literal.put(code, bits),
        };
        for &Symbol { distance, value } in &self.symbols {
            if distance == 0 {
                symbol(value.into(), bits);
                continue;
            }
            let (code, extra, more) = length_code(value.into());
            symbol(LITERALS + 1 + code, bits);
            bits.put(more, extra);
            let (code, extra, more) = distance_code(u32::from(distance) - 1);
            match fixed {
                true => bits.put(reversed(code as u32, STATIC_DISTANCE).into(), STATIC_DISTANCE),
                false => self.distance.put(code, bits),
            }
            bits.put(more, extra);
        }
        symbol(END_OF_BLOCK, bits);
    }
}

/// Returns a fixed code and its number of bits.
fn static_code(symbol: usize) -> (u16, u32) {
    let bits = static_length(symbol);
    let code = match symbol {
        0..=143 => 0x30 + symbol,
        144..=255 => 0x190 + symbol - 144,
        256..=279 => symbol - 256,
        _ => 0xc0 + symbol - 280,
    };
    (reversed(code as u32, bits), bits)
}
