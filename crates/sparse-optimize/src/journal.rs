//! What was measured before, so that a run that was stopped goes on.

use serde::Deserialize;
use serde_json::{Map, Value};
use sparse_core::{Error, Result};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;

/// A file of lines, one for each measurement: its key, and what was found.
pub(crate) struct Journal {
    file: Option<File>,
    known: Vec<Line>,
}

#[derive(Deserialize)]
struct Line {
    key: Value,
    found: Value,
}

impl Journal {
    /// Remembers nothing.
    pub(crate) fn none() -> Journal {
        Journal { file: None, known: Vec::new() }
    }

    /// Opens the journal at `path`, and makes it where there is none.
    ///
    /// A line that was cut off, or is of something else, is passed over.
    pub(crate) fn open(path: &Path) -> Result<Journal> {
        let at = |e| Error::io("cannot open", e).in_file(path.display().to_string());
        let mut file = OpenOptions::new().append(true).create(true).open(path).map_err(at)?;
        let text = fs::read(path).map_err(at)?;
        if text.last().is_some_and(|&byte| byte != b'\n') {
            file.write_all(b"\n").map_err(at)?;
        }
        let lines = text.split(|&byte| byte == b'\n');
        let known = lines.filter_map(|line| serde_json::from_slice(line).ok()).collect();
        Ok(Journal { file: Some(file), known })
    }

    /// Returns what was found for `key`, the last time.
    pub(crate) fn find(&self, key: &Value) -> Option<Value> {
        self.known.iter().rev().find(|line| line.key == *key).map(|line| line.found.clone())
    }

    /// Adds what was found for `key`.
    pub(crate) fn add(&mut self, key: &Value, found: &Value) -> Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let line = Value::Object(Map::from_iter([
            ("key".to_owned(), key.clone()),
            ("found".to_owned(), found.clone()),
        ]));
        // One write of a whole line: who reads it sees all of it, or a line that is cut off.
        let text = format!("{line}\n");
        file.write_all(text.as_bytes())
            .and_then(|()| file.sync_data())
            .map_err(|e| Error::io("cannot write what was measured", e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_was_added_is_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("measured.jsonl");
        let mut journal = Journal::open(&path).unwrap();
        assert_eq!(journal.find(&json!({"a": 1})), None);
        journal.add(&json!({"a": 1}), &json!(7)).unwrap();
        journal.add(&json!({"a": 1}), &json!(8)).unwrap();
        // A run was killed while it wrote.
        fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"key").unwrap();
        let mut journal = Journal::open(&path).unwrap();
        assert_eq!(journal.find(&json!({"a": 1})), Some(json!(8)));
        journal.add(&json!(2), &json!(9)).unwrap();
        let journal = Journal::open(&path).unwrap();
        assert_eq!(journal.find(&json!(2)), Some(json!(9)));
    }
}
