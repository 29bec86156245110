//! A TOML text that knows on which line each key stands, and reading it into a
//! type with errors that name line and key.

use std::ops::Range;

use serde::de::DeserializeOwned;
use toml::de::{DeTable, DeValue};

use crate::error::{Error, Invalid, Place, Problem, did_you_mean, list_of};

/// A file's text, and where its keys stand.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    file: String,
    text: String,
    entries: Vec<Entry>,
}

/// A key or list element: its path, and what of the text belongs to it.
#[derive(Clone, Debug)]
struct Entry {
    path: String,
    key: Range<usize>,
    value: Range<usize>,
}

impl Document {
    /// Reads `text` as `T`. The file's name is only for errors.
    pub(crate) fn read<T: DeserializeOwned>(file: &str, text: &str) -> Result<(Self, T), Error> {
        let mut document =
            Self { file: file.to_owned(), text: text.to_owned(), entries: Vec::new() };
        let root = DeTable::parse(text).map_err(|error| match error.span() {
            Some(span) if error.message() == "duplicate key" => document.duplicate(&span),
            _ => document.invalid(&error),
        })?;
        document.entries = entries_of(root.get_ref());
        let value = toml::from_str(text).map_err(|error| document.invalid(&error))?;
        Ok((document, value))
    }

    /// The text.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The file's name.
    pub(crate) fn file(&self) -> &str {
        &self.file
    }

    /// Puts a problem in its place: the line of its key, or of the nearest
    /// table around it when the key is missing.
    pub(crate) fn place(&self, problem: Problem) -> Error {
        let line = self.line_of(&problem.key);
        let place = match self.file.as_str() {
            "" => Place::Setting("the flags".to_owned()),
            file => Place::File { file: file.to_owned(), line },
        };
        Error::Invalid(Invalid { place, key: problem.key, message: problem.message })
    }

    fn line_of(&self, key: &str) -> usize {
        let mut path = key;
        loop {
            if let Some(entry) = self.entries.iter().find(|entry| entry.path == path) {
                return self.line_at(entry.key.start);
            }
            match path.rfind(['.', '[']) {
                Some(end) => path = &path[..end],
                None => return 1,
            }
        }
    }

    fn line_at(&self, offset: usize) -> usize {
        let end = offset.min(self.text.len());
        self.text.as_bytes()[..end].iter().filter(|byte| **byte == b'\n').count() + 1
    }

    fn invalid(&self, error: &toml::de::Error) -> Error {
        // A missing key is reported with the span of its table, any other error
        // with one inside the value at fault.
        let is_missing = error.message().starts_with("missing field");
        let path = match error.span() {
            Some(span) if is_missing => self.table_at(&span),
            Some(span) => self.path_at(&span),
            None => String::new(),
        };
        let problem = explain(&path, error.message());
        let line = match error.span() {
            Some(span) => self.line_at(span.start),
            None => self.line_of(&problem.key),
        };
        let place = Place::File { file: self.file.clone(), line };
        Error::Invalid(Invalid { place, key: problem.key, message: problem.message })
    }

    /// The error of a key that is there twice, of which `span` is the second. The
    /// parser doesn't tell where the first is; it is looked for in the text before.
    fn duplicate(&self, span: &Range<usize>) -> Error {
        let name = self.text[span.clone()].trim_matches(['"', '\'']);
        let before = &self.text[..span.start];
        // What is cut off in the middle of a line is an error too, and not this one.
        let entries = entries_of(DeTable::parse_recoverable(before).0.get_ref());
        // Keys of the same table stand under the same header; a header's own, anywhere.
        let line = before.rfind('\n').map_or(0, |end| end + 1);
        let is_header = before[line..].trim_start().starts_with('[');
        let header = before.rfind("\n[").filter(|_| !is_header).unwrap_or(0);
        let is_called = |entry: &&Entry| entry.path.rsplit('.').next() == Some(name);
        let first = |from: usize| {
            let called = entries.iter().filter(is_called).filter(|entry| entry.key.start >= from);
            called.min_by_key(|entry| (entry.path.len(), usize::MAX - entry.key.start))
        };
        let first = first(header).or_else(|| first(0));
        let place = Place::File { file: self.file.clone(), line: self.line_at(span.start) };
        let key = first.map_or(name, |entry| entry.path.as_str()).to_owned();
        let message = match first {
            Some(first) => {
                let line = self.line_at(first.key.start);
                format!("this key is given twice, first in line {line}; keep one of the two")
            }
            None => "this key is given twice; keep one of the two".to_owned(),
        };
        Error::Invalid(Invalid { place, key, message })
    }

    /// The path of the table that has the span; the root's is no entry's.
    fn table_at(&self, span: &Range<usize>) -> String {
        let table = self.entries.iter().find(|entry| entry.value == *span);
        table.map(|entry| entry.path.clone()).unwrap_or_default()
    }

    /// The path of the smallest entry that holds the span.
    fn path_at(&self, span: &Range<usize>) -> String {
        let holds = |outer: &Range<usize>| outer.start <= span.start && span.end <= outer.end;
        self.entries
            .iter()
            .flat_map(|entry| [(&entry.key, entry), (&entry.value, entry)])
            .filter(|(range, _)| holds(range))
            .min_by_key(|(range, _)| range.len())
            .map(|(_, entry)| entry.path.clone())
            .unwrap_or_default()
    }
}

fn entries_of(root: &DeTable<'_>) -> Vec<Entry> {
    let mut entries = Vec::new();
    walk_table("", root, &mut entries);
    entries
}

fn walk_table(path: &str, table: &DeTable<'_>, entries: &mut Vec<Entry>) {
    for (key, value) in table {
        let name = key.get_ref();
        let path = if path.is_empty() { name.to_string() } else { format!("{path}.{name}") };
        entries.push(Entry { path: path.clone(), key: key.span(), value: value.span() });
        walk_value(&path, value.get_ref(), entries);
    }
}

fn walk_value(path: &str, value: &DeValue<'_>, entries: &mut Vec<Entry>) {
    match value {
        DeValue::Table(table) => walk_table(path, table, entries),
        DeValue::Array(array) => {
            for (index, value) in array.iter().enumerate() {
                let path = format!("{path}[{index}]");
                entries.push(Entry { path: path.clone(), key: value.span(), value: value.span() });
                walk_value(&path, value.get_ref(), entries);
            }
        }
        _ => {}
    }
}

/// Turns a deserialiser's message into one for people: the key it is about, the
/// nearest known name, and TOML's words for types in place of Rust's.
pub(crate) fn explain(path: &str, message: &str) -> Problem {
    let mut quoted = message.split('`').skip(1).step_by(2);
    if message.starts_with("missing field") {
        let name = quoted.next().unwrap_or_default();
        let key = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        return Problem::new(key, "this key is missing");
    }
    for (start, what) in [("unknown field", "key"), ("unknown variant", "value")] {
        if message.starts_with(start) {
            let found = quoted.next().unwrap_or_default();
            let known: Vec<&str> = quoted.collect();
            let hint = did_you_mean(found, &known);
            let list = list_of(&known);
            return Problem::new(path, format!("unknown {what} `{found}`{hint}; known are {list}"));
        }
    }
    if let Some(found) =
        message.strip_prefix("invalid type: ").or(message.strip_prefix("invalid value: "))
        && let Some((found, expected)) = found.rsplit_once(", expected ")
    {
        if found == "unit variant" {
            return Problem::new(path, NO_NAME);
        }
        let found = found_in_toml_words(found);
        let message = format!("found {found}, expected {}", in_toml_words(expected));
        return Problem::new(path, message);
    }
    Problem::new(path, in_other_words(message))
}

/// What the deserialiser says of shapes that differ, without its own words for them.
fn in_other_words(message: &str) -> &str {
    match message {
        _ if message.contains("number overflowed") => "this number is too large",
        _ if message.starts_with("invalid length") && message.contains("struct ") => {
            "found a list, expected a table"
        }
        "wanted string or table" => NO_NAME,
        _ => message,
    }
}

/// Of what should be one of some names, and is no text at all.
const NO_NAME: &str = "expected a name in quotes";

/// What was found, without the names that Rust has for its types.
fn found_in_toml_words(found: &str) -> String {
    match found {
        "map" => "a table".to_owned(),
        "sequence" => "a list".to_owned(),
        // An integer beyond 64 bits: `integer `1...` as i128`.
        other => match other.split_once("` as ") {
            Some((number, _)) => format!("{number}`"),
            None => other.replace("floating point", "number"),
        },
    }
}

fn in_toml_words(expected: &str) -> String {
    match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number, zero or more".to_owned(),
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number".to_owned(),
        "f32" | "f64" => "a number".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "a sequence" => "a list".to_owned(),
        "a map" => "a table".to_owned(),
        other if other.starts_with("struct ") => "a table".to_owned(),
        other if other.contains("tagged enum ") => "a table".to_owned(),
        other if other.contains("variant") || other.starts_with("enum ") => "a name".to_owned(),
        other => other.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only read to be refused")]
    struct Outer {
        title: String,
        inner: Inner,
        #[serde(default)]
        list: Vec<Inner>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only read to be refused")]
    struct Inner {
        count: u32,
        kind: Option<Kind>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Kind {
        Apple,
        Pear,
    }

    fn refusal(text: &str) -> String {
        Document::read::<Outer>("f.toml", text).unwrap_err().to_string()
    }

    #[test]
    fn errors_name_file_line_key_and_what_was_expected() {
        let cases = [
            (
                "title = 3\n[inner]\ncount = 1",
                "f.toml:1: title: found integer `3`, expected a string",
            ),
            (
                "title = 'x'\n[inner]\ncount = -1",
                "f.toml:3: inner.count: found integer `-1`, expected a whole number, zero or more",
            ),
            (
                "title = 'x'\n[inner]\ncuont = 1",
                "f.toml:3: inner.cuont: unknown key `cuont`; did you mean `count`?; known are `count`, `kind`",
            ),
            ("title = 'x'\n\n[inner]\n", "f.toml:3: inner.count: this key is missing"),
            ("[inner]\ncount = 1\n", "f.toml:1: title: this key is missing"),
            (
                "title = 'x'\n[inner]\ncount = 1\nkind = 'aple'",
                "f.toml:4: inner.kind: unknown value `aple`; did you mean `apple`?; known are `apple`, `pear`",
            ),
            (
                "title = 'x'\n[inner]\ncount = 1\n[[list]]\ncount = 1\n[[list]]\ncount = 'two'",
                "f.toml:7: list[1].count: found string \"two\", expected a whole number, zero or more",
            ),
            ("title = 'x'\ninner = 3", "f.toml:2: inner: found integer `3`, expected a table"),
            ("title = 'x'\ninner = []", "f.toml:2: inner: found a list, expected a table"),
            ("title = {}\n[inner]\ncount = 1", "f.toml:1: title: found a table, expected a string"),
            (
                "title = 'x'\n[inner]\ncount = 99999999999999999999",
                "f.toml:3: inner.count: found integer `99999999999999999999`, expected a whole number, zero or more",
            ),
            (
                "title = 'x'\n[inner]\ncount = 1.5",
                "f.toml:3: inner.count: found number `1.5`, expected a whole number, zero or more",
            ),
            (
                "title = 'x'\n[inner]\ncount = 1\nkind = 5",
                "f.toml:4: inner.kind: expected a name in quotes",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(refusal(text), expected, "{text}");
        }
        assert!(
            refusal("title = 'x'\nbroken = = 1").starts_with("f.toml:2: "),
            "{}",
            refusal("title = 'x'\nbroken = = 1")
        );
    }

    #[test]
    fn a_key_that_is_there_twice_is_named_with_both_places() {
        let twice = |key: &str, first, second| {
            format!(
                "f.toml:{second}: {key}: this key is given twice, first in line {first}; keep one \
                 of the two"
            )
        };
        for (text, expected) in [
            ("title = 'x'\n[inner]\ncount = 1\ncount = 2", twice("inner.count", 3, 4)),
            ("title = 'x'\n# title\n\"title\" = 'y'", twice("title", 1, 3)),
            ("[inner]\ncount = 1\n[other]\n[inner]\ncount = 2", twice("inner", 1, 4)),
            ("[a]\ncount = 1\n[inner]\ncount = 1\ncount = 2", twice("inner.count", 4, 5)),
            ("[a]\nb = { count = 1 }\ncount = 1\ncount = 2", twice("a.count", 3, 4)),
            ("[a]\nb = { count = 1, kind = 2, count = 3 }", twice("a.b.count", 2, 2)),
            ("inner.count = 1\n[inner]\nkind = 'pear'", twice("inner", 1, 2)),
            (
                "[[list]]\ncount = 1\n[[list]]\nkind = 1\ncount = 1\ncount = 1",
                twice("list[1].count", 5, 6),
            ),
        ] {
            assert_eq!(refusal(text), expected, "{text}");
        }
    }

    #[test]
    fn a_missing_key_is_placed_at_its_table() {
        let (document, _) =
            Document::read::<Outer>("f.toml", "title = 'x'\n\n[inner]\ncount = 1\n").unwrap();
        let place = |key: &str| document.place(Problem::new(key, "no")).to_string();
        assert_eq!(place("inner.kind"), "f.toml:3: inner.kind: no");
        assert_eq!(place("inner.count"), "f.toml:4: inner.count: no");
        assert_eq!(place("other"), "f.toml:1: other: no");
    }
}
