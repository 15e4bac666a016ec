//! What the files of an adapter are made from.

use super::peft::{Config, Whole};
use super::tensors::Stored;
use crate::adapter::kind::Profile;
use crate::adapter::report::{ExportedModule, LeftOut};
use sparse_core::Dtype;
use sparse_model::Architecture;

/// Adapter that is to be written.
pub(in crate::adapter) struct Written<'a> {
    pub(in crate::adapter) profile: Profile,
    pub(in crate::adapter) architecture: &'a Architecture,
    pub(in crate::adapter) stored: &'a [Stored],
    pub(in crate::adapter) whole: &'a [Whole],
    pub(in crate::adapter) dtype: Dtype,
    pub(in crate::adapter) config: &'a Config<'a>,
    pub(in crate::adapter) modules: &'a [ExportedModule],
    pub(in crate::adapter) left_out: &'a [LeftOut],
}
