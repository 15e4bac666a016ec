//! Files into a repository: contents first, and then one commit of all.

use super::address::Address;
use super::listing::{Digest, HubFile, MOST_LIST, is_hex, json_of, strange};
use super::progress::FetchProgress;
use super::refusal::Failure;
use super::repo::HubRepo;
use super::upload::{Counted, Upload};
use crate::git_hash::Sha1;
use crate::http::{Attempt, base64};
use crate::{Answer, Call, Method, RepoKind, Url};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use sparse_core::{ByteSource, Error, ErrorKind, Executor, Result, check_path};
use sparse_output::Overwrite;
use std::fmt;
use std::sync::{Mutex, PoisonError};

/// Bytes of a file by which the Hub decides how it is kept.
const SAMPLE: u64 = 512;
/// Files that one request asks about.
const MOST_ASKED: usize = 100;
/// How often a content is sent by a new plan after the first one failed.
const MOST_PLANS: usize = 3;
/// Longest file that becomes part of the commit itself, in bytes.
const MOST_INLINE: u64 = 16 << 20;

/// File to be pushed to a repository.
///
/// # Examples
///
/// ```
/// use sparse_remote::PushFile;
///
/// let card = b"# A delta\n".to_vec();
/// let file = PushFile::new("README.md", &card);
/// ```
#[derive(Clone)]
pub struct PushFile<'a> {
    path: String,
    source: &'a dyn ByteSource,
    replaces: bool,
}

impl<'a> PushFile<'a> {
    /// Gives bytes a path below the root of the repository, with `/`.
    pub fn new(path: impl Into<String>, source: &'a dyn ByteSource) -> PushFile<'a> {
        PushFile { path: path.into(), source, replaces: false }
    }

    /// Lets this file replace one that is there, whatever holds for the others.
    #[must_use]
    pub fn replacing(self) -> PushFile<'a> {
        PushFile { replaces: true, ..self }
    }
}

impl fmt::Debug for PushFile<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let len = self.source.byte_len();
        f.debug_struct("PushFile").field("path", &self.path).field("len", &len).finish()
    }
}

/// File with what the Hub knows it by.
struct Hashed<'a> {
    file: &'a PushFile<'a>,
    size: u64,
    sha256: String,
    git: String,
    /// The Hub keeps it as a large file.
    is_large: bool,
}

impl HubRepo {
    /// Creates the repository, private or for everybody; returns whether it is new.
    ///
    /// # Errors
    /// `InvalidArgument` for a name without its owner; `AccessDenied` without a token that may
    /// write; `Unavailable`.
    pub fn create(&self, private: bool) -> Result<bool> {
        self.check_writable()?;
        let Address { endpoint, kind, id } = self.address();
        // The Hub would make it the account's, under another name than the one that was asked for.
        let Some((organization, name)) = id.split_once('/') else {
            let e = format!("there is no such repository: name its owner as well, as you/{id}");
            return Err(Error::invalid_argument(e).in_file(self.address().page().to_string()));
        };
        let kind = if kind == RepoKind::Dataset { "dataset" } else { "model" };
        let mut body = json!({ "name": name, "organization": organization, "type": kind });
        if private {
            body["private"] = json!(true);
            body["visibility"] = json!("private");
        }
        let url = endpoint.with_path(["api", "repos", "create"]);
        let answer = self.post(&url, &body)?;
        match answer.status() {
            409 => Ok(false),
            _ if answer.is_success() => Ok(true),
            _ => Err(self.asked().refused_write(answer)),
        }
    }

    /// Pushes files to the branch in one commit, and returns its hash.
    ///
    /// A file that is there as it is stays; if none is new, there is no commit. With
    /// [`Overwrite::Refuse`], a file that is there with another content is an error. The
    /// repository has all of the files afterwards, or none of them.
    ///
    /// # Errors
    /// `AccessDenied` without a token that may write; `NotFound` when there is no such repository;
    /// `AlreadyExists`; `InvalidInput` when somebody else pushed meanwhile, or a file changed;
    /// `Unavailable`; `Cancelled`.
    pub fn push(
        &self,
        files: &[PushFile<'_>],
        message: &str,
        overwrite: Overwrite,
        progress: &dyn FetchProgress,
    ) -> Result<String> {
        self.check_writable()?;
        let (head, there) = self.head()?;
        let mut hashed = Vec::new();
        for file in files {
            check_path(&file.path)?;
            let new = self.hash(file).map_err(|e| e.in_file(file.path.clone()))?;
            match there.iter().find(|old| old.path == file.path) {
                Some(old) if new.is(old) => {}
                Some(_) if overwrite == Overwrite::Refuse && !file.replaces => {
                    let e = format!(
                        "{} has it already, with another content, and replacing was not asked for",
                        self.address().page()
                    );
                    return Err(Error::new(ErrorKind::AlreadyExists, e).in_file(&*file.path));
                }
                _ => hashed.push(new),
            }
        }
        if let (true, Some(head)) = (hashed.is_empty(), &head) {
            return Ok(head.clone());
        }
        self.ask_how(&mut hashed)?;
        self.upload(&hashed, progress)?;
        for file in files {
            file.source.check_unchanged().map_err(|e| e.in_file(file.path.clone()))?;
        }
        self.make_commit(&hashed, message, head.as_deref())
    }

    /// Refuses what cannot be written to.
    fn check_writable(&self) -> Result<()> {
        self.check()?;
        let place = |e: Error| e.in_file(self.address().page().to_string());
        let asked = self.asked();
        if self.is_offline() {
            let e = "HF_HUB_OFFLINE is set, and pushing needs the Hub: unset it";
            return Err(place(Error::new(ErrorKind::InvalidArgument, e)));
        }
        if !asked.with_token {
            let e = "pushing needs a token that may write: set HF_TOKEN, or run `hf auth login`";
            return Err(place(Error::new(ErrorKind::AccessDenied, e)));
        }
        Ok(())
    }

    /// Returns the commit of the branch now, and its files; nothing for a repository without any.
    fn head(&self) -> Result<(Option<String>, Vec<HubFile>)> {
        // A value of its own, for which commit was asked for before.
        let now = self.clone().revision(self.asked().revision);
        match now.resolve(self.client()) {
            Ok(head) => {
                let files = now.list(self.client(), &head)?;
                Ok((Some(head), files))
            }
            Err(Failure { is_gone: true, .. }) if self.asked().revision == "main" => {
                Ok((None, Vec::new()))
            }
            Err(failure) => Err(failure.error),
        }
    }

    fn hash<'f>(&self, file: &'f PushFile<'f>) -> Result<Hashed<'f>> {
        let size = file.source.byte_len();
        let (mut sha256, mut git) = (Sha256::new(), Sha1::of_git_blob(size));
        let mut at = 0;
        while at < size {
            self.client().cancel().check()?;
            let block = file.source.bytes_at(at, (size - at).min(1 << 20) as usize)?;
            sha256.update(&block);
            git.update(&block);
            at += block.len() as u64;
        }
        let sha256 = sha256.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Hashed { file, size, sha256, git: git.hex(), is_large: false })
    }

    /// Asks the Hub how each file is to be kept.
    fn ask_how(&self, files: &mut [Hashed<'_>]) -> Result<()> {
        let url = self.address().api("preupload", self.asked().revision)?;
        for files in files.chunks_mut(MOST_ASKED) {
            let mut asked = Vec::new();
            for Hashed { file, size, .. } in files.iter() {
                let sample = file.source.bytes_at(0, (*size).min(SAMPLE) as usize)?;
                let sample = base64(&sample);
                asked.push(json!({ "path": file.path, "size": size, "sample": sample }));
            }
            let answer = self.success(self.post(&url, &json!({ "files": asked }))?)?;
            let answer = json_of(answer)?;
            let votes = answer.get("files").and_then(Value::as_array);
            let place = |e: Error| e.in_file(url.to_string());
            let votes = votes.ok_or_else(|| place(strange("how files are kept")))?;
            for hashed in files {
                let is_it = |vote: &&Value| text(vote, "path") == Some(&*hashed.file.path);
                let vote = votes.iter().find(is_it).and_then(|vote| text(vote, "uploadMode"));
                // An empty file cannot be a large one.
                hashed.is_large = vote == Some("lfs") && hashed.size > 0;
                if !hashed.is_large && hashed.size > MOST_INLINE {
                    return Err(strange("a place for a large file").in_file(&*hashed.file.path));
                }
            }
        }
        Ok(())
    }

    /// Uploads the contents of large files that the Hub does not have.
    fn upload(&self, files: &[Hashed<'_>], progress: &dyn FetchProgress) -> Result<()> {
        let large: Vec<_> = files.iter().filter(|file| file.is_large).collect();
        let mut uploads = Vec::new();
        for files in large.chunks(MOST_ASKED) {
            let plans = self.ask_where(files)?;
            let missing = files.iter().zip(plans).filter_map(|(file, plan)| Some((*file, plan?)));
            uploads.extend(missing);
        }
        progress.plan(uploads.len(), uploads.iter().map(|(file, _)| file.size).sum());
        let failed: Mutex<Option<Error>> = Mutex::new(None);
        let lock = || failed.lock().unwrap_or_else(PoisonError::into_inner);
        let executor: &dyn Executor = self.executor();
        executor.run(uploads.len(), &|i| {
            let Some((file, upload)) = uploads.get(i) else { return };
            if lock().is_some() {
                return;
            }
            let path = &file.file.path;
            progress.begin(path, file.size, 0);
            let counted = Counted::new(file.file.source, path, progress);
            match self.send(file, upload, &counted) {
                Ok(()) => progress.end(path),
                Err(e) => drop(lock().get_or_insert(e)),
            }
        });
        failed.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }

    /// Asks where contents are to be put; `None` for those that the Hub has.
    fn ask_where(&self, files: &[&Hashed<'_>]) -> Result<Vec<Option<Upload>>> {
        let url = self.address().batch()?;
        let objects = files.iter().map(|f| json!({ "oid": f.sha256, "size": f.size }));
        let body = json!({
            "operation": "upload", "transfers": ["basic", "multipart"], "hash_algo": "sha256",
            "objects": objects.collect::<Vec<_>>(), "ref": { "name": self.asked().revision },
        });
        let answer = json_of(self.success(self.post(&url, &body)?)?)?;
        let plan = |file: &&Hashed<'_>| {
            let plan = Upload::of(&answer, (&file.sha256, file.size), &url);
            plan.map_err(|e| e.in_file(url.to_string()))
        };
        files.iter().map(plan).collect()
    }

    /// Sends a content, by a new plan where the old one is no longer good.
    fn send(&self, file: &Hashed<'_>, plan: &Upload, source: &Counted<'_>) -> Result<()> {
        let mut sent = plan.send(self.client(), source);
        for _ in 0..MOST_PLANS {
            match &sent {
                Ok(()) => break,
                Err(e) if !is_worth_a_plan(e) => break,
                Err(_) => {}
            }
            // It may have come though the answer got lost; addresses are good for a while only.
            match self.ask_where(&[file])?.pop().flatten() {
                Some(plan) => sent = plan.send(self.client(), source),
                None => sent = Ok(()),
            }
        }
        sent
    }

    fn make_commit(
        &self,
        files: &[Hashed<'_>],
        message: &str,
        parent: Option<&str>,
    ) -> Result<String> {
        let mut header = json!({ "summary": message, "description": "" });
        if let Some(parent) = parent {
            header["parentCommit"] = json!(parent);
        }
        let mut lines = json!({ "key": "header", "value": header }).to_string();
        for hashed in files {
            lines.push('\n');
            lines += &hashed.line()?.to_string();
        }
        lines.push('\n');
        let url = self.address().api("commit", self.asked().revision)?;
        let call = Call::new(Method::Post, &url).header("content-type", "application/x-ndjson");
        let call = call.bytes(lines.as_bytes());
        let mut is_unsure = false;
        self.client().retry(|| {
            let failed = match self.try_commit(&call) {
                Ok(commit) => return Ok(commit),
                Err(failed) => failed,
            };
            // The answer may be lost, or one before, and the commit made.
            is_unsure |= matches!(failed, Attempt::Again(..));
            if is_unsure
                && let Ok((Some(head), there)) = self.head()
                && files.iter().all(|file| file.is_in(&there))
            {
                return Ok(head);
            }
            Err(failed)
        })
    }

    fn try_commit(&self, call: &Call<'_>) -> Result<String, Attempt> {
        let answer = self.client().try_send(call)?;
        let place = answer.url().to_string();
        if answer.status() == 412 {
            let e = "somebody else pushed to the branch meanwhile: try again";
            return Err(Error::new(ErrorKind::InvalidInput, e).in_file(place).into());
        }
        let answer = json_of(self.success(answer)?).map_err(|e| match e.kind() {
            ErrorKind::Unavailable => Attempt::Again(e, None),
            _ => e.into(),
        })?;
        let commit = text(&answer, "commitOid").filter(|commit| is_hex(commit, 40));
        Ok(commit.ok_or_else(|| strange("a commit").in_file(place))?.to_owned())
    }

    fn post(&self, url: &Url, body: &Value) -> Result<Answer> {
        let body = body.to_string();
        let call = Call::new(Method::Post, url).header("content-type", "application/json");
        let call = call.header("accept", "application/json").bytes(body.as_bytes());
        self.client().send_whole(&call, MOST_LIST)
    }

    fn success(&self, answer: Answer) -> Result<Answer> {
        if answer.is_success() { Ok(answer) } else { Err(self.asked().refused_write(answer)) }
    }
}

/// Returns whether another plan of the Hub may help against a failure.
fn is_worth_a_plan(e: &Error) -> bool {
    !matches!(e.kind(), ErrorKind::Cancelled | ErrorKind::LimitExceeded | ErrorKind::InvalidInput)
}

impl Hashed<'_> {
    /// Returns whether it has the content of `old`.
    fn is(&self, old: &HubFile) -> bool {
        match &old.digest {
            Digest::Sha256(sha256) => *sha256 == self.sha256,
            Digest::Git(git) => *git == self.git,
        }
    }

    fn is_in(&self, files: &[HubFile]) -> bool {
        files.iter().any(|old| old.path == self.file.path && self.is(old))
    }

    /// Returns what the commit says of it.
    fn line(&self) -> Result<Value> {
        let path = &self.file.path;
        if self.is_large {
            let value =
                json!({ "path": path, "algo": "sha256", "oid": self.sha256, "size": self.size });
            return Ok(json!({ "key": "lfsFile", "value": value }));
        }
        let len = usize::try_from(self.size).unwrap_or(usize::MAX);
        let content = base64(&self.file.source.bytes_at(0, len)?);
        let value = json!({ "path": path, "encoding": "base64", "content": content });
        Ok(json!({ "key": "file", "value": value }))
    }
}

fn text<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    value.get(name)?.as_str()
}
