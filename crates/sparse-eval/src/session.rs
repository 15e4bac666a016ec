//! Text that grows token by token.

use crate::model::LanguageModel;
use candle_nn::kv_cache::KvCache;
use sparse_core::Result;

/// Text of a model that grows; what was computed of it is kept.
///
/// # Examples
///
/// ```
/// use sparse_eval::{LanguageModel, ModelConfig, Session, Weights};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/llama-micro");
/// let config = ModelConfig::parse(&std::fs::read(format!("{folder}/config.json"))?)?;
/// let model = LanguageModel::load(&sparse::Model::open(folder)?, config, Weights::AsStored)?;
/// let mut session = Session::new(&model);
/// session.extend(&[1, 2])?;
/// let logits = session.extend(&[3])?;
/// assert_eq!((session.len(), logits.len()), (3, 512));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Session<'a> {
    model: &'a LanguageModel,
    caches: Vec<KvCache>,
    len: usize,
}

impl<'a> Session<'a> {
    /// Creates a session without text.
    pub fn new(model: &'a LanguageModel) -> Session<'a> {
        Session { model, caches: model.caches(), len: 0 }
    }

    /// Returns the number of tokens so far.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Tells whether there is no text yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends `tokens` and returns the logits after the last of them.
    ///
    /// # Errors
    /// As [`LanguageModel::logits`]; the session is as it was unless the kind is `Internal`.
    pub fn extend(&mut self, tokens: &[u32]) -> Result<Vec<f32>> {
        let states = self.model.continued(tokens, self.len, &mut self.caches)?;
        self.len += tokens.len();
        let last = tokens.len() - 1..tokens.len();
        self.model.rows(&states, last)?.read(|row| Ok(row.to_vec()))
    }
}
