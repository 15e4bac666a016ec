//! What is told of an exported adapter.

/// Module of an exported adapter.
///
/// # Examples
/// ```
/// use sparse::ExportedModule;
///
/// /// The module that an adapter serves worst.
/// fn worst(modules: &[ExportedModule]) -> Option<&ExportedModule> {
///     modules.iter().min_by(|a, b| a.energy_kept.total_cmp(&b.energy_kept))
/// }
/// assert!(worst(&[]).is_none());
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ExportedModule {
    /// Its path in the base; its weight is called `<path>.weight`.
    pub path: String,
    /// Rank, without zeros to fill it up.
    pub rank: usize,
    /// Squared Frobenius norm of its change.
    pub energy: f64,
    /// Share of that energy that the adapter brings, from 0 to 1; 1 where nothing changed.
    pub energy_kept: f64,
}

/// Tensor that an adapter cannot express.
///
/// # Examples
/// ```
/// use sparse::LeftOut;
///
/// /// Says what an adapter cannot bring back.
/// fn sentence(left_out: &LeftOut) -> String {
///     format!("{}, {:.1} %: {}", left_out.tensor, 100.0 * left_out.share, left_out.reason)
/// }
/// ```
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct LeftOut {
    /// Its name.
    pub tensor: String,
    /// Why.
    pub reason: &'static str,
    /// Squared Frobenius norm of its change; of a tensor that the base lacks, of the tensor.
    pub energy: f64,
    /// Its share of the energy of all changes.
    pub share: f64,
}

/// Result of [`AdapterExporter::write`](crate::AdapterExporter::write).
///
/// # Examples
/// ```
/// use sparse::ExportReport;
///
/// /// Whether an adapter is good enough to be served instead of the model.
/// fn suffices(report: &ExportReport) -> bool {
///     report.energy_kept > 0.95 && report.left_out.iter().all(|l| l.share < 0.01)
/// }
/// assert!(!suffices(&ExportReport::default()), "nothing was exported");
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ExportReport {
    /// The modules that have factors, sorted by path in the target.
    pub modules: Vec<ExportedModule>,
    /// Tensors of the base that the adapter replaces whole.
    pub kept: Vec<String>,
    /// What could not be expressed, the largest first.
    pub left_out: Vec<LeftOut>,
    /// The rank that the configuration gives.
    pub rank: usize,
    /// Bytes of the adapter's weights.
    pub bytes: u64,
    /// Share of the energy of all changes that the adapter brings, from 0 to 1.
    pub energy_kept: f64,
}
