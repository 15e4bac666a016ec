//! A base with its matrices once more, turned.

use crate::turned::{Turner, turned};
use sparse_core::{ByteSource, Result, TensorEntry, TensorSource, check_range};
use sparse_model::{Checkpoint, ModelFile, TensorLocation, Warning};
use std::path::{Path, PathBuf};

/// Elements of a row and of a column that a matrix must have.
const LEAST: u64 = 48;

/// Base whose matrices follow its tensors once more, with rows and columns exchanged.
///
/// Those have no location: they lie nowhere.
pub(crate) struct Views<'a> {
    base: &'a dyn Checkpoint,
    tensors: Vec<TensorEntry>,
    /// Of each turned matrix, the tensor that it is.
    turned: Vec<usize>,
    turner: Turner,
}

impl<'a> Views<'a> {
    pub(crate) fn new(base: &'a dyn Checkpoint) -> Views<'a> {
        let mut tensors = base.tensors().to_vec();
        let mut of = Vec::new();
        for (number, entry) in base.tensors().iter().enumerate() {
            let [.., rows, columns] = *entry.spec.shape() else { continue };
            if rows < LEAST || columns < LEAST {
                continue;
            }
            if let Some(spec) = turned(&entry.spec) {
                tensors.push(TensorEntry { name: entry.name.clone(), spec });
                of.push(number);
            }
        }
        Views { base, tensors, turned: of, turner: Turner::of_files() }
    }

    /// Returns the base by itself.
    pub(crate) fn plain(&self) -> &'a dyn Checkpoint {
        self.base
    }

    /// Returns the tensor of the base that a turned matrix is.
    pub(crate) fn of(&self, tensor: usize) -> Option<usize> {
        self.turned.get(tensor.checked_sub(self.base.tensors().len())?).copied()
    }
}

impl TensorSource for Views<'_> {
    fn tensors(&self) -> &[TensorEntry] {
        &self.tensors
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.base.find(name)
    }

    fn read_range_into(&self, index: usize, offset: u64, out: &mut [u8]) -> Result<()> {
        match self.of(index) {
            None => self.base.read_range_into(index, offset, out),
            Some(tensor) => {
                check_range(&self.tensors, index, offset, out.len())?;
                self.turner.read(self.base, tensor, offset, out)
            }
        }
    }

    fn slice(&self, index: usize, offset: u64, len: usize) -> Option<&[u8]> {
        self.base.slice(index, offset, len)
    }

    fn check_unchanged(&self) -> Result<()> {
        self.base.check_unchanged()
    }
}

impl Checkpoint for Views<'_> {
    fn name(&self) -> String {
        self.base.name()
    }

    fn is_file(&self) -> bool {
        self.base.is_file()
    }

    fn is_virtual(&self) -> bool {
        self.base.is_virtual()
    }

    fn files(&self) -> &[ModelFile] {
        self.base.files()
    }

    fn empty_folders(&self) -> &[String] {
        self.base.empty_folders()
    }

    fn warnings(&self) -> &[Warning] {
        self.base.warnings()
    }

    fn file_source(&self, file: usize) -> Result<&dyn ByteSource> {
        self.base.file_source(file)
    }

    fn location(&self, index: usize) -> Option<TensorLocation<'_>> {
        self.base.location(index)
    }

    fn file_place(&self, file: &ModelFile) -> String {
        self.base.file_place(file)
    }

    fn file_path(&self, file: usize) -> Option<&Path> {
        self.base.file_path(file)
    }

    fn input_paths(&self) -> Result<Vec<PathBuf>> {
        self.base.input_paths()
    }
}
