//! A scenario file and the settings that replace parts of it.
//!
//! Command-line flags, `[short]` and a sweep all do the same: they put a value at
//! a key, and the whole is checked again. A wrong value is then
//! reported where it came from, be that a line of the file or a flag.

use std::path::Path;

use measure::figure::Scope;
use toml::{Table, Value};

use crate::{
    check::check,
    command::Servers,
    document::{Document, explain},
    error::{Error, Invalid, Place, Problem},
    scenario::{Point, Scenario, Sweep},
    sweep::{self, Candidate},
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
        Self::value(key, Value::Array(values), origin)
    }

    /// Puts a text at a key as it is, whatever it looks like.
    pub fn text(key: &str, text: impl Into<String>, origin: impl Into<String>) -> Self {
        Self::value(key, Value::String(text.into()), origin)
    }

    /// Puts a value at a key.
    pub fn value(key: &str, value: Value, origin: impl Into<String>) -> Self {
        Self { key: key.to_owned(), value, origin: origin.into() }
    }

    /// Its value as a TOML document with the one key `value`, for another machine.
    pub fn document(&self) -> String {
        let mut table = Table::new();
        table.insert("value".to_owned(), self.value.clone());
        table.to_string()
    }

    /// Puts a value back that was written as a document; `None` where that is none.
    pub fn from_document(key: &str, document: &str, origin: &str) -> Option<Self> {
        let value = document.parse::<Table>().ok()?.remove("value")?;
        Some(Self::value(key, value, origin))
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
const ALTERNATIVES: [(&str, &str); 7] = [
    ("load.duration", "load.calls"),
    ("load.calls", "load.duration"),
    ("load.payload", "load.request_bytes"),
    ("load.payload", "load.response_bytes"),
    ("sweep.values", "sweep.from"),
    ("sweep.values", "sweep.to"),
    ("sweep.values", "sweep.points"),
];

/// The folder of a file.
fn beside(file: &str) -> &Path {
    Path::new(file).parent().unwrap_or(Path::new(""))
}

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
        let sweeps = wire.sweep.is_some();
        for (key, is_set, needs) in [
            ("short.sweep", short.sweep.is_some(), sweeps),
            ("short.resolution", short.resolution.is_some(), wire.load.search.is_some()),
        ] {
            if is_set && !needs {
                let message = "there is nothing it replaces; add `[sweep]` or `[load.search]`";
                return Err(document.place(Problem::new(key, message)));
            }
        }
        if !sweeps {
            let checked = check(name, beside(file), wire, known_peers);
            checked.map_err(|problem| document.place(problem))?;
        }
        let table = text
            .parse()
            .map_err(|error: toml::de::Error| document.place(explain("", error.message())))?;
        let (name, known_peers) = (name.to_owned(), known_peers.to_vec());
        let source = Self { name, document, table, short, known_peers };
        let scenario = source.resolve(false, &[])?;
        check_claims(&scenario).map_err(|problem| source.document.place(problem))?;
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
    /// it, then `settings` in their order. A setting at the swept key leaves only
    /// that value of the sweep.
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
            origins.push((setting.key.clone(), place.clone()));
            if swept_key(&table).is_some_and(|key| key == setting.key) {
                let only = Value::Array(vec![setting.value.clone()]);
                self.apply(&mut table, "sweep.values", only, &place)?;
                origins.push(("sweep.values".to_owned(), place));
            }
        }
        self.check(table).map_err(|problem| self.blame(&origins, problem))
    }

    /// An error about a key that only came out after the check, at its line or at the
    /// setting that replaced it.
    pub fn error(&self, settings: &[Setting], key: &str, message: String) -> Error {
        let origin =
            |setting: &Setting| (setting.key.clone(), Place::Setting(setting.origin.clone()));
        let origins: Vec<_> = settings.iter().map(origin).collect();
        self.blame(&origins, Problem::new(key, message))
    }

    /// The last setting of a key, or of the list or table it stands in, counts.
    fn blame(&self, origins: &[(String, Place)], problem: Problem) -> Error {
        let holds = |key: &String| {
            let rest = problem.key.strip_prefix(key.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['[', '.']))
        };
        match origins.iter().rev().find(|(key, _)| holds(key)) {
            Some((_, place)) => at(place, problem),
            None => self.document.place(problem),
        }
    }

    fn check(&self, table: Table) -> Result<Scenario, Problem> {
        let wire = wire::from_table(table.clone()).map_err(|error| explain("", error.message()))?;
        let Some(sweep) = &wire.sweep else { return self.check_point(wire) };
        if wire.load.search.is_some() {
            let message = "a search chooses the rates it tries; keep `[sweep]` or `[load.search]`";
            return Err(Problem::new("sweep", message));
        }
        let mut points = Vec::new();
        for candidate in sweep::candidates(sweep)? {
            points.push(self.point(&table, &sweep.key, candidate)?);
        }
        let Some(first) = points.first() else {
            return Err(Problem::new("sweep.values", "this list is empty"));
        };
        let scenario = Scenario::clone(&first.scenario);
        Ok(Scenario { sweep: Some(Sweep { key: sweep.key.clone(), points }), ..scenario })
    }

    /// One setting of everything. Own servers run beside the scenario's file.
    fn check_point(&self, wire: ScenarioWire) -> Result<Scenario, Problem> {
        let folder = beside(self.file());
        let mut scenario = check(&self.name, folder, wire, &self.known_peers)?;
        if let Servers::Started(command) = &mut scenario.servers {
            command.folder = folder.join(&command.folder);
        }
        Ok(scenario)
    }

    /// The scenario with one value of the sweep in force.
    fn point(&self, table: &Table, key: &str, candidate: Candidate) -> Result<Point, Problem> {
        let mut table = table.clone();
        let Candidate { value, text, blame } = candidate;
        let not_a_key = |problem: Problem| Problem::new("sweep.key", problem.message);
        put(&mut table, key, value).map_err(not_a_key)?;
        for (set, other) in ALTERNATIVES {
            if set == key {
                remove(&mut table, other);
            }
        }
        let wire = wire::from_table(table).map_err(|error| {
            let problem = explain("sweep.key", error.message());
            // A name that is not known may be the key's, or the value's.
            let of_key = error.message().starts_with("unknown field");
            if of_key { problem } else { Problem { key: blame.clone(), ..problem } }
        })?;
        let scenario = self.check_point(wire).map_err(|problem| {
            // What is wrong with the value itself is the value's; what it makes
            // impossible elsewhere is told where that stands.
            if problem.key == key || problem.key.starts_with(&format!("{key}.")) {
                return Problem::new(&blame, problem.message);
            }
            let message = format!("with `{key}` at `{text}`: {}", problem.message);
            Problem { message, ..problem }
        })?;
        let number = sweep::number(&text);
        Ok(Point { value: text, number, scenario: Box::new(scenario) })
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

/// The key that a table sweeps.
fn swept_key(table: &Table) -> Option<&str> {
    table.get("sweep")?.get("key")?.as_str()
}

/// Claims about points that there are none of, or about a search that there is
/// not. Judged by the file in its full form: a short one may leave points out.
fn check_claims(scenario: &Scenario) -> Result<(), Problem> {
    for (index, claim) in scenario.claims.iter().enumerate() {
        let problem = |message| Problem::new(format!("expect.claims[{index}]"), message);
        if claim.scope() == Scope::WholeRun && scenario.load.search.is_none() {
            let message = format!("in `{claim}`, a figure of a search; add `[load.search]`");
            return Err(problem(message));
        }
        for point in claim.points() {
            let Some(sweep) = &scenario.sweep else {
                return Err(problem(format!("in `{claim}`, a point without a `[sweep]`")));
            };
            if !sweep.is_called(&point.key) || sweep.point(&point.value).is_none() {
                let values: Vec<&str> = sweep.points.iter().map(|p| p.value.as_str()).collect();
                return Err(problem(format!(
                    "in `{claim}`, `{point}` is no point of the sweep: it tries `{}` at {}",
                    sweep.short_key(),
                    crate::error::list_of(&values)
                )));
            }
        }
    }
    Ok(())
}

fn at(place: &Place, problem: Problem) -> Error {
    Error::Invalid(Invalid { place: place.clone(), key: problem.key, message: problem.message })
}

fn put(table: &mut Table, key: &str, value: Value) -> Result<(), Problem> {
    let Some((outer, inner)) = key.split_once('.') else {
        table.insert(key.to_owned(), value);
        return Ok(());
    };
    if let Some((list, index)) = element(outer) {
        let found = table.get_mut(list).and_then(|list| list.get_mut(index));
        let message = || format!("there is no `{outer}` in the scenario");
        let found = found.ok_or_else(|| Problem::new(outer, message()))?;
        let Value::Table(table) = found else {
            return Err(Problem::new(outer, format!("`{outer}` holds no keys")));
        };
        return put(table, inner, value);
    }
    let entry = table.entry(outer.to_owned()).or_insert_with(|| Value::Table(Table::new()));
    match entry {
        Value::Table(table) => put(table, inner, value),
        _ => Err(Problem::new(key, format!("`{outer}` holds no other keys"))),
    }
}

/// The list and the index in `link[0]`.
fn element(key: &str) -> Option<(&str, usize)> {
    let (list, index) = key.strip_suffix(']')?.split_once('[')?;
    Some((list, index.parse().ok()?))
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
