//! Routes of the Hub.

use super::answer::Answer;
use super::blobs::{BLOB_HOST, signature};
use super::site::{Access, Files, Repo, RepoFile, Site, pointer};
use super::wire::Incoming;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// What a request names: a repository, what to do, and with which revision and file.
struct Named<'a> {
    repo: &'a Repo,
    verb: &'a str,
    revision: &'a str,
    path: String,
}

/// Finds the repository that the segments of a path begin with.
///
/// `needs_content` is whether names of files are not enough.
fn find<'a>(
    site: &'a Site,
    request: &Incoming,
    dataset: bool,
    segments: &'a [&'a str],
) -> Result<Named<'a>, Answer> {
    let verbs = ["revision", "tree", "resolve"];
    let words = (1..=2).find(|at| segments.get(*at).is_some_and(|word| verbs.contains(word)));
    let words = words.unwrap_or(segments.len());
    let (id, rest) = segments.split_at(words);
    let id = id.join("/");
    let (verb, rest) = rest.split_first().unwrap_or((&"revision", &[]));
    let (revision, path) = rest.split_first().unwrap_or((&"main", &[]));

    let rights = match request.token() {
        Some(token) => Some(*site.tokens.get(token).ok_or_else(|| {
            Answer::refusal(401, "", "Invalid credentials in Authorization header")
        })?),
        None => None,
    };
    let full = rights == Some(true);
    let named = |name: &str, repo: &Repo| name == id && repo.dataset == dataset;
    let found = site.repos.iter().find(|repo| named(&repo.id, repo));
    let found = found.filter(|repo| repo.access != Access::Private || full);
    let Some(repo) = found else {
        let moved = |repo: &&Repo| repo.formerly.as_ref().is_some_and(|old| named(old, repo));
        if let Some(repo) = site.repos.iter().find(moved) {
            let to = request.target.replacen(&id, &repo.id, 1);
            return Err(Answer::redirect(307, to));
        }
        // To strangers, what they may not see and what is not there look the same.
        return Err(match rights {
            Some(_) => Answer::refusal(404, "RepoNotFound", "Repository not found"),
            None => Answer::refusal(401, "RepoNotFound", "Invalid username or password."),
        });
    };
    if repo.access == Access::Gated && *verb == "resolve" && !full {
        return Err(match rights {
            Some(_) => {
                let message = "Access is restricted and you are not in the authorized list.";
                Answer::refusal(403, "GatedRepo", message)
            }
            None => {
                let message = "Access is restricted. You must be authenticated to access it.";
                Answer::refusal(401, "GatedRepo", message)
            }
        });
    }
    Ok(Named { repo, verb, revision, path: path.join("/") })
}

/// Returns the commit of the revision that a request names.
fn commit<'a>(named: &Named<'a>) -> Result<(&'a str, &'a Files), Answer> {
    named.repo.resolve(named.revision).ok_or_else(|| {
        let message = format!("Invalid rev id: {}", named.revision);
        Answer::refusal(404, "RevisionNotFound", &message)
    })
}

/// Answers below `/api/models/` and `/api/datasets/`.
pub(super) fn api(site: &mut Site, request: &Incoming, dataset: bool, segments: &[&str]) -> Answer {
    let answered = find(site, request, dataset, segments).and_then(|named| {
        let (hash, files) = commit(&named)?;
        match named.verb {
            "revision" => Ok(Answer::json(&info(named.repo, hash, files))),
            "tree" => Ok(tree(site, request, &named, files)),
            _ => Err(Answer::status(404)),
        }
    });
    answered.unwrap_or_else(|refusal| refusal)
}

/// Describes a repository at a commit.
fn info(repo: &Repo, hash: &str, files: &Files) -> Value {
    let siblings: Vec<_> = files.keys().map(|path| json!({ "rfilename": path })).collect();
    json!({
        "_id": "0", "id": repo.id, "modelId": repo.id, "sha": hash, "siblings": siblings,
        "private": repo.access == Access::Private, "gated": gated(repo.access),
        "disabled": false, "downloads": 0, "likes": 0, "tags": [],
        "createdAt": "2026-01-01T00:00:00.000Z", "lastModified": "2026-01-01T00:00:00.000Z",
    })
}

fn gated(access: Access) -> Value {
    if access == Access::Gated { json!("auto") } else { json!(false) }
}

/// Lists files and folders, a page of them.
fn tree(site: &Site, request: &Incoming, named: &Named<'_>, files: &Files) -> Answer {
    let prefix = if named.path.is_empty() { String::new() } else { format!("{}/", named.path) };
    let recursive = request.query("recursive").is_some_and(|v| v.eq_ignore_ascii_case("true"));
    let mut folders = BTreeSet::new();
    let mut entries = Vec::new();
    for (path, file) in files {
        let Some(below) = path.strip_prefix(&prefix) else { continue };
        let ends = below.match_indices('/').map(|(at, _)| prefix.len() + at);
        folders.extend(ends.filter_map(|end| path.get(..end)));
        if recursive || !below.contains('/') {
            entries.push(entry(path, file));
        }
    }
    let shown =
        |path: &&str| recursive || !path.get(prefix.len()..).is_some_and(|p| p.contains('/'));
    let folders = folders.into_iter().filter(shown);
    let oid = "0".repeat(40);
    entries.extend(
        folders.map(|path| json!({ "type": "directory", "oid": oid, "size": 0, "path": path })),
    );
    let from = request.query("cursor").and_then(|c| c.parse::<usize>().ok()).unwrap_or(0);
    let end = from.saturating_add(site.page).min(entries.len());
    let page = Value::from(entries.get(from..end).unwrap_or_default().to_vec());
    let answer = Answer::json(&page);
    if end == entries.len() {
        return answer;
    }
    let host = request.header("host").unwrap_or_default();
    let path = request.target.split('?').next().unwrap_or_default();
    let next = format!("http://{host}{path}?recursive={recursive}&cursor={end}");
    answer.with("Link", format!("<{next}>; rel=\"next\""))
}

/// Describes a file as lists have it.
fn entry(path: &str, file: &RepoFile) -> Value {
    let size = file.content.source.byte_len();
    let mut entry = json!({ "type": "file", "oid": file.oid, "size": size, "path": path });
    if let (Some(sha256), Some(fields)) = (&file.sha256, entry.as_object_mut()) {
        let pointer = pointer(sha256, size).len();
        let lfs = json!({ "oid": sha256, "size": size, "pointerSize": pointer });
        fields.insert("lfs".to_owned(), lfs);
    }
    entry
}

/// Finds the file that a request names.
fn file<'a>(named: &Named<'a>) -> Result<(&'a str, &'a RepoFile), Answer> {
    let (hash, files) = commit(named)?;
    let file = files.get(&named.path).ok_or_else(|| {
        Answer::refusal(404, "EntryNotFound", "Entry not found").with("X-Repo-Commit", hash)
    })?;
    Ok((hash, file))
}

/// Answers a request for a file with where it is.
///
/// A large one is on the blob host, any other elsewhere on this one. `place` is whether it is of a
/// dataset, and the port.
pub(super) fn resolve(
    site: &Site,
    request: &Incoming,
    place: (bool, u16),
    segments: &[&str],
) -> Answer {
    let (dataset, port) = place;
    let answered = find(site, request, dataset, segments).and_then(|named| {
        if named.verb != "resolve" {
            return Err(Answer::status(404));
        }
        let (hash, file) = file(&named)?;
        let answer = match &file.sha256 {
            Some(sha256) => {
                let query = format!("X-Signature={}", signature(sha256));
                let to = format!("http://{BLOB_HOST}:{port}/blobs/{sha256}?{query}");
                Answer::redirect(302, to).with("X-Linked-Etag", format!("\"{sha256}\""))
            }
            None => {
                let kind = if dataset { "datasets" } else { "models" };
                let raw = request.target.split_once("/resolve/").map_or("", |(_, rest)| rest);
                let raw = raw.split_once('/').map_or("", |(_, path)| path);
                let to =
                    format!("/api/resolve-cache/{kind}/{}/resolve/{hash}/{raw}", named.repo.id);
                Answer::redirect(307, to).with("X-Linked-Etag", format!("\"{}\"", file.oid))
            }
        };
        let size = file.content.source.byte_len();
        Ok(answer.with("X-Repo-Commit", hash).with("X-Linked-Size", size.to_string()))
    });
    answered.unwrap_or_else(|refusal| refusal)
}

/// Answers with a file that is not large.
pub(super) fn cached(site: &Site, request: &Incoming, dataset: bool, segments: &[&str]) -> Answer {
    let answered = find(site, request, dataset, segments).and_then(|named| {
        let (hash, file) = file(&named)?;
        Ok(Answer::content(request, &file.content, &file.oid).with("X-Repo-Commit", hash))
    });
    answered.unwrap_or_else(|refusal| refusal)
}
