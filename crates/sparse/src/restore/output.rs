//! Where restored bytes go.

#[cfg(feature = "cache")]
use crate::share::SharedFiles;
use sparse_core::Result;
#[cfg(feature = "cache")]
use std::collections::BTreeMap;
#[cfg(feature = "output")]
use {
    crate::Delta,
    sparse_core::Error,
    sparse_model::Checkpoint,
    sparse_output::{AtomicDir, AtomicFile, OutputFile, Overwrite, refuse_inside},
    std::path::{Path, PathBuf},
    std::sync::Arc,
};

/// Where all files go.
#[derive(Debug)]
pub(super) enum Output {
    /// Nowhere: they are only verified.
    Nowhere,
    /// Into a folder.
    #[cfg(feature = "output")]
    Folder {
        folder: AtomicDir,
        #[cfg(feature = "cache")]
        shared: Option<Shares>,
    },
    /// The only file there is.
    #[cfg(feature = "output")]
    File(Arc<AtomicFile>),
}

/// Files that may share the bytes of a file of the base, by path.
#[cfg(feature = "cache")]
#[derive(Debug)]
pub(super) struct Shares {
    pub(super) sources: BTreeMap<String, PathBuf>,
    pub(super) files: Arc<SharedFiles>,
}

#[cfg(feature = "cache")]
impl Shares {
    fn share(&self, folder: &AtomicDir, path: &str) -> Result<bool> {
        self.sources.get(path).map_or(Ok(false), |from| self.files.share(folder, path, from))
    }
}

/// Where one file goes.
#[derive(Clone, Debug)]
pub(super) enum Sink {
    Nowhere,
    #[cfg(feature = "output")]
    Inside(Arc<OutputFile>),
    #[cfg(feature = "output")]
    File(Arc<AtomicFile>),
}

impl Output {
    /// Begins to write `out`, which must keep away from base and delta.
    #[cfg(feature = "output")]
    pub(super) fn create(
        base: Option<&dyn Checkpoint>,
        delta: &Delta,
        out: &Path,
        overwrite: Overwrite,
    ) -> Result<Output> {
        let mut inputs: Vec<PathBuf> =
            base.map(|b| b.input_paths()).transpose()?.unwrap_or_default();
        inputs.extend(delta.path().map(Path::to_owned));
        refuse_inside(out, &inputs)?;
        let index = delta.index();
        if delta.is_single_file() && !wants_folder(out) {
            let file = AtomicFile::create(out, overwrite)?;
            return Ok(Output::File(Arc::new(file)));
        }
        let folder = AtomicDir::create(out, overwrite)?;
        index.folders.iter().try_for_each(|f| folder.create_folder(f))?;
        Ok(Output::Folder {
            folder,
            #[cfg(feature = "cache")]
            shared: None,
        })
    }

    /// Lets files that are in the base as they are share its bytes, where they can.
    #[cfg(feature = "cache")]
    pub(super) fn sharing(mut self, shares: Shares) -> Output {
        if let Output::Folder { shared, .. } = &mut self {
            *shared = Some(shares);
        }
        self
    }

    /// Begins to write a file.
    #[cfg_attr(not(feature = "output"), expect(unused_variables, reason = "nothing is written"))]
    pub(super) fn file(&self, path: &str, len: u64) -> Result<Sink> {
        Ok(match self {
            Output::Nowhere => Sink::Nowhere,
            #[cfg(feature = "output")]
            Output::Folder {
                folder,
                #[cfg(feature = "cache")]
                shared,
            } => {
                #[cfg(feature = "cache")]
                if let Some(shares) = shared
                    && shares.share(folder, path)?
                {
                    // It is decoded and compared all the same.
                    return Ok(Sink::Nowhere);
                }
                Sink::Inside(Arc::new(folder.create_file(path, len)?))
            }
            #[cfg(feature = "output")]
            Output::File(file) => {
                file.set_len(len)?;
                Sink::File(file.clone())
            }
        })
    }

    /// Gives what is written and verified its name.
    pub(super) fn commit(self) -> Result<()> {
        match self {
            Output::Nowhere => Ok(()),
            #[cfg(feature = "output")]
            Output::Folder { folder, .. } => folder.commit(),
            #[cfg(feature = "output")]
            Output::File(file) => match Arc::try_unwrap(file) {
                Ok(file) => file.commit(),
                Err(_) => Err(Error::invalid_argument("the output is still being written")),
            },
        }
    }
}

impl Sink {
    #[cfg_attr(not(feature = "output"), expect(unused_variables, reason = "nothing is written"))]
    pub(super) fn write(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        match self {
            Sink::Nowhere => Ok(()),
            #[cfg(feature = "output")]
            Sink::Inside(file) => file.write_all_at(offset, bytes),
            #[cfg(feature = "output")]
            Sink::File(file) => file.write_all_at(offset, bytes),
        }
    }
}

/// Tells whether `out` is to be a folder even if a file would do.
#[cfg(feature = "output")]
fn wants_folder(out: &Path) -> bool {
    out.is_dir() || out.to_string_lossy().ends_with(std::path::is_separator)
}
