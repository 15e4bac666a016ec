//! The Hub and its repositories: from a name to a folder.

use super::address::Address;
use super::download::Downloads;
use super::layout::Layout;
use super::listing::{HubFile, is_hex, json_of, noted, page_of, strange};
use super::plan::Fetched;
use super::progress::FetchProgress;
use super::refusal::{Asked, Failure};
use super::select::Selection;
use super::settings::HubSettings;
use crate::{
    Answer, Call, Client, ClientOptions, HttpSource, HubName, Method, RepoKind, Retry, Url,
};
use sparse_core::{ByteSource, Error, ErrorKind, Executor, Result};
use sparse_model::HubCache;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Pages of a list that are asked for at most: a million files.
const MOST_PAGES: usize = 1000;
/// Longest page of a list, in bytes; the Hub's own are a tenth of that.
const MOST_PAGE: u64 = 8 << 20;
/// Files of a repository, at most: more would take more memory than is worth it.
const MOST_FILES: usize = 200_000;
/// How long the Hub may say nothing where the cache could answer as well.
const QUICK: Duration = Duration::from_secs(10);

/// The Hugging Face Hub, with a cache in front.
///
/// # Examples
///
/// ```no_run
/// use sparse_core::Unobserved;
/// use sparse_remote::{Hub, RepoKind, Selection};
///
/// let hub = Hub::from_env()?;
/// let repo = hub.repo(RepoKind::Model, "org/name").revision("main");
/// let fetched = repo.fetch(&Selection::Model, &Unobserved)?;
/// println!("{}", fetched.folder().display());
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Hub {
    settings: Arc<HubSettings>,
    client: Client,
}

impl Hub {
    /// Creates a Hub with these settings. Opens no connection.
    ///
    /// # Errors
    /// As [`Client::new`].
    pub fn new(settings: HubSettings) -> Result<Hub> {
        let client = client_of(&settings, settings.client.clone())?;
        Ok(Hub { settings: Arc::new(settings), client })
    }

    /// Creates a Hub as the environment says.
    ///
    /// # Errors
    /// As [`HubSettings::from_env`] and [`Client::new`].
    pub fn from_env() -> Result<Hub> {
        Hub::new(HubSettings::from_env()?)
    }

    /// Returns the settings.
    pub fn settings(&self) -> &HubSettings {
        &self.settings
    }

    /// Returns the client, which has the token for the endpoint's host.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Names a repository by its id, at its default branch.
    pub fn repo(&self, kind: RepoKind, id: impl Into<String>) -> HubRepo {
        let (hub, revision) = (self.clone(), "main".to_owned());
        HubRepo { hub, kind, id: id.into(), revision, path: None, commit: OnceLock::new() }
    }

    /// Names the repository of a name that somebody typed, or the file or folder in it.
    pub fn named(&self, name: &HubName) -> HubRepo {
        let mut repo = self.repo(name.kind, &name.id);
        if let Some(revision) = &name.revision {
            repo = repo.revision(revision);
        }
        match &name.file {
            Some(path) => repo.below(path),
            None => repo,
        }
    }
}

fn client_of(settings: &HubSettings, options: ClientOptions) -> Result<Client> {
    let client = Client::new(options)?;
    Ok(match &settings.token {
        Some(token) => client.with_token(&settings.endpoint, token),
        None => client,
    })
}

/// Repository on the Hub, at a revision.
///
/// # Examples
///
/// ```no_run
/// use sparse_core::ByteSource;
/// use sparse_remote::{Hub, RepoKind};
///
/// // Parts of one file, without a copy on the disk.
/// let repo = Hub::from_env()?.repo(RepoKind::Model, "org/delta");
/// let file = repo.open("my.sparse")?;
/// let start = file.bytes_at(0, 8)?;
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Clone)]
pub struct HubRepo {
    hub: Hub,
    kind: RepoKind,
    id: String,
    pub(super) revision: String,
    /// File or folder that is meant, where it is not the whole.
    pub(super) path: Option<String>,
    /// Of the revision, once it is known.
    commit: OnceLock<String>,
}

impl fmt::Debug for HubRepo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HubRepo({} {} @ {})", self.kind.plural(), self.id, self.revision)
    }
}

impl HubRepo {
    /// Chooses a branch, a tag or a commit.
    #[must_use]
    pub fn revision(mut self, revision: impl Into<String>) -> HubRepo {
        self.revision = revision.into();
        self.commit = OnceLock::new();
        self
    }

    /// Restricts what is fetched to a file or folder of the repository.
    ///
    /// Of a folder, what is below is selected as if it were a repository.
    #[must_use]
    pub fn below(self, path: impl Into<String>) -> HubRepo {
        HubRepo { path: Some(path.into()), ..self }
    }

    /// Returns the hash of the commit that the revision is.
    ///
    /// Asked for once; it stays the same for this value and clones of it.
    ///
    /// # Errors
    /// `AccessDenied`, `NotFound`, `Unavailable`; `NotFound` when offline.
    pub fn commit(&self) -> Result<String> {
        Ok(self.resolve(&self.hub.client)?)
    }

    /// Lists the files of the revision.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub fn files(&self) -> Result<Vec<HubFile>> {
        let commit = self.commit()?;
        Ok(self.list(&self.hub.client, &commit)?)
    }

    /// Returns the address of a file, at the commit that the revision is now.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub fn url(&self, file: &str) -> Result<Url> {
        self.address().file(&self.commit()?, file)
    }

    /// Opens a file to be read by ranges, without a copy in the cache.
    ///
    /// # Errors
    /// As [`commit`](Self::commit) and [`HttpSource::open`].
    pub fn open(&self, file: &str) -> Result<HttpSource> {
        let (client, url) = (&self.hub.client, self.url(file)?);
        HttpSource::open(client, &url).map_err(|e| {
            if e.kind() != ErrorKind::AccessDenied && e.kind() != ErrorKind::NotFound {
                return e;
            }
            // The Hub says why in an answer of its own, which leads nowhere else.
            let call = Call::new(Method::Head, &url).stay_at_origin();
            match client.send(&call) {
                Ok(answer) if answer.status() >= 400 => self.asked().refused(answer).error,
                _ => e,
            }
        })
    }

    /// Opens the selected files to be read by ranges, without copies in the cache.
    ///
    /// Each has its path below the root, or below the folder that is meant. Small files that the
    /// choice of others depends on get into the cache all the same.
    ///
    /// # Errors
    /// As [`fetch`](Self::fetch) and [`HttpSource::open`].
    pub fn sources(
        &self,
        selection: &Selection,
        progress: &dyn FetchProgress,
    ) -> Result<Vec<(String, HttpSource)>> {
        let (repo, plan) = self.plan(selection, &self.hub.client, progress)?;
        let folder = self.path.as_ref().map(|path| format!("{path}/"));
        let open = |i: usize| {
            let Some(file) = plan.files.get(i) else { return Ok(None) };
            let source = repo.open(&file.path)?;
            if source.byte_len() != file.size {
                let (have, listed) = (source.byte_len(), file.size);
                let e = format!("the file has {have} bytes, and the Hub lists {listed}");
                return Err(Error::corrupt(e).in_file(source.url().to_string()));
            }
            let below = folder.as_deref().and_then(|folder| file.path.strip_prefix(folder));
            Ok(Some((below.unwrap_or(&file.path).to_owned(), source)))
        };
        let opened = self.hub.settings.executor.try_map(plan.files.len(), open)?;
        Ok(opened.into_iter().flatten().collect())
    }

    /// Brings the selected files into the cache, and returns where they are.
    ///
    /// What is there already is not fetched again, and what came of a file before an interruption
    /// is kept. Where the Hub cannot be reached, or no longer lets this user in, what the cache has
    /// of the revision counts, if that is complete; `progress` is told.
    ///
    /// # Errors
    /// `NotFound` when there is no such repository, revision, or file; `AccessDenied` when it is
    /// gated, or the token is not known; `Unavailable` when the Hub cannot be reached; `Corrupt`
    /// when what comes is not what the Hub states; `Io` when the cache cannot be written;
    /// `Cancelled`. With the URL.
    pub fn fetch(&self, selection: &Selection, progress: &dyn FetchProgress) -> Result<Fetched> {
        let cached = self.cached(selection);
        if self.hub.settings.offline {
            return cached;
        }
        let client = match &cached {
            // Who has what is needed does not wait for long.
            Ok(_) => self.hub.quick_client()?,
            Err(_) => self.hub.client.clone(),
        };
        let (repo, plan) = match (self.plan(selection, &client, progress), cached) {
            (Ok(plan), _) => plan,
            (Err(failure), Ok(cached)) if failure.leaves_cache() => {
                let (id, commit, why) = (&self.id, &cached.commit, failure.error);
                progress.note(&format!("{id} is as the cache has it, at commit {commit}: {why}"));
                return Ok(cached);
            }
            (Err(failure), _) => return Err(failure.error),
        };
        let layout = repo.layout();
        let downloads = repo.downloads(&layout, &plan.commit, progress);
        plan.carry_out(&downloads, &*self.hub.settings.executor)?;
        layout.note_revision(&repo.revision, &plan.commit)?;
        let folder = layout.snapshot(&plan.commit);
        let files = plan.files.into_iter().map(|file| file.path).collect();
        Ok(Fetched { path: repo.path_in(&folder), folder, commit: plan.commit, files })
    }

    /// Returns the selected files of the revision as the cache has them. Opens no connection.
    ///
    /// # Errors
    /// `NotFound` when they are not there, or not all.
    pub fn cached(&self, selection: &Selection) -> Result<Fetched> {
        self.check()?;
        let mut first = None;
        for candidate in selection.candidates(self.revision == "main") {
            let repo = self.at(candidate.branch);
            match repo.cached_at(&candidate.rule) {
                Ok(fetched) => return Ok(fetched),
                Err(e) if e.kind() == ErrorKind::NotFound => drop(first.get_or_insert(e)),
                Err(e) => return Err(e),
            }
        }
        let why = first.map_or_else(String::new, |e| format!(" ({e})"));
        let offline = match self.hub.settings.offline {
            true => ", and HF_HUB_OFFLINE is set: unset it, or fetch it before",
            false => "",
        };
        let (id, revision) = (&self.id, &self.revision);
        let cache = self.hub.settings.cache.display();
        let e = format!("{id} at {revision} is not in the Hugging Face cache{offline}{why}");
        Err(Error::new(ErrorKind::NotFound, e).in_file(cache.to_string()))
    }

    /// Returns what is meant of a snapshot.
    pub(super) fn path_in(&self, snapshot: &Path) -> PathBuf {
        self.path.as_ref().map_or_else(|| snapshot.to_owned(), |path| snapshot.join(path))
    }

    /// Returns the repository at another branch, if one is given.
    pub(super) fn at(&self, branch: Option<&str>) -> HubRepo {
        match branch {
            Some(branch) => self.clone().revision(branch),
            None => self.clone(),
        }
    }

    pub(super) fn downloads<'a>(
        &'a self,
        layout: &'a Layout,
        commit: &'a str,
        progress: &'a dyn FetchProgress,
    ) -> Downloads<'a> {
        let (client, asked) = (&self.hub.client, self.asked());
        Downloads { client, layout, asked, commit, progress, stop: AtomicBool::new(false) }
    }

    pub(super) fn client(&self) -> &Client {
        &self.hub.client
    }

    pub(super) fn executor(&self) -> &dyn Executor {
        &*self.hub.settings.executor
    }

    pub(super) fn is_offline(&self) -> bool {
        self.hub.settings.offline
    }

    pub(super) fn layout(&self) -> Layout {
        Layout::new(&self.hub.settings.cache, self.kind, &self.id)
    }

    pub(super) fn asked(&self) -> Asked<'_> {
        Asked {
            address: self.address(),
            revision: &self.revision,
            with_token: self.hub.settings.token.is_some(),
        }
    }

    pub(super) fn address(&self) -> Address<'_> {
        Address { endpoint: &self.hub.settings.endpoint, kind: self.kind, id: &self.id }
    }

    /// Refuses ids that the Hub cannot have, and that might lead out of the cache.
    pub(super) fn check(&self) -> Result<()> {
        if !HubCache::is_id(&self.id) {
            let e = format!("{:?} is no id of the Hub: org/name is", self.id);
            return Err(Error::invalid_argument(e));
        }
        self.path.as_deref().map_or(Ok(()), sparse_core::check_path)?;
        sparse_core::check_path(&self.revision)
    }

    pub(super) fn resolve(&self, client: &Client) -> Result<String, Failure> {
        if let Some(commit) = self.commit.get() {
            return Ok(commit.clone());
        }
        let commit = if is_hex(&self.revision, 40) {
            self.check()?;
            self.revision.clone()
        } else {
            let url = self.address().api("revision", &self.revision)?;
            let info = json_of(self.get(client, &url)?)?;
            let sha = info.get("sha").and_then(|sha| sha.as_str());
            let sha = sha.filter(|sha| is_hex(sha, 40));
            sha.ok_or_else(|| strange("a commit").in_file(url.to_string()))?.to_owned()
        };
        Ok(self.commit.get_or_init(|| commit).clone())
    }

    pub(super) fn list(&self, client: &Client, commit: &str) -> Result<Vec<HubFile>, Failure> {
        if let Some(files) = noted(&self.layout(), commit) {
            return Ok(files);
        }
        let mut files = Vec::new();
        let mut next = Some(self.address().api("tree", commit)?.with_query("recursive=true"));
        let mut pages = 0;
        while let Some(url) = next {
            pages += 1;
            if pages > MOST_PAGES {
                let e = format!("the list of files has more than {MOST_PAGES} pages");
                return Err(Error::new(ErrorKind::LimitExceeded, e)
                    .in_file(url.to_string())
                    .into());
            }
            next = page_of(self.get(client, &url)?, &mut files)?;
            if files.len() > MOST_FILES {
                let e = format!("the repository has more than {MOST_FILES} files");
                let e = Error::new(ErrorKind::LimitExceeded, e).in_file(url.to_string());
                return Err(e.into());
            }
        }
        Ok(files)
    }

    /// Asks the Hub, which offline nobody does.
    fn get(&self, client: &Client, url: &Url) -> Result<Answer, Failure> {
        self.check()?;
        if self.hub.settings.offline {
            let e = "HF_HUB_OFFLINE is set, and the cache alone does not say: unset it";
            return Err(Error::new(ErrorKind::NotFound, e).in_file(url.to_string()).into());
        }
        let answer = client.send_whole(&Call::new(Method::Get, url), MOST_PAGE)?;
        if answer.is_success() { Ok(answer) } else { Err(self.asked().refused(answer)) }
    }
}

impl Hub {
    /// Returns a client that tries once, and not for long.
    fn quick_client(&self) -> Result<Client> {
        let mut options = self.settings.client.clone();
        options.retry = Retry { attempts: 1, ..options.retry };
        options.stall = options.stall.min(QUICK);
        client_of(&self.settings, options)
    }
}
