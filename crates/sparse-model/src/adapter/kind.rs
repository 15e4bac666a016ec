//! Kinds of adapted modules.

/// Kind of an adapted module.
///
/// # Examples
///
/// ```
/// use sparse_model::AdapterKind;
///
/// /// Returns the name of one factor's tensor.
/// fn tensor(module: &str, kind: AdapterKind, factor: char) -> String {
///     match kind {
///         AdapterKind::Embedding => format!("{module}.lora_embedding_{factor}"),
///         _ => format!("{module}.lora_{factor}.weight"),
///     }
/// }
///
/// assert_eq!(tensor("q", AdapterKind::Linear, 'A'), "q.lora_A.weight");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum AdapterKind {
    /// A linear or convolutional layer.
    Linear,
    /// An embedding.
    Embedding,
}
