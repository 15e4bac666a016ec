//! How many directions each module gets.

use super::layout::peft::{entry_bytes, weights_bytes};
use super::pairs::Linear;
use sparse_core::{Dtype, Error, Result};

/// Most directions of a module; what loaders take.
pub(super) const MAX_RANK: usize = 256;

/// Energies of the directions of each module, descending, and of its whole change.
pub(super) struct Spectra<'a> {
    pub(super) linears: &'a [Linear],
    pub(super) spectra: Vec<Vec<f64>>,
    pub(super) changes: Vec<f64>,
}

impl Spectra<'_> {
    /// Returns the least ranks that keep a share of the energy of each module.
    pub(super) fn for_each(&self, share: f64) -> Vec<usize> {
        self.spectra.iter().zip(&self.changes).map(|(s, all)| rank_for(s, all * share)).collect()
    }

    /// Returns ranks that keep a share of the energy of all modules: equal ones, or those that take
    /// the least memory.
    pub(super) fn for_all(&self, share: f64, equal: bool) -> Vec<usize> {
        let wanted = self.changes.iter().sum::<f64>() * share;
        if equal {
            let rank = (1..MAX_RANK).find(|&r| self.energy(&self.equal(r)) >= wanted);
            return self.equal(rank.unwrap_or(MAX_RANK));
        }
        let (mut ranks, mut sum) = (vec![0; self.spectra.len()], 0.0);
        for (module, energy) in self.best_first() {
            if sum >= wanted {
                break;
            }
            sum += energy;
            ranks[module] += 1;
        }
        ranks
    }

    /// Returns ranks so that the file of weights has at most `bytes` bytes: equal ones, or the
    /// directions that save most for their bytes, if these do better.
    ///
    /// # Errors
    /// `InvalidArgument` where no adapter is so small.
    pub(super) fn for_size(&self, bytes: u64, dtype: Dtype, equal: bool) -> Result<Vec<usize>> {
        let all: Vec<&Linear> = self.linears.iter().collect();
        let of_changed: Vec<&Linear> = self.linears.iter().filter(|l| l.changed).collect();
        let modules = if equal { &all } else { &of_changed };
        let size = |rank: usize| {
            let ranks = modules.iter().map(|l| if equal { rank } else { rank.min(l.most()) });
            weights_bytes(modules.iter().map(|l| &l.path[..]).zip(ranks).zip(modules), dtype)
        };
        let mut rank = 0;
        while rank < MAX_RANK && size(rank + 1)? <= bytes {
            rank += 1;
        }
        let plain = self.equal(rank);
        if equal {
            if rank > 0 {
                return Ok(plain);
            }
            return Err(Error::invalid_argument(format!(
                "no adapter for any loader is so small: with one direction of each of {} modules \
                 it takes {} bytes",
                modules.len(),
                size(1)?
            )));
        }
        let best = self.within(bytes, dtype)?;
        let better = if self.energy(&plain) > self.energy(&best) { plain } else { best };
        if better.iter().all(|&r| r == 0) {
            let message = "no adapter is so small: not one direction fits into this size";
            return Err(Error::invalid_argument(message));
        }
        Ok(better)
    }

    /// Takes the best directions that fit.
    fn within(&self, bytes: u64, dtype: Dtype) -> Result<Vec<usize>> {
        let width = dtype.storage_bytes() as u64;
        let mut ranks = vec![0; self.spectra.len()];
        let mut closed = vec![false; self.spectra.len()];
        // Of an empty file, with what rounds its head up.
        let mut spent = weights_bytes(std::iter::empty(), dtype)? + 8;
        for (module, _) in self.best_first() {
            let l = &self.linears[module];
            let mut cost = (l.rows + l.columns) as u64 * width;
            if ranks[module] == 0 {
                cost += entry_bytes(&l.path, l, bytes);
            }
            if closed[module] || spent + cost > bytes {
                closed[module] = true;
                continue;
            }
            spent += cost;
            ranks[module] += 1;
        }
        Ok(ranks)
    }

    /// Lists all directions by energy for their size, the best first: module and energy.
    fn best_first(&self) -> Vec<(usize, f64)> {
        let mut offers: Vec<(f64, usize, f64)> = Vec::new();
        for (i, (spectrum, l)) in self.spectra.iter().zip(self.linears).enumerate() {
            let cost = (l.rows + l.columns) as f64;
            offers.extend(spectrum.iter().map(|&s| (s / cost, i, s)));
        }
        offers.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        offers.into_iter().map(|(_, module, energy)| (module, energy)).collect()
    }

    /// Returns the same rank for all modules, as far as they have directions.
    pub(super) fn equal(&self, rank: usize) -> Vec<usize> {
        self.spectra.iter().map(|s| rank.min(s.len())).collect()
    }

    /// Computes what these ranks keep.
    pub(super) fn energy(&self, ranks: &[usize]) -> f64 {
        self.spectra.iter().zip(ranks).map(|(s, &r)| s.iter().take(r).sum::<f64>()).sum()
    }
}

/// Returns the least rank that keeps this much energy.
fn rank_for(spectrum: &[f64], wanted: f64) -> usize {
    let mut sum = 0.0;
    for (i, s) in spectrum.iter().enumerate() {
        sum += s;
        if sum >= wanted {
            return i + 1;
        }
    }
    spectrum.len()
}
