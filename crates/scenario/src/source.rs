//! A scenario file and the settings that replace parts of it.
//!
//! Command-line flags, `[short]` and later a sweep all do the same: they put a
//! value at a key, and the whole is checked again. A wrong value is then
//! reported where it came from, be that a line of the file or a flag.

use toml::{Table, Value};

use crate::{
    check::check,
    document::{Document, explain},
    error::{Error, Invalid, Place, Problem},
    scenario::Scenario,
    wire::{self, ScenarioWire, ShortValue, ShortWire},
};

/// A value from outside the file that replaces what the file says.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    key: String,
    value: Value,
    origin: String,
}

impl Setting {
    /// Puts a value, written as in a file, at a key: `load.rate` and `5000`, or
    /// `load.duration` and `2s`. Quotes around text may be left out. `origin`
    /// is what errors show as its place: the flag as the user wrote it.
    pub fn new(key: &str, value: &str, origin: impl Into<String>) -> Self {
        // What is no TOML value stands for itself: `2s` is "2s".
        let value = format!("value = {value}")
            .parse::<Table>()
            .ok()
            .and_then(|mut table| table.remove("value"))
            .unwrap_or_else(|| Value::String(value.to_owned()));
        Self { key: key.to_owned(), value, origin: origin.into() }
    }

    /// Puts a list of texts at a key: `run.peers`.
    pub fn list(key: &str, values: &[impl AsRef<str>], origin: impl Into<String>) -> Self {
        let values = values.iter().map(|value| Value::String(value.as_ref().to_owned())).collect();
        Self { key: key.to_owned(), value: Value::Array(values), origin: origin.into() }
    }

    /// The key it replaces.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The flag as the user wrote it.
    pub fn origin(&self) -> &str {
        &self.origin
    }
}

/// A scenario file that was read and is right as it stands.
#[derive(Clone, Debug)]
pub struct ScenarioSource {
    name: String,
    document: Document,
    table: Table,
    short: ShortWire,
    known_peers: Vec<String>,
}

/// Pairs of keys that exclude each other: to set one takes the other out.
const ALTERNATIVES: [(&str, &str); 2] =
    [("load.duration", "load.calls"), ("load.calls", "load.duration")];

impl ScenarioSource {
    /// Reads and checks a scenario's text, in its full and its short form.
    /// `file` is the name errors show; `known_peers` are the peers there are.
    ///
    /// # Errors
    /// [`Error::Invalid`] with file, line and key.
    pub fn parse(
        name: &str,
        file: &str,
        text: &str,
        known_peers: &[String],
    ) -> Result<Self, Error> {
        let (document, wire) = Document::read::<ScenarioWire>(file, text)?;
        let short = wire.short.clone();
        if let (Some(_), Some(_)) = (&short.duration, &short.calls) {
            let message =
                "`short.duration` and `short.calls` both say how long a trial is; keep one";
            return Err(document.place(Problem::new("short.calls", message)));
        }
        check(name, wire, known_peers).map_err(|problem| document.place(problem))?;
        let table = text
            .parse()
            .map_err(|error: toml::de::Error| document.place(explain("", error.message())))?;
        let (name, known_peers) = (name.to_owned(), known_peers.to_vec());
        let source = Self { name, document, table, short, known_peers };
        source.resolve(true, &[])?;
        Ok(source)
    }

    /// The scenario's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file's name, as errors show it.
    pub fn file(&self) -> &str {
        self.document.file()
    }

    /// The file's text, byte for byte.
    pub fn text(&self) -> &str {
        self.document.text()
    }

    /// The scenario with settings in force: first `[short]`, if `short` asks for
    /// it, then `settings` in their order.
    ///
    /// # Errors
    /// [`Error::Invalid`], placed at the setting that is wrong, or at the line of
    /// the file that a setting contradicts.
    pub fn resolve(&self, short: bool, settings: &[Setting]) -> Result<Scenario, Error> {
        let mut table = self.table.clone();
        let mut origins: Vec<(String, Place)> = Vec::new();
        if short {
            for ShortValue { key, target, value } in self.short.values() {
                let place = self.place_of(&format!("short.{key}"));
                self.apply(&mut table, target, value, &place)?;
                origins.push((target.to_owned(), place));
            }
        }
        for setting in settings {
            let place = Place::Setting(setting.origin.clone());
            self.apply(&mut table, &setting.key, setting.value.clone(), &place)?;
            origins.push((setting.key.clone(), place));
        }
        let wire = wire::from_table(table)
            .map_err(|error| self.document.place(explain("", error.message())))?;
        check(&self.name, wire, &self.known_peers).map_err(|problem| {
            // The last setting of a key, or of the list it stands in, counts.
            let set = origins.iter().rev().find(|(key, _)| {
                problem.key == *key || problem.key.starts_with(&format!("{key}["))
            });
            match set {
                Some((_, place)) => at(place, problem),
                None => self.document.place(problem),
            }
        })
    }

    fn place_of(&self, key: &str) -> Place {
        match self.document.place(Problem::new(key, "")) {
            Error::Invalid(invalid) => invalid.place,
            _ => Place::Setting(key.to_owned()),
        }
    }

    /// Puts the value at its key, and reads the whole as a test: an unknown key
    /// or a wrong type is then blamed on this setting and no other.
    fn apply(
        &self,
        table: &mut Table,
        key: &str,
        value: Value,
        place: &Place,
    ) -> Result<(), Error> {
        put(table, key, value).map_err(|problem| at(place, problem))?;
        for (set, other) in ALTERNATIVES {
            if set == key {
                remove(table, other);
            }
        }
        wire::from_table(table.clone())
            .map(|_| ())
            .map_err(|error| at(place, explain(key, error.message())))
    }
}

fn at(place: &Place, problem: Problem) -> Error {
    Error::Invalid(Invalid { place: place.clone(), key: problem.key, message: problem.message })
}

fn put(table: &mut Table, key: &str, value: Value) -> Result<(), Problem> {
    let Some((outer, inner)) = key.split_once('.') else {
        table.insert(key.to_owned(), value);
        return Ok(());
    };
    let entry = table.entry(outer.to_owned()).or_insert_with(|| Value::Table(Table::new()));
    match entry {
        Value::Table(table) => put(table, inner, value),
        _ => Err(Problem::new(key, format!("`{outer}` holds no other keys"))),
    }
}

fn remove(table: &mut Table, key: &str) {
    match key.split_once('.') {
        None => {
            table.remove(key);
        }
        Some((outer, inner)) => {
            if let Some(Value::Table(table)) = table.get_mut(outer) {
                remove(table, inner);
            }
        }
    }
}
