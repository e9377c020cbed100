// SPDX-License-Identifier: Apache-2.0
//! The last good version of every object, on disk: a process that starts while no API server
//! answers serves what was served before.
//!
//! A file of lines, one object each, of which the last about an object counts; what an object was
//! before it became one that is refused stays there. It holds keys: only its owner may read it.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, BufWriter, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use ringway_core::limits;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// One line.
#[derive(Deserialize, Serialize)]
struct Line<'a> {
    /// As the inbox names it.
    name: &'a str,
    #[serde(default, skip_serializing_if = "str::is_empty")]
    api_version: &'a str,
    #[serde(default, skip_serializing_if = "str::is_empty")]
    kind: &'a str,
    /// Absent for an object that is gone.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    object: Option<&'a RawValue>,
}

/// An object as it was written down.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Restored {
    pub(super) name: String,
    pub(super) api_version: String,
    pub(super) kind: String,
    pub(super) json: String,
}

/// The file, open for more.
pub(super) struct LastGood {
    path: PathBuf,
    file: BufWriter<File>,
    bytes: u64,
    /// Rewritten when it is larger than this.
    bytes_max: u64,
}

impl LastGood {
    /// Opens what was written in a folder for the same purpose, which `heading` says, and gives
    /// what is in it. Something else is thrown away.
    pub(super) fn open(folder: &Path, heading: &str) -> io::Result<(Self, Vec<Restored>)> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let path = folder.join("last-good.jsonl");
        let lines = read(&path, heading)?;
        let file = Self::rewrite(&path, heading, &lines)?;
        let restored = lines.iter().filter_map(|(name, line)| {
            let line: Line<'_> = serde_json::from_str(line).ok()?;
            Some(Restored {
                name: name.clone(),
                api_version: line.api_version.to_owned(),
                kind: line.kind.to_owned(),
                json: line.object?.get().to_owned(),
            })
        });
        let restored = restored.collect();
        Ok((file, restored))
    }

    /// Writes a file with these lines and nothing else into the place of the old one.
    fn rewrite(path: &Path, heading: &str, lines: &BTreeMap<String, String>) -> io::Result<Self> {
        let draft = path.with_extension("draft");
        // Whatever was left there may be readable by others.
        let _ = fs::remove_file(&draft);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        let mut file = BufWriter::new(file);
        let mut bytes = 0;
        for line in std::iter::once(heading).chain(lines.values().map(String::as_str)) {
            writeln!(file, "{line}")?;
            bytes += line.len() as u64 + 1;
        }
        file.flush()?;
        fs::rename(&draft, path)?;
        let bytes_max = bytes * 2 + limits::KUBE_STATE_BYTES_SPARE;
        Ok(Self { path: path.to_owned(), file, bytes, bytes_max })
    }

    /// Notes an object as it is served now.
    pub(super) fn set(
        &mut self,
        name: &str,
        api_version: &str,
        kind: &str,
        json: &str,
    ) -> io::Result<()> {
        // An API server's lists may be indented.
        let object: &RawValue = serde_json::from_str(json)?;
        self.write(&Line { name, api_version, kind, object: Some(object) })
    }

    /// Notes that an object is gone.
    pub(super) fn remove(&mut self, name: &str) -> io::Result<()> {
        self.write(&Line { name, api_version: "", kind: "", object: None })
    }

    fn write(&mut self, line: &Line<'_>) -> io::Result<()> {
        let mut line = serde_json::to_string(line)?;
        line.retain(|c| c != '\n' && c != '\r');
        line.push('\n');
        self.bytes += line.len() as u64;
        self.file.write_all(line.as_bytes())
    }

    /// Everything that was noted is in the file then.
    pub(super) fn flush(&mut self, heading: &str) -> io::Result<()> {
        self.file.flush()?;
        if self.bytes > self.bytes_max {
            let lines = read(&self.path, heading)?;
            *self = Self::rewrite(&self.path, heading, &lines)?;
        }
        Ok(())
    }
}

/// The last line about each object; none where the file is for something else. What cannot be read
/// (a line that was being written when the machine stopped) is left out.
fn read(path: &Path, heading: &str) -> io::Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        Err(error) => return Err(error),
    };
    let mut reader = BufReader::new(file);
    let mut text = String::new();
    reader.read_line(&mut text)?;
    if text.trim_end() != heading {
        return Ok(found);
    }
    loop {
        let mut text = Vec::new();
        if reader.read_until(b'\n', &mut text)? == 0 {
            return Ok(found);
        }
        let Ok(text) = String::from_utf8(text) else { continue };
        let Ok(line) = serde_json::from_str::<Line<'_>>(text.trim_end()) else { continue };
        let name = line.name.to_owned();
        if line.object.is_some() {
            found.insert(name, text.trim_end().to_owned());
        } else {
            found.remove(&name);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::unix::fs::MetadataExt as _;

    use super::*;
    use crate::scratch::Scratch;

    fn names(restored: &[Restored]) -> Vec<(&str, &str)> {
        restored.iter().map(|object| (&*object.name, &*object.json)).collect()
    }

    #[test]
    fn what_was_noted_last_is_there_again() {
        let scratch = Scratch::new();
        let folder = scratch.path().join("state");
        let (mut file, restored) = LastGood::open(&folder, "1").unwrap();
        assert!(restored.is_empty());
        file.set("Mapping n/a", "v3", "Mapping", r#"{"x": 1}"#).unwrap();
        file.set("Mapping n/b", "v3", "Mapping", "{\n \"x\": 2}").unwrap();
        file.set("Mapping n/a", "v3", "Mapping", r#"{"x": 3}"#).unwrap();
        file.set("Mapping n/c", "v3", "Mapping", "{}").unwrap();
        file.remove("Mapping n/c").unwrap();
        file.flush("1").unwrap();
        let path = folder.join("last-good.jsonl");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        // The machine stopped while a line was written.
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"name\": \"Ma").unwrap();
        let (_, restored) = LastGood::open(&folder, "1").unwrap();
        let expected = [("Mapping n/a", r#"{"x": 3}"#), ("Mapping n/b", "{ \"x\": 2}")];
        assert_eq!(names(&restored), expected);
        assert_eq!((&*restored[0].api_version, &*restored[0].kind), ("v3", "Mapping"));
        // For another purpose.
        let (_, restored) = LastGood::open(&folder, "2").unwrap();
        assert!(restored.is_empty());
    }

    #[test]
    fn it_does_not_grow_for_ever() {
        let scratch = Scratch::new();
        let (mut file, _) = LastGood::open(scratch.path(), "1").unwrap();
        let large = format!(r#"{{"x": "{}"}}"#, "x".repeat(64 * 1024));
        for _ in 0..200 {
            file.set("Mapping n/a", "v3", "Mapping", &large).unwrap();
            file.flush("1").unwrap();
        }
        let most = limits::KUBE_STATE_BYTES_SPARE + 4 * large.len() as u64;
        let size = fs::metadata(scratch.path().join("last-good.jsonl")).unwrap().len();
        assert!(size < most, "{size}");
    }
}
