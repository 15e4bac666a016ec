//! The content of one large file, put where the Hub says.

use super::listing::strange;
use super::progress::FetchProgress;
use super::refusal::refused_content;
use crate::{Answer, Call, Client, Method, Url};
use serde_json::{Value, json};
use sparse_core::{ByteSource, Error, ErrorKind, Result};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

/// Where a content is to be put.
pub(super) struct Upload {
    sha256: String,
    size: u64,
    /// For the content, or to be told that all parts have come.
    to: Url,
    headers: Vec<(String, String)>,
    parts: Option<Parts>,
    verify: Option<Url>,
}

/// Places of the parts of a content.
struct Parts {
    len: u64,
    to: Vec<Url>,
}

impl Upload {
    /// Reads what the Hub answers about a content; `None` when it has that.
    ///
    /// `from` is who answered: where that is encrypted, no address is followed that is not.
    pub(super) fn of(
        answer: &Value,
        (sha256, size): (&str, u64),
        from: &Url,
    ) -> Result<Option<Upload>> {
        let objects = answer.get("objects").and_then(Value::as_array);
        let is_it = |object: &&Value| object.get("oid").and_then(Value::as_str) == Some(sha256);
        let object = objects.and_then(|objects| objects.iter().find(is_it));
        let object = object.ok_or_else(|| strange("a place for a large file"))?;
        if let Some(error) = object.get("error") {
            let said = error.get("message").and_then(Value::as_str).unwrap_or("no reason given");
            let said: String = said.chars().filter(|c| !c.is_control()).take(200).collect();
            let e = format!("the Hub does not take a large file: {said}");
            return Err(Error::new(ErrorKind::AccessDenied, e));
        }
        let Some(actions) = object.get("actions").filter(|actions| !actions.is_null()) else {
            return Ok(None);
        };
        let Some(upload) = actions.get("upload") else { return Ok(None) };
        let header = upload.get("header").and_then(Value::as_object).cloned().unwrap_or_default();
        let parts = match header.get("chunk_size") {
            Some(len) => Some(Parts::of(&header, (len, size), from)?),
            None => None,
        };
        let given = header.iter().filter(|_| parts.is_none());
        let given = given.filter_map(|(name, v)| Some((name.clone(), v.as_str()?.to_owned())));
        Ok(Some(Upload {
            sha256: sha256.to_owned(),
            size,
            to: href(upload, from)?,
            headers: given.collect(),
            parts,
            verify: actions.get("verify").map(|verify| href(verify, from)).transpose()?,
        }))
    }

    /// Sends the content.
    ///
    /// # Errors
    /// What the host of contents refuses, with its URL.
    pub(super) fn send(&self, client: &Client, source: &dyn ByteSource) -> Result<()> {
        match &self.parts {
            Some(parts) => self.send_parts(parts, client, source)?,
            None => {
                let mut call = Call::new(Method::Put, &self.to).part(source, 0, self.size);
                for (name, value) in &self.headers {
                    call = call.header(name, value.clone());
                }
                taken(client.send(&call)?)?;
            }
        }
        if let Some(verify) = &self.verify {
            self.tell(client, verify, &json!({ "oid": self.sha256, "size": self.size }))?;
        }
        Ok(())
    }

    fn send_parts(&self, parts: &Parts, client: &Client, source: &dyn ByteSource) -> Result<()> {
        let mut sent = Vec::new();
        let mut start = 0;
        for (number, url) in (1..).zip(&parts.to) {
            let len = parts.len.min(self.size - start);
            let call = Call::new(Method::Put, url).part(source, start, len);
            let answer = taken(client.send(&call)?)?;
            let etag = answer.header("etag").map(str::to_owned);
            let etag = etag.ok_or_else(|| strange("an ETag").in_file(url.to_string()))?;
            sent.push(json!({ "partNumber": number, "etag": etag }));
            start += len;
        }
        self.tell(client, &self.to, &json!({ "oid": self.sha256, "parts": sent })).map(drop)
    }

    fn tell(&self, client: &Client, url: &Url, body: &Value) -> Result<Answer> {
        let body = body.to_string();
        let kind = "application/vnd.git-lfs+json";
        let call = Call::new(Method::Post, url).header("content-type", kind).header("accept", kind);
        taken(client.send(&call.bytes(body.as_bytes()))?)
    }
}

impl Parts {
    fn of(
        header: &serde_json::Map<String, Value>,
        (len, size): (&Value, u64),
        from: &Url,
    ) -> Result<Parts> {
        let len = len.as_u64().or_else(|| len.as_str()?.parse().ok()).filter(|len| *len > 0);
        let len = len.ok_or_else(|| strange("the length of a part"))?;
        let mut to = BTreeMap::new();
        for (name, url) in header {
            if let Ok(number) = name.parse::<u64>() {
                to.insert(number, link(url.as_str(), from)?);
            }
        }
        if !to.keys().copied().eq(1..=size.div_ceil(len)) {
            return Err(strange("a place for each part"));
        }
        Ok(Parts { len, to: to.into_values().collect() })
    }
}

/// Returns the answer of a host that took what was sent.
fn taken(answer: Answer) -> Result<Answer> {
    if answer.is_success() { Ok(answer) } else { Err(refused_content(answer)) }
}

fn href(action: &Value, from: &Url) -> Result<Url> {
    link(action.get("href").and_then(Value::as_str), from)
}

/// Reads an address that the server at `from` gave.
fn link(href: Option<&str>, from: &Url) -> Result<Url> {
    let url = from.join(href.ok_or_else(|| strange("a place for a large file"))?)?;
    if from.is_encrypted() && !url.is_encrypted() {
        let e = format!("the server leads from HTTPS to HTTP, to {url}: not followed");
        return Err(Error::new(ErrorKind::Io, e));
    }
    Ok(url)
}

/// Source that tells how far it was read.
pub(super) struct Counted<'a> {
    source: &'a dyn ByteSource,
    path: &'a str,
    progress: &'a dyn FetchProgress,
    /// Bytes that were read, those of failed attempts once.
    read: AtomicU64,
}

impl<'a> Counted<'a> {
    pub(super) fn new(
        source: &'a dyn ByteSource,
        path: &'a str,
        progress: &'a dyn FetchProgress,
    ) -> Counted<'a> {
        Counted { source, path, progress, read: AtomicU64::new(0) }
    }
}

impl ByteSource for Counted<'_> {
    fn byte_len(&self) -> u64 {
        self.source.byte_len()
    }

    fn read_exact_at(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        self.source.read_exact_at(offset, out)?;
        let end = offset + out.len() as u64;
        let before = self.read.fetch_max(end, Ordering::Relaxed);
        if end > before {
            self.progress.advance(self.path, end - before);
        }
        Ok(())
    }
}
