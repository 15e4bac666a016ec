//! What is served.

use crate::git_hash::Sha1;
use sha2::{Digest, Sha256};
use sparse_core::{ByteSource, Error, FileSource, Result, open_file};
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of a block in which contents are read and sent.
pub(super) const BLOCK: usize = 1 << 16;
/// From this size on, [`Repo::with_folder`] makes a file a large one, as the Hub does.
const LARGE: u64 = 10 << 20;

/// Oddities of servers that exist.
///
/// # Examples
///
/// ```
/// use sparse_remote::testing::Quirks;
///
/// let quirks = Quirks { ignores_range: true, ..Quirks::default() };
/// # let _ = quirks;
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quirks {
    /// A request for a range is answered with 200 and the whole content.
    pub ignores_range: bool,
    /// There is no `ETag`.
    pub no_etag: bool,
    /// Each answer has another `ETag`; in a repository, digests that are not of the content.
    pub wrong_etag: bool,
    /// There is no `Content-Length`; the end of the connection is that of the body.
    pub no_length: bool,
}

/// Content of one file.
///
/// # Examples
///
/// ```
/// use sparse_remote::testing::Content;
///
/// let content = Content::new(vec![0; 1000]);
/// assert_ne!(content.etag(), Content::new(vec![0; 1000]).etag());
/// ```
#[derive(Clone)]
pub struct Content {
    pub(super) source: Arc<dyn ByteSource>,
    pub(super) quirks: Quirks,
    etag: String,
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Content")
            .field("len", &self.source.byte_len())
            .field("quirks", &self.quirks)
            .field("etag", &self.etag)
            .finish()
    }
}

impl Content {
    /// Creates a content with an ETag that no other has.
    pub fn new(source: impl ByteSource + 'static) -> Content {
        static MADE: AtomicU64 = AtomicU64::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let etag = format!("{:x}-{number:x}", source.byte_len());
        Content { source: Arc::new(source), quirks: Quirks::default(), etag }
    }

    /// Sets the oddities.
    #[must_use]
    pub fn with_quirks(self, quirks: Quirks) -> Content {
        Content { quirks, ..self }
    }

    /// Returns the ETag, without quotation marks.
    pub fn etag(&self) -> &str {
        &self.etag
    }

    /// Calls `each` with all bytes, in blocks.
    fn read(&self, mut each: impl FnMut(&[u8])) -> Result<()> {
        let len = self.source.byte_len();
        let mut at = 0;
        while at < len {
            let now = (len - at).min(BLOCK as u64);
            each(&self.source.bytes_at(at, now as usize)?);
            at += now;
        }
        Ok(())
    }
}

/// Who may read a repository.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Access {
    /// Everybody.
    #[default]
    Open,
    /// Everybody sees its files' names, and whoever has a full token reads them.
    Gated,
    /// Whoever has a full token; to others it does not exist.
    Private,
}

/// File of a repository.
#[derive(Clone, Debug)]
pub(super) struct RepoFile {
    pub(super) content: Content,
    /// Name that git has for the content, or for the pointer to it.
    pub(super) oid: String,
    /// SHA-256 of the content, of a large file.
    pub(super) sha256: Option<String>,
}

/// Files of a commit by their paths.
pub(super) type Files = BTreeMap<String, RepoFile>;

/// A model or dataset, with its branches.
///
/// # Examples
///
/// ```
/// use sparse_remote::testing::{Access, Repo};
///
/// let repo = Repo::dataset("org/name")
///     .with_file("README.md", *b"# A dataset")
///     .with_large_file("data/train-0.parquet", vec![0; 1000])
///     .with_access(Access::Gated);
/// assert_eq!(repo.commit("main").map(|hash| hash.len()), Some(40));
/// ```
#[derive(Clone, Debug)]
pub struct Repo {
    pub(super) id: String,
    pub(super) dataset: bool,
    pub(super) access: Access,
    /// Old name, which is redirected.
    pub(super) formerly: Option<String>,
    branches: BTreeMap<String, String>,
    commits: BTreeMap<String, Files>,
    /// Branch that files are added to.
    branch: String,
}

impl Repo {
    /// Creates a model without files; its branch `main` begins with the first.
    pub fn model(id: &str) -> Repo {
        Repo {
            id: id.to_owned(),
            dataset: false,
            access: Access::Open,
            formerly: None,
            branches: BTreeMap::new(),
            commits: BTreeMap::new(),
            branch: "main".to_owned(),
        }
    }

    /// Creates a dataset without files.
    pub fn dataset(id: &str) -> Repo {
        Repo { dataset: true, ..Repo::model(id) }
    }

    /// Sets who may read it.
    #[must_use]
    pub fn with_access(self, access: Access) -> Repo {
        Repo { access, ..self }
    }

    /// Sets an old name, requests for which are redirected.
    #[must_use]
    pub fn with_former_name(self, id: &str) -> Repo {
        Repo { formerly: Some(id.to_owned()), ..self }
    }

    /// Goes on with `branch`, which begins without files unless it exists.
    #[must_use]
    pub fn on_branch(mut self, branch: &str) -> Repo {
        self.branch = branch.to_owned();
        let files = self.files(branch).cloned().unwrap_or_default();
        self.record(files);
        self
    }

    /// Adds or replaces a file that git keeps itself.
    #[must_use]
    pub fn with_file(mut self, path: &str, content: impl AsRef<[u8]>) -> Repo {
        self.put(path, Content::new(content.as_ref().to_vec()), false);
        self
    }

    /// Adds or replaces a large file, which is on the blob host.
    #[must_use]
    pub fn with_large_file(mut self, path: &str, content: impl AsRef<[u8]>) -> Repo {
        self.put(path, Content::new(content.as_ref().to_vec()), true);
        self
    }

    /// Adds all files of a folder; those of 10 MiB, weights and tables are large ones.
    ///
    /// # Errors
    /// `Io` and `NotFound`.
    pub fn with_folder(mut self, folder: &Path) -> Result<Repo> {
        for (path, name) in walk(folder)? {
            let source = FileSource::new(open_file(&path)?)?;
            let weights = [".safetensors", ".parquet", ".sparse", ".arrow", ".bin"];
            let large = source.byte_len() >= LARGE || weights.iter().any(|end| name.ends_with(end));
            self.put(&name, Content::new(source), large);
        }
        Ok(self)
    }

    /// Adds or replaces a file in a new commit of the current branch.
    pub fn put(&mut self, path: &str, content: Content, large: bool) {
        let mut files = self.files(&self.branch).cloned().unwrap_or_default();
        files.insert(path.to_owned(), RepoFile::new(content, large));
        self.record(files);
    }

    /// Makes one commit of several changes to a branch; returns its hash.
    pub(super) fn change(
        &mut self,
        branch: &str,
        changes: Vec<(String, Option<RepoFile>)>,
    ) -> String {
        let mut files = self.files(branch).cloned().unwrap_or_default();
        for (path, file) in changes {
            match file {
                Some(file) => drop(files.insert(path, file)),
                None => drop(files.remove(&path)),
            }
        }
        self.branch = branch.to_owned();
        self.record(files)
    }

    /// Returns the hash of the commit that a branch is at.
    pub fn commit(&self, branch: &str) -> Option<&str> {
        self.branches.get(branch).map(String::as_str)
    }

    /// Returns the commit's hash and files of a branch or commit.
    pub(super) fn resolve(&self, revision: &str) -> Option<(&str, &Files)> {
        let hash = self.branches.get(revision).map_or(revision, String::as_str);
        self.commits.get_key_value(hash).map(|(hash, files)| (hash.as_str(), files))
    }

    /// Returns the files of all commits.
    pub(super) fn all_files(&self) -> impl Iterator<Item = &RepoFile> {
        self.commits.values().flat_map(BTreeMap::values)
    }

    fn files(&self, branch: &str) -> Option<&Files> {
        self.commits.get(self.branches.get(branch)?)
    }

    fn record(&mut self, files: Files) -> String {
        let mut digest = Sha1::new();
        digest.update(self.id.as_bytes());
        digest.update(&[0, u8::from(self.dataset)]);
        for (path, file) in &files {
            digest.update(format!("{path}\0{}\n", file.oid).as_bytes());
        }
        let hash = digest.hex();
        self.commits.insert(hash.clone(), files);
        self.branches.insert(self.branch.clone(), hash.clone());
        hash
    }
}

impl RepoFile {
    pub(super) fn new(content: Content, large: bool) -> RepoFile {
        let len = content.source.byte_len();
        let mut git = Sha1::of_git_blob(len);
        let mut sha256 = Sha256::new();
        let read =
            content.read(|block| if large { sha256.update(block) } else { git.update(block) });
        // What cannot be read, or must not fit, has digests that nothing has.
        let wrong = read.is_err() || content.quirks.wrong_etag;
        if wrong {
            git.update(b"?");
            sha256.update(b"?");
        }
        let sha256 = large.then(|| hex(&sha256.finalize()));
        if let Some(sha256) = &sha256 {
            git = Sha1::of_git_blob(pointer(sha256, len).len() as u64);
            git.update(pointer(sha256, len).as_bytes());
        }
        RepoFile { content, oid: git.hex(), sha256 }
    }
}

/// Returns what git keeps in the place of a large file.
pub(super) fn pointer(sha256: &str, len: u64) -> String {
    format!("version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {len}\n")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Lists the files below a folder: where they are, and their names with `/`, sorted.
fn walk(folder: &Path) -> Result<Vec<(std::path::PathBuf, String)>> {
    let mut found = Vec::new();
    let mut todo = vec![(folder.to_owned(), String::new())];
    while let Some((folder, prefix)) = todo.pop() {
        let failed = |e| Error::io("cannot list", e).in_file(folder.display().to_string());
        for entry in std::fs::read_dir(&folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let name = format!("{prefix}{name}");
            if path.is_dir() {
                todo.push((path, format!("{name}/")));
            } else {
                found.push((path, name));
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Everything that a server has.
///
/// # Examples
///
/// ```
/// use sparse_remote::testing::{Content, Repo, Site};
///
/// let site = Site::new()
///     .with_repo(Repo::model("org/name").with_file("config.json", *b"{}"))
///     .with_file("a.bin", Content::new(vec![0; 1000]))
///     .with_token("secret");
/// # let _ = site;
/// ```
#[derive(Clone, Debug)]
pub struct Site {
    pub(super) repos: Vec<Repo>,
    pub(super) files: BTreeMap<String, Content>,
    /// Tokens, and whether they may read what is gated or private.
    pub(super) tokens: BTreeMap<String, bool>,
    /// Entries of one answer that lists files.
    pub(super) page: usize,
    /// Bytes of a part in which longer files must be uploaded; 0 for files in one.
    pub(super) part: u64,
    /// Contents that were uploaded, by SHA-256, and parts of them.
    pub(super) uploads: BTreeMap<String, Vec<u8>>,
}

impl Default for Site {
    fn default() -> Site {
        Site::new()
    }
}

impl Site {
    /// Creates a site that has nothing.
    pub fn new() -> Site {
        Site {
            repos: Vec::new(),
            files: BTreeMap::new(),
            tokens: BTreeMap::new(),
            page: 1000,
            part: 0,
            uploads: BTreeMap::new(),
        }
    }

    /// Adds a repository, or the branches of one that is there.
    #[must_use]
    pub fn with_repo(mut self, repo: Repo) -> Site {
        let same = |other: &&mut Repo| other.id == repo.id && other.dataset == repo.dataset;
        match self.repos.iter_mut().find(same) {
            Some(other) => {
                other.branches.extend(repo.branches);
                other.commits.extend(repo.commits);
            }
            None => self.repos.push(repo),
        }
        self
    }

    /// Adds a plain file, served at `/files/NAME`.
    #[must_use]
    pub fn with_file(mut self, name: &str, content: Content) -> Site {
        self.set_file(name, content);
        self
    }

    /// Adds a token that may read and write everything.
    #[must_use]
    pub fn with_token(mut self, token: &str) -> Site {
        self.tokens.insert(token.to_owned(), true);
        self
    }

    /// Adds a token that is valid and may read only what is open.
    #[must_use]
    pub fn with_guest_token(mut self, token: &str) -> Site {
        self.tokens.insert(token.to_owned(), false);
        self
    }

    /// Sets how many entries one answer lists; 1000 by default.
    #[must_use]
    pub fn with_page(self, page: usize) -> Site {
        Site { page: page.max(1), ..self }
    }

    /// Makes clients upload files in parts of this many bytes.
    #[must_use]
    pub fn with_part(self, part: u64) -> Site {
        Site { part, ..self }
    }

    /// Adds or replaces a plain file.
    pub fn set_file(&mut self, name: &str, content: Content) {
        self.files.insert(name.to_owned(), content);
    }

    /// Returns the repository with this id.
    pub fn repo(&mut self, id: &str) -> Option<&mut Repo> {
        self.repos.iter_mut().find(|repo| repo.id == id)
    }
}
