//! All runs of a results folder, for the page that lists them.
//!
//! Only each run's own record is read, not its trials: a list of a hundred runs is
//! there in a blink. A folder that looks like a run and can't be read is listed with
//! the reason, never left out in silence.

use std::{
    fs,
    path::{Path, PathBuf},
};

use measure::{
    folder::folder_bytes,
    record::{FORMAT_VERSION, RunRecord},
};

/// What the lab names a run's own record.
const RUN_FILE: &str = "run.json";
/// What a run's report is called.
pub const REPORT_FILE: &str = "report.html";
/// How deep runs lie: `<scenario>/<utc>-<n>`, or beside the scenarios.
const DEPTH: usize = 2;

/// A run as it is listed.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its folder, relative to the results folder, with `/` between parts.
    pub folder: String,
    /// Whether it has a report.
    pub has_report: bool,
    /// Bytes of all its files.
    pub bytes: u64,
    /// Its record, or why it can't be read.
    pub record: Result<RunRecord, String>,
}

impl Entry {
    /// Where its report lies, for a link: escaped as URLs have it.
    pub fn link(&self) -> Option<String> {
        self.has_report.then(|| format!("{}/{REPORT_FILE}", escape_path(&self.folder)))
    }
}

/// All runs below a folder, the latest first.
pub fn gather(results: &Path) -> Vec<Entry> {
    let mut entries = Vec::new();
    read_folder(results, "", DEPTH, &mut entries);
    let started = |entry: &Entry| entry.record.as_ref().map(|run| run.started_utc.clone()).ok();
    entries.sort_by(|a, b| started(b).cmp(&started(a)).then_with(|| b.folder.cmp(&a.folder)));
    entries
}

/// A folder that is a run itself, as an entry without a name; `None` when it is none.
pub fn single(folder: &Path) -> Option<Entry> {
    let run_file = folder.join(RUN_FILE);
    run_file.is_file().then(|| Entry {
        folder: String::new(),
        has_report: folder.join(REPORT_FILE).is_file(),
        bytes: folder_bytes(folder),
        record: read(&run_file),
    })
}

fn read_folder(folder: &Path, name: &str, depth: usize, entries: &mut Vec<Entry>) {
    // What can't be listed holds no run that could be named.
    let Ok(children) = fs::read_dir(folder) else { return };
    for child in children.flatten() {
        let path = child.path();
        let Some(part) = child.file_name().to_str().map(str::to_owned) else { continue };
        if !path.is_dir() {
            continue;
        }
        let name = if name.is_empty() { part } else { format!("{name}/{part}") };
        let run_file = path.join(RUN_FILE);
        if run_file.is_file() && !is_schema(&path) {
            let has_report = path.join(REPORT_FILE).is_file();
            let bytes = folder_bytes(&path);
            entries.push(Entry { folder: name, has_report, bytes, record: read(&run_file) });
        } else if depth > 1 {
            read_folder(&path, &name, depth - 1, entries);
        }
    }
}

/// The schemas of records lie in a folder beside the runs, under the same names.
fn is_schema(folder: &Path) -> bool {
    folder.file_name().is_some_and(|name| name == "schema")
}

fn read(path: &PathBuf) -> Result<RunRecord, String> {
    let bytes = fs::read(path).map_err(|error| error.to_string())?;
    let value: serde_json::Value =
        serde_json::from_slice(&bytes).map_err(|error| format!("not a record: {error}"))?;
    match value.get("format").and_then(serde_json::Value::as_u64) {
        Some(found) if found != u64::from(FORMAT_VERSION) => {
            Err(format!("of format version {found}, and this layerlab reads {FORMAT_VERSION}"))
        }
        _ => serde_json::from_value(value).map_err(|error| format!("not a record: {error}")),
    }
}

/// A path as it may stand in a link (RFC 3986, section 3.3); the `./` in front keeps
/// a colon in its first part from being read as a scheme.
pub(crate) fn escape_path(path: &str) -> String {
    let mut escaped = String::from("./");
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_paths_and_nothing_else() {
        assert_eq!(escape_path("flood/2026-1"), "./flood/2026-1");
        assert_eq!(escape_path("javascript:x?\"#é"), "./javascript%3Ax%3F%22%23%C3%A9");
    }
}
