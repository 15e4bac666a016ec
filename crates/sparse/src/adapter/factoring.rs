//! The factors of all modules.

use super::export::AdapterExporter;
use super::kind::AdapterRank;
use super::layout::tensors::{Stored, transposed};
use super::pairs::{Linear, Pair};
use super::ranks::{MAX_RANK, Spectra};
use crate::context::Contexts;
use sparse_codecs::low_rank::{FactorOptions, FloatFactors, factorise};
use sparse_core::{Dtype, Effort, Result};

/// Projections that look for what rounding hid: at the default effort, and at the highest.
const ROUNDS: usize = 15;
const MANY_ROUNDS: usize = 40;

/// Finds the factors of all modules.
pub(super) struct Factoring<'a> {
    pub(super) export: &'a AdapterExporter<'a>,
    pub(super) pair: &'a Pair<'a>,
    pub(super) linears: &'a [Linear],
    pub(super) dtype: Dtype,
    /// Bytes of the file that other tensors take.
    pub(super) taken: u64,
}

impl Factoring<'_> {
    /// Returns the factors by module, `None` where nothing is to be changed.
    ///
    /// # Errors
    /// What reading reports; `InvalidArgument` for a size that nothing fits into; `Cancelled`.
    pub(super) fn run(&self) -> Result<Vec<Option<FloatFactors>>> {
        let AdapterExporter { rank, ref settings, profile, .. } = *self.export;
        let rounds = match settings.effort {
            Effort::Fast => 0,
            Effort::Max => MANY_ROUNDS,
            _ => ROUNDS,
        };
        if let AdapterRank::Fixed(rank) = rank {
            return self.all((rank as usize).min(MAX_RANK), rounds);
        }
        let mut found = self.all(MAX_RANK, 0)?;
        let spectra = self.spectra_of(&found);
        let equal = profile.has_one_rank();
        let ranks = match rank {
            AdapterRank::Fixed(_) => return Ok(found),
            AdapterRank::Energy(share) => spectra.for_each(share),
            AdapterRank::TotalEnergy(share) => spectra.for_all(share, equal),
            AdapterRank::Bytes(bytes) => {
                spectra.for_size(bytes.saturating_sub(self.taken), self.dtype, equal)?
            }
        };
        let contexts = Contexts::new(settings);
        for ((found, l), rank) in found.iter_mut().zip(self.linears).zip(ranks) {
            *found = self.factor(l, rank, rounds, &contexts)?;
        }
        Ok(found)
    }

    /// Computes the energies of the directions of all modules.
    ///
    /// # Errors
    /// What reading reports; `Cancelled`.
    pub(super) fn spectra(&self) -> Result<Spectra<'_>> {
        Ok(self.spectra_of(&self.all(MAX_RANK, 0)?))
    }

    fn spectra_of(&self, found: &[Option<FloatFactors>]) -> Spectra<'_> {
        Spectra {
            linears: self.linears,
            spectra: found.iter().map(|f| f.as_ref().map_or_else(Vec::new, energies)).collect(),
            changes: found.iter().map(|f| f.as_ref().map_or(0.0, |f| f.change)).collect(),
        }
    }

    /// Finds up to `rank` directions of every module.
    fn all(&self, rank: usize, rounds: usize) -> Result<Vec<Option<FloatFactors>>> {
        let AdapterExporter { ref settings, observer, .. } = *self.export;
        let bytes_of = |l: &Linear| self.pair.base.tensors()[l.base].spec.byte_len();
        observer.begin("factoring", self.linears.iter().map(bytes_of).sum());
        let contexts = Contexts::new(settings);
        // One after the other: each uses all threads, and memory for one matrix.
        let mut found = Vec::with_capacity(self.linears.len());
        for l in self.linears {
            settings.cancel.check()?;
            found.push(self.factor(l, rank, rounds, &contexts)?);
            observer.advance(bytes_of(l));
        }
        observer.end();
        Ok(found)
    }

    fn factor(
        &self,
        l: &Linear,
        rank: usize,
        rounds: usize,
        contexts: &Contexts,
    ) -> Result<Option<FloatFactors>> {
        let rank = rank.min(l.most());
        if !l.changed || rank == 0 {
            return Ok(None);
        }
        let entry = &self.pair.target.tensors()[l.target];
        let target = self.pair.target.bytes(l.target)?;
        let base = self.pair.of_base(l.base, entry.spec.dtype())?;
        let ask = FactorOptions { rank, rounds, stored: Some(self.dtype) };
        let shape = (l.rows, l.columns);
        contexts
            .with(|cx| factorise(entry.spec.dtype(), shape, &target, &base, ask, cx))
            .map_err(|e| e.in_tensor(weight(&l.path)))
    }
}

/// Computes the energy of each direction.
fn energies(f: &FloatFactors) -> Vec<f64> {
    let columns = f.right.len() / f.rank.max(1);
    // Each right row has the root of its singular value as length.
    let energy = |r: &[f32]| r.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().powi(2);
    f.right.chunks_exact(columns.max(1)).map(energy).collect()
}

/// Returns the name of a module's weight.
pub(super) fn weight(path: &str) -> String {
    format!("{path}.weight")
}

/// Makes factors as PEFT wants them, filled up with zeros to `rank`.
pub(super) fn stored_module(l: &Linear, found: &FloatFactors, rank: usize) -> Stored {
    let k = found.rank;
    // The left factor, columns added; the right one, rows added.
    let mut left = vec![0f32; l.rows * rank];
    for (row, out) in found.left.chunks_exact(k.max(1)).zip(left.chunks_exact_mut(rank.max(1))) {
        out[..k].copy_from_slice(row);
    }
    let mut right = found.right.clone();
    right.resize(rank * l.columns, 0.0);
    let (a, b) = if l.in_out {
        // The weight is `[in, out]`, and its change the transpose of `B A`.
        (transposed(&left, rank), transposed(&right, l.columns))
    } else {
        (right, left)
    };
    let [of_a, of_b] = l.shapes(rank);
    Stored { path: l.path.clone(), a: (a, of_a), b: (b, of_b) }
}
