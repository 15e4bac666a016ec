//! Weights that a selector looks at, and samples of them.

use crate::sample::Sampler;
use sparse_core::{DEFAULT_CHUNK_LEN, Dtype, Effort, Error, Result, Segment, UnitSpec, zeros};
use std::ops::Range;

/// Error that restoring a sample left, and the change that it is relative to: squared Frobenius
/// norms.
///
/// # Examples
///
/// ```
/// use sparse_select::Measured;
///
/// let measured = Measured { error: 1.0, change: 4.0 };
/// assert_eq!(measured.relative(), 0.5);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Measured {
    /// Squared norm of restored minus original weights.
    pub error: f64,
    /// Squared norm of original weights minus those of the reference.
    pub change: f64,
}

impl Measured {
    /// Returns the relative error, 0 where nothing is off.
    pub fn relative(&self) -> f64 {
        if self.error == 0.0 { 0.0 } else { (self.error / self.change).sqrt() }
    }
}

/// Tensor, or some of its rows, that is to be coded.
///
/// # Examples
///
/// ```
/// use sparse_core::{Dtype, Error, Result, Segment};
/// use sparse_select::{Sample, Weights};
/// use std::ops::Range;
///
/// /// A matrix of 100 x 10 whose rows count up, made when it is read.
/// struct Counting;
///
/// impl Weights for Counting {
///     fn dtype(&self) -> Dtype {
///         Dtype::U8
///     }
///
///     fn base_dtype(&self) -> Option<Dtype> {
///         None
///     }
///
///     fn segment(&self) -> Segment {
///         Segment { rows: 100, row_len: 10 }
///     }
///
///     fn read_target(&self, elements: Range<u64>, out: &mut [u8]) -> Result<()> {
///         elements.zip(out).for_each(|(i, weight)| *weight = (i / 10) as u8);
///         Ok(())
///     }
///
///     fn read_base(&self, _: Range<u64>, _: &mut [u8]) -> Result<()> {
///         Err(Error::invalid_argument("there is no base"))
///     }
/// }
///
/// let sample = Sample::rows(&Counting, 2)?;
/// assert_eq!(sample.target, [[0; 10], [50; 10]].concat());
/// # Ok::<(), sparse_core::Error>(())
/// ```
pub trait Weights: Sync {
    /// Returns the type of the elements.
    fn dtype(&self) -> Dtype;

    /// Returns the type of the base's elements, if there is a base.
    fn base_dtype(&self) -> Option<Dtype>;

    /// Returns rows and their length, in storage elements.
    fn segment(&self) -> Segment;

    /// Reads elements, as bytes, into `out`, which has their size.
    ///
    /// # Errors
    /// What reading reports.
    fn read_target(&self, elements: Range<u64>, out: &mut [u8]) -> Result<()>;

    /// Reads elements of the base, likewise; called only where there is one.
    ///
    /// # Errors
    /// What reading reports.
    fn read_base(&self, elements: Range<u64>, out: &mut [u8]) -> Result<()>;

    /// Compares a sample with what was restored of it. The default is for selectors that never
    /// choose among codecs that lose something: an error is infinite.
    ///
    /// # Errors
    /// What reading reports.
    fn measure(&self, sample: &Sample, restored: &[u8]) -> Result<Measured> {
        let error = if restored == sample.target { 0.0 } else { f64::INFINITY };
        Ok(Measured { error, change: 1.0 })
    }

    /// Returns the number that says which elements are sampled: the same each time.
    fn seed(&self) -> u64 {
        0
    }

    /// Returns the ratio of two norms of change.
    ///
    /// The norm of the change that errors are relative to, over that of what a codec takes for the
    /// change: see [`Subject::ratio`](crate::Subject::ratio).
    fn ratio(&self) -> f64 {
        1.0
    }
}

/// [`Weights`] in memory, against a base in memory or none.
///
/// # Examples
///
/// ```
/// use sparse_core::{Dtype, Segment};
/// use sparse_select::{InMemory, Weights};
///
/// let vector = Segment { rows: 1, row_len: 2 };
/// let weights = InMemory::new(Dtype::U8, vector, &[1, 2], Some((Dtype::U8, &[1, 1])))?;
/// assert_eq!(weights.base_dtype(), Some(Dtype::U8));
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct InMemory<'a> {
    dtype: Dtype,
    segment: Segment,
    target: &'a [u8],
    base: Option<(Dtype, &'a [u8])>,
}

impl<'a> InMemory<'a> {
    /// Takes the bytes of a matrix, and those of a base with as many elements.
    ///
    /// A vector is one row.
    ///
    /// # Errors
    /// `InvalidArgument` for other lengths.
    pub fn new(
        dtype: Dtype,
        segment: Segment,
        target: &'a [u8],
        base: Option<(Dtype, &'a [u8])>,
    ) -> Result<InMemory<'a>> {
        let unit = UnitSpec::new(dtype, base.map(|b| b.0), DEFAULT_CHUNK_LEN, [segment])?;
        let bytes = |dtype: Dtype| unit.len() * dtype.storage_bytes() as u64;
        if target.len() as u64 != bytes(dtype)
            || base.is_some_and(|b| b.1.len() as u64 != bytes(b.0))
        {
            return Err(Error::invalid_argument(format!(
                "{} elements of {dtype} do not take {} bytes, or the base has another number of \
                    elements",
                unit.len(),
                target.len()
            )));
        }
        Ok(InMemory { dtype, segment, target, base })
    }
}

fn copy(from: &[u8], dtype: Dtype, elements: Range<u64>, out: &mut [u8]) -> Result<()> {
    let width = dtype.storage_bytes();
    let range = elements.start as usize * width..elements.end as usize * width;
    match from.get(range).filter(|bytes| bytes.len() == out.len()) {
        Some(bytes) => out.copy_from_slice(bytes),
        None => return Err(Error::invalid_argument("elements out of range were asked for")),
    }
    Ok(())
}

impl Weights for InMemory<'_> {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn base_dtype(&self) -> Option<Dtype> {
        self.base.map(|b| b.0)
    }

    fn segment(&self) -> Segment {
        self.segment
    }

    fn read_target(&self, elements: Range<u64>, out: &mut [u8]) -> Result<()> {
        copy(self.target, self.dtype, elements, out)
    }

    fn read_base(&self, elements: Range<u64>, out: &mut [u8]) -> Result<()> {
        match self.base {
            Some((dtype, base)) => copy(base, dtype, elements, out),
            None => Err(Error::invalid_argument(
                "weights of the base were asked for, but there \
                is no base",
            )),
        }
    }
}

/// Whole rows of a matrix and of its base, of one type.
///
/// # Examples
///
/// ```
/// use sparse_core::{Dtype, Effort};
/// use sparse_select::Rows;
///
/// /// Counts the rows that changed.
/// fn changed(rows: &Rows<'_>) -> usize {
///     let len = rows.row_len * rows.dtype.storage_bytes();
///     rows.target.chunks(len).zip(rows.base.chunks(len)).filter(|(t, b)| t != b).count()
/// }
///
/// let (target, base, effort) = (&[1, 2, 3, 5][..], &[1, 2, 3, 4][..], Effort::Default);
/// assert_eq!(changed(&Rows { dtype: Dtype::U8, row_len: 2, target, base, effort }), 1);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    /// Type of the elements.
    pub dtype: Dtype,
    /// Elements per row.
    pub row_len: usize,
    /// Bytes of the rows of the target.
    pub target: &'a [u8],
    /// Bytes of the same rows of the base.
    pub base: &'a [u8],
    /// Time that the caller spends.
    pub effort: Effort,
}

/// Sample of weights, read into memory.
///
/// # Examples
///
/// ```
/// use sparse_core::{Dtype, Segment};
/// use sparse_select::{InMemory, Sample};
///
/// let target: Vec<u8> = (0..=255).collect();
/// let weights = InMemory::new(Dtype::U8, Segment { rows: 16, row_len: 16 }, &target, None)?;
/// // As many elements as there are: everything.
/// let sample = Sample::draw(&weights, 256, false)?;
/// assert_eq!((sample.target, sample.scale), (target.clone(), 1.0));
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Sample {
    /// The sample as a unit of one segment.
    pub unit: UnitSpec,
    /// Bytes of the target.
    pub target: Vec<u8>,
    /// Bytes of the base, if there is one.
    pub base: Option<Vec<u8>>,
    /// Places of the elements in the weights, in ascending order.
    pub runs: Vec<Range<u64>>,
    /// How many times larger the whole is.
    pub scale: f64,
}

impl Sample {
    /// Reads about `elements` elements, drawn by strata; whole rows if `by_rows`.
    ///
    /// # Errors
    /// What reading reports; `LimitExceeded` when memory does not hold the sample.
    pub fn draw(weights: &dyn Weights, elements: u64, by_rows: bool) -> Result<Sample> {
        let segment = segment_of(weights)?;
        let share = elements as f64 / segment.len().max(1) as f64;
        let mut sampler = Sampler::new(weights.seed());
        let (shape, runs) =
            if by_rows { sampler.pick_rows(segment, share) } else { sampler.pick(segment, share) };
        Sample::read(weights, shape, runs)
    }

    /// Reads up to `count` rows, evenly spread.
    ///
    /// # Errors
    /// What reading reports; `LimitExceeded` when memory does not hold the rows.
    pub fn rows(weights: &dyn Weights, count: u64) -> Result<Sample> {
        let Segment { rows, row_len } = segment_of(weights)?;
        let count = count.min(rows);
        let row = |i: u64| u128::from(i) * u128::from(rows) / u128::from(count.max(1));
        let start = |i: u64| row(i) as u64 * row_len;
        let runs = (0..count).map(|i| start(i)..start(i) + row_len).collect();
        Sample::read(weights, Segment { rows: count, row_len }, runs)
    }

    fn read(weights: &dyn Weights, shape: Segment, runs: Vec<Range<u64>>) -> Result<Sample> {
        type Read<'a> = &'a dyn Fn(Range<u64>, &mut [u8]) -> Result<()>;
        let unit =
            UnitSpec::new(weights.dtype(), weights.base_dtype(), DEFAULT_CHUNK_LEN, [shape])?;
        let all = |dtype: Dtype, read: Read<'_>| -> Result<Vec<u8>> {
            let width = dtype.storage_bytes();
            let mut out = zeros(shape.len() as usize * width)?;
            let mut rest = &mut out[..];
            for run in &runs {
                let len = (run.end - run.start) as usize * width;
                let (part, after) = std::mem::take(&mut rest).split_at_mut(len);
                read(run.clone(), part)?;
                rest = after;
            }
            Ok(out)
        };
        let target = all(unit.dtype(), &|elements, out| weights.read_target(elements, out))?;
        let base = unit.base_dtype();
        let of_base = base.map(|d| all(d, &|elements, out| weights.read_base(elements, out)));
        Ok(Sample {
            unit,
            target,
            base: of_base.transpose()?,
            scale: weights.segment().len() as f64 / shape.len().max(1) as f64,
            runs,
        })
    }

    /// Returns the sample as rows of a matrix, where base and target are of one type.
    pub fn as_rows(&self, effort: Effort) -> Option<Rows<'_>> {
        let dtype = self.unit.dtype();
        let base = self.base.as_deref().filter(|_| self.unit.base_dtype() == Some(dtype))?;
        let row_len = self.unit.segments().first()?.row_len as usize;
        Some(Rows { dtype, row_len, target: &self.target, base, effort })
    }
}

/// Returns the shape of weights whose size fits 64 bits.
fn segment_of(weights: &dyn Weights) -> Result<Segment> {
    let segment = weights.segment();
    UnitSpec::new(weights.dtype(), weights.base_dtype(), DEFAULT_CHUNK_LEN, [segment])?;
    Ok(segment)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sparse_core::ErrorKind;

    /// Weights of any size, all 7.
    struct Sevens(Segment);

    impl Weights for Sevens {
        fn dtype(&self) -> Dtype {
            Dtype::U8
        }

        fn base_dtype(&self) -> Option<Dtype> {
            None
        }

        fn segment(&self) -> Segment {
            self.0
        }

        fn read_target(&self, _: Range<u64>, out: &mut [u8]) -> Result<()> {
            out.fill(7);
            Ok(())
        }

        fn read_base(&self, _: Range<u64>, _: &mut [u8]) -> Result<()> {
            Err(Error::invalid_argument("there is no base"))
        }
    }

    #[test]
    fn weights_of_any_size_are_sampled_or_refused() {
        let many = Sevens(Segment { rows: 1 << 50, row_len: 2 });
        let sample = Sample::rows(&many, 1 << 15).unwrap();
        assert_eq!((sample.target.len(), sample.runs[1].start), (1 << 16, 1 << 36));
        assert_eq!(Sample::draw(&many, 1 << 15, false).unwrap().target.len(), 1 << 15);
        let long = Sevens(Segment { rows: 2, row_len: 1 << 56 });
        assert_eq!(Sample::rows(&long, 1).unwrap_err().kind(), ErrorKind::LimitExceeded);
        let beyond = Sevens(Segment { rows: 1 << 40, row_len: 1 << 40 });
        for refused in [Sample::rows(&beyond, 1), Sample::draw(&beyond, 1, true)] {
            assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidArgument);
        }
    }
}
