//! How a long text is cut into windows that a model can take.

use sparse_core::{Error, Result};
use std::ops::Range;

/// Lengths of windows and the distance between their starts, in tokens.
///
/// Windows start at 0, `stride`, twice `stride` and so on; each has `context` tokens, the last
/// fewer.
/// A token is scored once, by the first window that has it and a token before it. So with a stride
/// as long as the context windows do not overlap, and the first token of each is not scored; with a
/// shorter one every token but the first of the text is, with at least `context - stride` tokens
/// before it from the second window on.
///
/// # Examples
///
/// ```
/// use sparse_eval::Windows;
///
/// assert!(Windows::new(256, 128).is_ok());
/// assert!(Windows::new(256, 257).is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Windows {
    context: usize,
    stride: usize,
}

/// One window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    /// Its tokens.
    pub(crate) tokens: Range<usize>,
    /// The first token that no window before it has.
    pub(crate) new: usize,
}

impl Window {
    /// Returns the tokens that it scores.
    pub(crate) fn scored(&self) -> Range<usize> {
        self.new.max(self.tokens.start + 1)..self.tokens.end
    }

    /// Returns the tokens after which it looks at the logits: those that no window before it has.
    pub(crate) fn seen(&self) -> Range<usize> {
        self.new..self.tokens.end
    }
}

impl Windows {
    /// Creates windows of `context` tokens that start every `stride` tokens.
    ///
    /// # Errors
    /// `InvalidArgument` when the context is less than 2, or the stride is 0 or longer than it.
    pub fn new(context: usize, stride: usize) -> Result<Windows> {
        if context < 2 {
            return Err(Error::invalid_argument(format!(
                "a context of {context} tokens scores nothing: choose at least 2"
            )));
        }
        if stride == 0 || stride > context {
            return Err(Error::invalid_argument(format!(
                "the stride must be from 1 to the context of {context} tokens, and is {stride}"
            )));
        }
        Ok(Windows { context, stride })
    }

    /// Returns the number of tokens of a window.
    pub fn context(&self) -> usize {
        self.context
    }

    /// Returns the number of tokens from the start of a window to that of the next.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// Returns the windows of a text of `len` tokens.
    pub(crate) fn of(&self, len: usize) -> Vec<Window> {
        let mut windows = Vec::new();
        let (mut start, mut new) = (0usize, 0usize);
        while new < len {
            let end = start.saturating_add(self.context).min(len);
            windows.push(Window { tokens: start..end, new });
            new = end;
            start += self.stride;
        }
        windows
    }

    /// Returns the number of tokens that the first `count` windows of a long text have.
    pub fn tokens_of(&self, count: usize) -> usize {
        match count {
            0 => 0,
            n => (n - 1).saturating_mul(self.stride).saturating_add(self.context),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn without_overlap() {
        let windows = Windows::new(4, 4).unwrap().of(9);
        let scored: Vec<_> = windows.iter().map(Window::scored).collect();
        assert_eq!(scored, [1..4, 5..8, 9..9]);
        assert_eq!(Windows::new(4, 4).unwrap().of(8).len(), 2);
        assert!(Windows::new(4, 4).unwrap().of(0).is_empty());
    }

    #[test]
    fn with_overlap() {
        let windows = Windows::new(4, 2).unwrap().of(7);
        let scored: Vec<_> = windows.iter().map(|w| (w.tokens.clone(), w.scored())).collect();
        assert_eq!(scored, [(0..4, 1..4), (2..6, 4..6), (4..7, 6..7)]);
    }

    proptest! {
        #[test]
        fn each_token_is_scored_once(context in 2usize..20, part in 0usize..20, len in 0usize..99) {
            let stride = part % context + 1;
            let windows = Windows::new(context, stride).unwrap();
            let mut times = vec![0; len];
            let mut seen = vec![0; len];
            let all = windows.of(len);
            for window in &all {
                prop_assert!(window.tokens.len() <= context);
                window.scored().for_each(|i| times[i] += 1);
                window.seen().for_each(|i| seen[i] += 1);
            }
            for (i, times) in times.iter().enumerate() {
                let first = if stride == context { i % context == 0 } else { i == 0 };
                prop_assert_eq!(*times, i32::from(!first));
            }
            prop_assert!(seen.iter().all(|&n| n == 1));
            if len == windows.tokens_of(all.len()) && len > 0 {
                prop_assert_eq!(all.last().map(|w| w.tokens.len()), Some(context));
            }
        }
    }
}
