//! Routes by which files are uploaded: a vote on each, contents, and one commit of all.

use super::answer::Answer;
use super::blobs::{BLOB_HOST, signature};
use super::site::{Access, Content, Repo, RepoFile, Site};
use super::wire::Incoming;
use serde_json::{Value, json};

/// From this size on, a file must be uploaded as a large one.
const LARGE: u64 = 10 << 20;
/// Endings of files that are always uploaded as large ones.
const ENDINGS: [&str; 5] = [".safetensors", ".sparse", ".parquet", ".bin", ".arrow"];

/// Repository that is written to, and how.
pub(super) struct Target<'a> {
    pub(super) dataset: bool,
    pub(super) id: String,
    pub(super) revision: &'a str,
}

/// Refuses whoever may not write.
fn check_rights(site: &Site, request: &Incoming) -> Result<(), Answer> {
    match request.token().map(|token| site.tokens.get(token)) {
        Some(Some(true)) => Ok(()),
        Some(Some(false)) => {
            Err(Answer::refusal(403, "", "You don't have the rights to write to this repository"))
        }
        Some(None) => Err(Answer::refusal(401, "", "Invalid credentials in Authorization header")),
        None => Err(Answer::refusal(401, "", "Invalid username or password.")),
    }
}

fn body_of(request: &Incoming) -> Result<Value, Answer> {
    serde_json::from_slice(&request.body).map_err(|_| Answer::refusal(400, "", "Not JSON"))
}

/// Returns a field of text; nothing where there is none.
fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// Finds the repository; who asks for it by a name that it had is sent on.
fn repo<'a>(
    site: &'a mut Site,
    request: &Incoming,
    target: &Target<'_>,
) -> Result<&'a mut Repo, Answer> {
    let is_it = |name: &str, repo: &Repo| name == target.id && repo.dataset == target.dataset;
    let had = |repo: &&Repo| repo.formerly.as_ref().is_some_and(|name| is_it(name, repo));
    if let Some(repo) = site.repos.iter().find(had) {
        return Err(Answer::redirect(307, request.target.replacen(&target.id, &repo.id, 1)));
    }
    let missing = || Answer::refusal(404, "RepoNotFound", "Repository not found");
    site.repos.iter_mut().find(|repo| is_it(&repo.id, repo)).ok_or_else(missing)
}

/// Creates a repository.
pub(super) fn create(site: &mut Site, request: &Incoming) -> Result<Answer, Answer> {
    check_rights(site, request)?;
    let body = body_of(request)?;
    let (organization, name) = (text(&body, "organization"), text(&body, "name"));
    let organization = if organization.is_empty() { "me" } else { organization };
    let id = format!("{organization}/{name}");
    let dataset = text(&body, "type") == "dataset";
    let host = request.header("host").unwrap_or_default();
    let prefix = if dataset { "datasets/" } else { "" };
    let mut answer = Answer::json(&json!({ "url": format!("http://{host}/{prefix}{id}") }));
    if site.repos.iter().any(|repo| repo.id == id && repo.dataset == dataset) {
        answer.status = 409;
        return Ok(answer);
    }
    let repo = if dataset { Repo::dataset(&id) } else { Repo::model(&id) };
    let private = body.get("private").and_then(Value::as_bool).unwrap_or(false);
    let access = if private { Access::Private } else { Access::Open };
    // The Hub begins each with a commit.
    site.repos.push(repo.with_access(access).with_file(".gitattributes", "*.bin filter=lfs\n"));
    Ok(answer)
}

/// Says of each file how it is to be uploaded.
pub(super) fn preupload(
    site: &mut Site,
    request: &Incoming,
    target: &Target<'_>,
) -> Result<Answer, Answer> {
    check_rights(site, request)?;
    repo(site, request, target)?;
    let body = body_of(request)?;
    let files = body.get("files").and_then(Value::as_array).cloned().unwrap_or_default();
    let vote = |file: &Value| {
        let path = text(file, "path");
        let size = file.get("size").and_then(Value::as_u64).unwrap_or(0);
        let large = size >= LARGE || ENDINGS.iter().any(|ending| path.ends_with(ending));
        let mode = if large { "lfs" } else { "regular" };
        json!({ "path": path, "uploadMode": mode, "shouldIgnore": false, "oid": null })
    };
    let files: Vec<Value> = files.iter().map(vote).collect();
    Ok(Answer::json(&json!({ "files": files })))
}

/// Says where the contents of large files are to be put.
pub(super) fn batch(
    site: &mut Site,
    request: &Incoming,
    target: &Target<'_>,
    port: u16,
) -> Result<Answer, Answer> {
    check_rights(site, request)?;
    repo(site, request, target)?;
    let body = body_of(request)?;
    let objects = body.get("objects").and_then(Value::as_array).cloned().unwrap_or_default();
    let part = site.part;
    let mut multipart = false;
    let mut answers = Vec::new();
    for object in &objects {
        let oid = text(object, "oid");
        let size = object.get("size").and_then(Value::as_u64).unwrap_or(0);
        let mut answer = json!({ "oid": oid, "size": size });
        if !has(site, oid) {
            let query = format!("X-Signature={}", signature(oid));
            let base = format!("http://{BLOB_HOST}:{port}/uploads/{oid}");
            let host = request.header("host").unwrap_or_default();
            let verify = json!({ "href": format!("http://{host}/uploads/{oid}/verify") });
            let upload = if part > 0 && size > part {
                multipart = true;
                let mut header = json!({ "chunk_size": part.to_string() });
                for number in 1..=size.div_ceil(part) {
                    header[number.to_string()] = json!(format!("{base}/{number}?{query}"));
                }
                json!({ "href": format!("{base}/complete?{query}"), "header": header })
            } else {
                json!({ "href": format!("{base}?{query}"), "header": {} })
            };
            answer["actions"] = json!({ "upload": upload, "verify": verify });
        }
        answers.push(answer);
    }
    let transfer = if multipart { "multipart" } else { "basic" };
    Ok(Answer::json(&json!({ "transfer": transfer, "objects": answers })))
}

/// Returns whether a large content is there, in a repository or uploaded.
fn has(site: &Site, oid: &str) -> bool {
    site.uploads.contains_key(oid)
        || site
            .repos
            .iter()
            .any(|repo| repo.all_files().any(|file| file.sha256.as_deref() == Some(oid)))
}

/// Takes a content, or a part of one, on the host of large files.
pub(super) fn store(site: &mut Site, request: &Incoming, key: &[&str]) -> Result<Answer, Answer> {
    if request.header("authorization").is_some() {
        return Err(Answer::refusal(400, "", "Only one auth mechanism allowed"));
    }
    let oid = key.first().copied().unwrap_or_default();
    let signed = request.query("X-Signature") == Some(signature(oid));
    if request.host() != BLOB_HOST || !signed {
        return Err(Answer::refusal(403, "", "The signature does not match"));
    }
    let key = key.join("/");
    let content = if key.ends_with("/complete") {
        let body = body_of(request)?;
        let parts = body.get("parts").and_then(Value::as_array).cloned().unwrap_or_default();
        let mut whole = Vec::new();
        for part in &parts {
            let number = part.get("partNumber").and_then(Value::as_u64).unwrap_or(0);
            let stored = site.uploads.remove(&format!("{oid}/{number}"));
            let stored = stored.filter(|_| text(part, "etag") == format!("\"part-{number}\""));
            whole.extend(stored.ok_or_else(|| Answer::refusal(400, "", "Unknown part"))?);
        }
        whole
    } else {
        request.body.clone()
    };
    let number = key.split('/').nth(1).filter(|part| *part != "complete");
    if let Some(number) = number {
        let etag = format!("\"part-{number}\"");
        site.uploads.insert(key.clone(), content);
        return Ok(Answer::status(200).with("ETag", etag));
    }
    let content = Content::new(content);
    if RepoFile::new(content.clone(), true).sha256.as_deref() != Some(oid) {
        return Err(Answer::refusal(400, "", "The content has another digest"));
    }
    let bytes = content.source.bytes_at(0, content.source.byte_len() as usize);
    let bytes = bytes.map_err(|_| Answer::status(500))?.into_owned();
    site.uploads.insert(oid.to_owned(), bytes);
    Ok(Answer::status(200))
}

/// Confirms that a content has come.
pub(super) fn verify(site: &Site, request: &Incoming, oid: &str) -> Result<Answer, Answer> {
    check_rights(site, request)?;
    if has(site, oid) { Ok(Answer::json(&json!({}))) } else { Err(Answer::status(404)) }
}

/// Makes a commit of all files, or none.
pub(super) fn commit(
    site: &mut Site,
    request: &Incoming,
    target: &Target<'_>,
) -> Result<Answer, Answer> {
    check_rights(site, request)?;
    let mut changes = Vec::new();
    let mut parent = String::new();
    for line in request.body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let wrong = |what: &str| Answer::refusal(400, "", what);
        let line: Value = serde_json::from_slice(line).map_err(|_| wrong("Not JSON"))?;
        let value = line.get("value").cloned().unwrap_or_default();
        let path = text(&value, "path").to_owned();
        match text(&line, "key") {
            "header" => parent = text(&value, "parentCommit").to_owned(),
            "file" => {
                let bytes = decoded(text(&value, "content")).ok_or_else(|| wrong("No base64"))?;
                changes.push((path, Some(RepoFile::new(Content::new(bytes), false))));
            }
            "lfsFile" => {
                let bytes = site.uploads.get(text(&value, "oid")).cloned();
                let file = match bytes {
                    Some(bytes) => RepoFile::new(Content::new(bytes), true),
                    None => known(site, text(&value, "oid")).ok_or_else(|| wrong("No object"))?,
                };
                changes.push((path, Some(file)));
            }
            "deletedFile" => changes.push((path, None)),
            _ => return Err(wrong("Unknown operation")),
        }
    }
    let host = request.header("host").unwrap_or_default().to_owned();
    let repo = repo(site, request, target)?;
    let head = repo.commit(target.revision).unwrap_or_default();
    if !parent.is_empty() && parent != head {
        let message = "A commit has happened since. Please refresh and try again.";
        return Err(Answer::refusal(412, "", message));
    }
    let hash = repo.change(target.revision, changes);
    let url = format!("http://{host}/{}/commit/{hash}", repo.id);
    Ok(Answer::json(&json!({ "success": true, "commitOid": hash, "commitUrl": url })))
}

/// Returns a large file that some repository has.
fn known(site: &Site, oid: &str) -> Option<RepoFile> {
    let mut files = site.repos.iter().flat_map(|repo| repo.all_files());
    files.find(|file| file.sha256.as_deref() == Some(oid)).cloned()
}

/// Decodes base64.
fn decoded(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let (mut word, mut bits) = (0u32, 0);
    for byte in text.trim_end_matches('=').bytes() {
        let digit = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        (word, bits) = (word << 6 | u32::from(digit), bits + 6);
        if bits >= 8 {
            bits -= 8;
            out.push((word >> bits) as u8);
            word &= (1 << bits) - 1;
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::decoded;

    #[test]
    fn base64() {
        for (text, bytes) in [("", ""), ("Zg==", "f"), ("Zm8=", "fo"), ("Zm9vYmFy", "foobar")] {
            assert_eq!(decoded(text).as_deref(), Some(bytes.as_bytes()));
        }
        assert_eq!(decoded("+/+/"), Some(vec![0xfb, 0xff, 0xbf]));
        assert_eq!(decoded("a b"), None);
    }
}
