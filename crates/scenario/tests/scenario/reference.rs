//! `docs/reference.md`: every key of a scenario and of a peer, made from the
//! schemas, with an example of each from the committed files or the schema.
use std::{
    cell::RefCell,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use scenario::{peer_schema, scenario_schema};
use serde_json::{Map, Value};

const INTRODUCTION: &str = "\
# Reference

Every key of a scenario and of a peer. This page is made from the types that read the files
(`UPDATE_GOLDEN=1 cargo test -p scenario reference`), and each example that names a file
is taken from it. Editors complete and check the same keys by
[`scenario.schema.json`](../scenarios/scenario.schema.json) and
[`peer.schema.json`](../scenarios/peers/peer.schema.json).
";

/// Stands for a name that the author of a file chooses.
const ANY_NAME: &str = "NAME";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A committed file and what it says, for examples.
struct Committed {
    name: String,
    table: Value,
}

/// The files below `folder` whose names `suffix` ends, in the order of their names.
fn committed(folder: &str, suffix: &str) -> Vec<Committed> {
    let mut names: Vec<String> = fs::read_dir(root().join(folder))
        .unwrap()
        .map(|entry| format!("{folder}/{}", entry.unwrap().file_name().to_str().unwrap()))
        .map(|name| if suffix.starts_with('/') { name + suffix } else { name })
        .filter(|name| name.ends_with(suffix) && root().join(name).is_file())
        .collect();
    names.sort();
    let read = |name: String| {
        let text = fs::read_to_string(root().join(&name)).unwrap();
        let table: Value = toml::from_str(&text).unwrap();
        Committed { name, table }
    };
    names.into_iter().map(read).collect()
}

/// The first value at `path` in a file; through lists by any of their elements.
fn value_at<'a>(value: &'a Value, path: &[&str]) -> Option<&'a Value> {
    match (value, path) {
        (_, []) => Some(value),
        (Value::Array(list), _) => list.iter().find_map(|element| value_at(element, path)),
        (Value::Object(table), [ANY_NAME, rest @ ..]) => {
            table.values().find_map(|value| value_at(value, rest))
        }
        (Value::Object(table), [first, rest @ ..]) => value_at(table.get(*first)?, rest),
        _ => None,
    }
}

/// The section of a page that describes one schema.
struct Section<'a> {
    definitions: &'a Map<String, Value>,
    files: &'a [Committed],
    page: String,
    without_example: RefCell<Vec<String>>,
}

impl<'a> Section<'a> {
    /// The schema that an optional value is of.
    fn required(&self, schema: &'a Value) -> &'a Value {
        let mut kinds = schema["anyOf"].as_array().into_iter().flatten();
        match (kinds.next(), kinds.next()) {
            (Some(kind), Some(null)) if null["type"] == "null" => kind,
            _ => schema,
        }
    }

    /// The name of the type that a schema refers to.
    fn name(&self, schema: &'a Value) -> Option<&'a str> {
        self.required(schema)["$ref"].as_str()?.rsplit('/').next()
    }

    fn resolve(&self, schema: &'a Value) -> &'a Value {
        self.name(schema).map_or_else(|| self.required(schema), |name| &self.definitions[name])
    }

    /// What a key means, and each of the words it takes.
    fn meaning(&self, property: &'a Value, otherwise: &'a Value) -> String {
        let about = |schema: &Value| schema["description"].as_str().map(one_line);
        let mut text = about(property).or_else(|| about(otherwise)).unwrap_or_default();
        for word in self.resolve(property)["oneOf"].as_array().into_iter().flatten() {
            if let (Some(name), Some(meaning)) = (word["const"].as_str(), about(word)) {
                write!(text, "<br>`{name}`: {meaning}").unwrap();
            }
        }
        text.replace('|', "\\|")
    }

    /// What a value looks like: its kind, its words, its bounds.
    fn kind(&self, schema: &'a Value) -> String {
        let named = self.name(schema);
        let schema = self.resolve(schema);
        if let (Some(name), true) = (named, schema["examples"].is_array()) {
            // A type of our own, such as a duration: its name says more than "text".
            return spaced(name);
        }
        let words = |options: &Value| -> Option<String> {
            let words: Option<Vec<String>> = options
                .as_array()?
                .iter()
                .map(|option| option["const"].as_str().map(|word| format!("`{word}`")))
                .collect();
            words.map(|words| words.join(", "))
        };
        if let Some(words) = words(&schema["oneOf"]) {
            return words;
        }
        if let Some(options) = schema["enum"].as_array() {
            let words = options.iter().filter_map(Value::as_str).map(|word| format!("`{word}`"));
            return words.collect::<Vec<_>>().join(", ");
        }
        if let Some(options) = schema["anyOf"].as_array().or(schema["oneOf"].as_array()) {
            let mut kinds: Vec<String> = options.iter().map(|option| self.kind(option)).collect();
            kinds.dedup();
            return kinds.join(" or ");
        }
        let kind = match &schema["type"] {
            Value::Array(kinds) => kinds[0].as_str().unwrap(),
            kind => kind.as_str().unwrap_or("value"),
        };
        let bound = |name: &str| schema[name].as_f64().map(|bound| bound.to_string());
        let range = match (bound("minimum"), bound("maximum")) {
            (Some(least), Some(most)) => format!(", {least} to {most}"),
            (Some(least), None) => format!(", from {least}"),
            _ => String::new(),
        };
        match kind {
            "array" => format!("list of {}", self.kind(&schema["items"])),
            "object" => "table".to_owned(),
            "integer" => format!("whole number{range}"),
            "number" => format!("number{range}"),
            "boolean" => "`true`, `false`".to_owned(),
            _ => "text".to_owned(),
        }
    }

    /// An example of the key: from the first file that sets it, or of the schema's own.
    fn example(&self, schema: &'a Value, path: &[&str]) -> String {
        let written = |value: &Value| {
            let value = toml::Value::try_from(value).unwrap().to_string();
            format!("`{} = {}`", path.last().unwrap(), value.replace('|', "\\|"))
        };
        let short = |value: &&Value| value.to_string().len() <= 90;
        let of_file = |file: &'a Committed| {
            let value = value_at(&file.table, path).filter(short)?;
            Some(format!("{} ([{}](../{}))", written(value), base(&file.name), file.name))
        };
        let own = [schema, self.resolve(schema)];
        let of_schema = || own.iter().find_map(|schema| schema["examples"].get(0)).map(written);
        let of_words = || self.resolve(schema)["oneOf"][0].get("const").map(written);
        let found = self.files.iter().find_map(of_file).or_else(of_schema).or_else(of_words);
        found.unwrap_or_else(|| {
            self.without_example.borrow_mut().push(path.join("."));
            String::new()
        })
    }

    /// The table of `schema`'s keys, and then those of the tables among them.
    fn keys(&mut self, heading: &str, schema: &'a Value, path: &[&'a str]) {
        let schema = self.resolve(schema);
        let lists = schema["oneOf"].as_array();
        let variants = lists.map_or_else(|| vec![schema], |all| all.iter().collect());
        let about = schema["description"].as_str().unwrap_or_default();
        writeln!(self.page, "\n{heading}\n\n{}\n", one_line(about)).unwrap();
        self.page += "| key | value | meaning | example |\n|---|---|---|---|\n";
        let mut tables = Vec::new();
        for variant in variants {
            let Some(properties) = variant["properties"].as_object() else { continue };
            let required = variant["required"].as_array();
            for (key, property) in properties {
                let path: Vec<&str> = path.iter().copied().chain([key.as_str()]).collect();
                let target = self.resolve(property);
                let item = if target["type"] == "array" { &target["items"] } else { property };
                if self.is_table(item) {
                    tables.push((path, item, target["type"] == "array"));
                    continue;
                }
                if self.is_table(&target["additionalProperties"]) {
                    let path = path.into_iter().chain([ANY_NAME]).collect();
                    tables.push((path, &target["additionalProperties"], false));
                    continue;
                }
                let needed = required.is_some_and(|all| all.iter().any(|name| name == key));
                let meaning = self.meaning(property, variant);
                let row = format!(
                    "| `{key}`{} | {} | {} | {} |",
                    if needed { " (required)" } else { "" },
                    property["const"]
                        .as_str()
                        .map_or_else(|| self.kind(property), |word| format!("`{word}`")),
                    meaning,
                    property["const"].as_str().map_or_else(
                        || self.example(property, &path),
                        |word| format!("`{key} = \"{word}\"`")
                    ),
                );
                self.page += &row;
                self.page.push('\n');
            }
        }
        for (path, schema, is_list) in tables {
            let name = path.join(".");
            let name = if is_list { format!("[[{name}]]") } else { format!("[{name}]") };
            self.keys(&format!("### `{name}`"), schema, &path);
        }
    }

    /// Whether a value is a table with keys of its own.
    fn is_table(&self, schema: &'a Value) -> bool {
        let schema = self.resolve(schema);
        let has_keys = |schema: &Value| schema["properties"].is_object();
        has_keys(schema) || schema["oneOf"].as_array().is_some_and(|all| all.iter().any(has_keys))
    }
}

fn base(name: &str) -> &str {
    let name = name.strip_suffix("/peer.toml").unwrap_or(name);
    name.rsplit('/').next().unwrap().trim_end_matches(".toml")
}

/// The name of a type in small words: `ServiceTime` is "service time".
fn spaced(name: &str) -> String {
    let mut words = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.extend(letter.to_lowercase());
    }
    words
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn section(heading: &str, schema: &str, files: &[Committed]) -> String {
    let schema: Value = serde_json::from_str(schema).unwrap();
    let none = Map::new();
    let definitions = schema["$defs"].as_object().unwrap_or(&none);
    let mut section =
        Section { definitions, files, page: String::new(), without_example: RefCell::default() };
    section.keys(heading, &schema, &[]);
    let without = section.without_example.take();
    assert!(without.is_empty(), "#[schemars(example = ...)] is missing: {without:?}");
    section.page
}

/// The types that are written as text, with their examples.
fn values(schema: &str) -> String {
    let schema: Value = serde_json::from_str(schema).unwrap();
    let mut page = "\n## Values\n\n| value | what it is | examples |\n|---|---|---|\n".to_owned();
    for (name, value) in schema["$defs"].as_object().unwrap() {
        let Some(examples) = value["examples"].as_array() else { continue };
        let about = one_line(value["description"].as_str().unwrap()).replace('|', "\\|");
        let examples: Vec<String> = examples.iter().map(|example| format!("`{example}`")).collect();
        writeln!(page, "| {} | {about} | {} |", spaced(name), examples.join(", ")).unwrap();
    }
    page
}

#[test]
fn the_reference_is_that_of_the_types() {
    let page = [
        INTRODUCTION.to_owned(),
        section("## A scenario", &scenario_schema(), &committed("scenarios", ".toml")),
        values(&scenario_schema()),
        section("## A peer", &peer_schema(), &committed("scenarios/peers", "/peer.toml")),
    ]
    .concat();
    let path = root().join("docs/reference.md");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &page).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == page,
        "docs/reference.md is out of date; run this test with UPDATE_GOLDEN=1"
    );
}
