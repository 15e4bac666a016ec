//! Finding what repeats: chains of places with the same three bytes, and lazy matches.

use super::Maker;
use super::trees::Blocks;
use std::io::{self, Write};

const WINDOW: usize = 1 << 15;
const MASK: usize = WINDOW - 1;
const MIN_MATCH: usize = 3;
const MAX_MATCH: usize = 258;
const MIN_LOOKAHEAD: usize = MAX_MATCH + MIN_MATCH + 1;
const MAX_DISTANCE: usize = WINDOW - MIN_LOOKAHEAD;
/// Distance from which a match of three bytes costs more than their literals.
const TOO_FAR: usize = 4096;
const HASH_SIZE: usize = 1 << 15;

/// How hard a level searches.
#[derive(Clone, Copy, Debug)]
struct Level {
    /// Length of a match from which the search for a better one is shortened.
    good: usize,
    /// Length of a match from which no better one is sought at the next byte. Without lazy matches:
    /// length up to which all places of a match are noted.
    lazy: usize,
    /// Length at which a search ends.
    nice: usize,
    chain: usize,
    is_lazy: bool,
}

const fn level(good: usize, lazy: usize, nice: usize, chain: usize, is_lazy: bool) -> Level {
    Level { good, lazy, nice, chain, is_lazy }
}

/// Levels 1 to 9.
const LEVELS: [Level; 9] = [
    level(4, 4, 8, 4, false),
    level(4, 5, 16, 8, false),
    level(4, 6, 32, 32, false),
    level(4, 4, 16, 16, true),
    level(8, 16, 32, 32, true),
    level(8, 16, 128, 128, true),
    level(8, 32, 128, 256, true),
    level(32, 128, 258, 1024, true),
    level(32, 258, 258, 4096, true),
];

/// Compresses what is written.
#[derive(Debug)]
pub(crate) struct Deflater<W> {
    out: W,
    level: Level,
    /// Number of the level, from 1.
    number: u8,
    maker: Maker,
    blocks: Blocks,
    /// Input that is not in the window yet, and how much of it has been taken.
    input: Vec<u8>,
    taken: usize,
    ended: bool,
    window: Vec<u8>,
    head: Vec<u16>,
    chain: Vec<u16>,
    hash: usize,
    /// Start of the open block in the window; negative once it has left it.
    block: isize,
    at: usize,
    ahead: usize,
    match_start: usize,
    length: usize,
    previous_length: usize,
    /// Whether the byte before `at` is not coded yet.
    pending: bool,
}

impl<W: Write> Deflater<W> {
    /// Begins a stream at level 1 to 9.
    pub(crate) fn new(out: W, number: u8, maker: Maker) -> Deflater<W> {
        let number = number.clamp(1, 9);
        Deflater {
            out,
            level: LEVELS[usize::from(number) - 1],
            number,
            maker,
            blocks: Blocks::new(),
            input: Vec::new(),
            taken: 0,
            ended: false,
            window: vec![0; 2 * WINDOW],
            head: vec![0; HASH_SIZE],
            chain: vec![0; WINDOW],
            hash: 0,
            block: 0,
            at: 0,
            ahead: 0,
            match_start: 0,
            length: MIN_MATCH - 1,
            previous_length: MIN_MATCH - 1,
            pending: false,
        }
    }

    /// Ends the stream; with `flushed`, all text was flushed before.
    ///
    /// # Errors
    /// Those of the output.
    pub(crate) fn finish(mut self, flushed: bool) -> io::Result<W> {
        self.ended = true;
        self.run()?;
        if self.pending {
            let byte = self.window[self.at - 1];
            self.blocks.literal(byte);
        }
        if flushed {
            if self.blocks.symbols() > 0 {
                self.flush_block(false)?;
            }
            self.blocks.align();
        }
        self.flush_block(true)?;
        Ok(self.out)
    }

    /// Compresses as far as the input reaches.
    fn run(&mut self) -> io::Result<()> {
        loop {
            if self.ahead < MIN_LOOKAHEAD && !self.fill() {
                return Ok(());
            }
            if self.ahead == 0 {
                return Ok(());
            }
            if self.level.is_lazy { self.step_lazy()? } else { self.step()? }
        }
    }

    /// Fills the window as one call with all input would; returns false if input is missing.
    fn fill(&mut self) -> bool {
        loop {
            let mut room = 2 * WINDOW - self.ahead - self.at;
            if self.at >= WINDOW + MAX_DISTANCE {
                room += WINDOW;
            }
            let left = self.input.len() - self.taken;
            if left < room && !self.ended {
                return false;
            }
            if self.at >= WINDOW + MAX_DISTANCE {
                self.slide();
            }
            let n = left.min(room);
            let end = self.at + self.ahead;
            self.window[end..end + n].copy_from_slice(&self.input[self.taken..self.taken + n]);
            self.taken += n;
            self.ahead += n;
            if n > 0 && self.ahead >= MIN_MATCH {
                self.hash = self.window[self.at].into();
                self.update(self.window[self.at + 1]);
            }
            if n == 0 {
                if self.maker == Maker::GnuGzip {
                    let end = self.at + self.ahead;
                    let rest = self.window.iter_mut().skip(end).take(MIN_MATCH - 1);
                    rest.for_each(|b| *b = 0);
                }
                return true;
            }
            if self.ahead >= MIN_LOOKAHEAD {
                return true;
            }
        }
    }

    fn slide(&mut self) {
        self.window.copy_within(WINDOW.., 0);
        self.match_start = self.match_start.wrapping_sub(WINDOW);
        self.at -= WINDOW;
        self.block -= WINDOW as isize;
        for place in self.head.iter_mut().chain(&mut self.chain) {
            *place = place.saturating_sub(WINDOW as u16);
        }
    }

    #[inline]
    fn update(&mut self, byte: u8) {
        self.hash = ((self.hash << 5) ^ usize::from(byte)) & (HASH_SIZE - 1);
    }

    /// Notes the three bytes at `at`; returns the last place that had them, or 0.
    #[inline]
    fn insert(&mut self) -> usize {
        self.update(self.window[self.at + MIN_MATCH - 1]);
        let last = std::mem::replace(&mut self.head[self.hash], self.at as u16);
        self.chain[self.at & MASK] = last;
        last.into()
    }

    /// Returns true if three bytes can be noted. GNU gzip does so beyond the end of the text.
    fn can_insert(&self) -> bool {
        self.ahead >= MIN_MATCH || self.maker == Maker::GnuGzip
    }

    fn step(&mut self) -> io::Result<()> {
        let last = if self.can_insert() { self.insert() } else { 0 };
        if last != 0 && self.at - last <= MAX_DISTANCE {
            self.length = self.longest(last);
        }
        let full;
        if self.length >= MIN_MATCH {
            full = self.tally(self.at - self.match_start, self.length);
            self.ahead -= self.length;
            if self.length <= self.level.lazy && self.can_insert() {
                for _ in 1..self.length {
                    self.at += 1;
                    self.insert();
                }
                self.at += 1;
                self.length = 0;
            } else {
                self.at += self.length;
                self.length = 0;
                self.hash = self.window[self.at].into();
                self.update(self.window[self.at + 1]);
            }
        } else {
            full = self.tally_literal(self.at);
            self.ahead -= 1;
            self.at += 1;
        }
        if full { self.flush_block(false) } else { Ok(()) }
    }

    fn step_lazy(&mut self) -> io::Result<()> {
        let last = if self.can_insert() { self.insert() } else { 0 };
        self.previous_length = self.length;
        let previous_match = self.match_start;
        self.length = MIN_MATCH - 1;
        if last != 0 && self.previous_length < self.level.lazy && self.at - last <= MAX_DISTANCE {
            self.length = self.longest(last);
            let far = self.at.wrapping_sub(self.match_start) > TOO_FAR;
            if self.length == MIN_MATCH && far {
                self.length = MIN_MATCH - 1;
            }
        }
        if self.previous_length >= MIN_MATCH && self.length <= self.previous_length {
            let end = self.at + self.ahead;
            let distance = (self.at - 1).wrapping_sub(previous_match);
            let full = self.tally(distance, self.previous_length);
            self.ahead -= self.previous_length - 1;
            for _ in 2..self.previous_length {
                self.at += 1;
                if self.at + MIN_MATCH <= end || self.maker == Maker::GnuGzip {
                    self.insert();
                }
            }
            self.pending = false;
            self.length = MIN_MATCH - 1;
            self.at += 1;
            if full {
                self.flush_block(false)?;
            }
            return Ok(());
        }
        if self.pending {
            if self.tally_literal(self.at - 1) {
                self.flush_block(false)?;
            }
        } else {
            self.pending = true;
        }
        self.at += 1;
        self.ahead -= 1;
        Ok(())
    }

    /// Returns the length of the longest match from `place` on down the chain, and notes its start.
    fn longest(&mut self, place: usize) -> usize {
        let mut place = place;
        let mut left = self.level.chain;
        if self.previous_length >= self.level.good {
            left >>= 2;
        }
        let nice = match self.maker {
            Maker::Zlib => self.level.nice.min(self.ahead),
            Maker::GnuGzip => self.level.nice,
        };
        let limit = self.at.saturating_sub(MAX_DISTANCE);
        let window = &self.window[..];
        let most = MAX_MATCH.min(window.len() - self.at);
        let scan = &window[self.at..self.at + most];
        let mut best = self.previous_length;
        loop {
            let found = &window[place..place + most];
            if best < most
                && found[best] == scan[best]
                && found[best - 1] == scan[best - 1]
                && found[0] == scan[0]
                && found[1] == scan[1]
            {
                let len = common(found, scan);
                if len > best {
                    self.match_start = place;
                    best = len;
                    if len >= nice {
                        break;
                    }
                }
            }
            place = self.chain[place & MASK].into();
            left -= 1;
            if place <= limit || left == 0 {
                break;
            }
        }
        best.min(self.ahead)
    }

    fn tally(&mut self, distance: usize, length: usize) -> bool {
        self.blocks.repeat(distance as u16, (length - MIN_MATCH) as u8);
        self.is_full()
    }

    fn tally_literal(&mut self, at: usize) -> bool {
        self.blocks.literal(self.window[at]);
        self.is_full()
    }

    /// Returns true if the block ends here.
    fn is_full(&self) -> bool {
        let symbols = self.blocks.symbols();
        match self.maker {
            Maker::Zlib => symbols == (1 << 14) - 1,
            Maker::GnuGzip => {
                if self.number > 2 && symbols & 0xfff == 0 {
                    let bits = 8 * symbols as u64 + self.blocks.distance_bits();
                    let taken = (self.at as isize - self.block) as u64;
                    if self.blocks.matches() < symbols / 2 && bits >> 3 < taken / 2 {
                        return true;
                    }
                }
                symbols == (1 << 15) - 1
            }
        }
    }

    fn flush_block(&mut self, last: bool) -> io::Result<()> {
        let len = (self.at as isize - self.block) as usize;
        let start = usize::try_from(self.block).ok();
        let text = start.and_then(|start| self.window.get(start..self.at));
        self.blocks.end(text, len, last);
        self.block = self.at as isize;
        self.out.write_all(&self.blocks.bits.out)?;
        self.blocks.bits.out.clear();
        Ok(())
    }
}

/// Returns the number of first bytes that two texts share.
fn common(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// Input that is collected before it is compressed, in bytes: more than the window takes at once.
const BATCH: usize = 4 * WINDOW;

impl<W: Write> Write for Deflater<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = bytes.len().min(BATCH);
        self.input.drain(..self.taken);
        self.taken = 0;
        self.input.extend_from_slice(&bytes[..n]);
        if self.input.len() >= BATCH {
            self.run()?;
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
