//! Engines: what starts an agent on each of several nodes, as data.
//!
//! An engine is a folder under `scenarios/engines/` with an `engine.toml` and the
//! templates of the files that its command takes. It says how so many copies of
//! `loadgen agent` are started and ended; what runs where, and when, is no engine's to
//! say.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    error::{Problem, did_you_mean, list_of},
    peer::pieces,
};

/// A layerlab engine: how an agent is started on each of several nodes.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "layerlab engine")]
pub(crate) struct EngineWire {
    /// Its name for people.
    pub(crate) title: String,
    /// What it is, and what it takes.
    pub(crate) description: String,
    /// Program and arguments that start the agents, with placeholders: {loadgen}, {join},
    /// {join_host}, {join_port}, {nodes}, {minutes} and {seconds} (the most the run may take),
    /// {dir}, {config}, and the names of `[options]`; with `each_node` also {node} and {host}.
    /// A word that becomes empty is left out.
    pub(crate) command: Vec<String>,
    /// Whether the command is run once for each node, and not once for all; `false` unless
    /// given.
    #[serde(default)]
    pub(crate) each_node: bool,
    /// Whether the command ends once the agents are on their way, and not when they end;
    /// `false` unless given.
    #[serde(default)]
    pub(crate) detached: bool,
    /// Ends the agents of a detached command and takes away what it made.
    #[serde(default)]
    pub(crate) end: Vec<String>,
    /// Names of templates beside this file. They are rendered, with the same placeholders
    /// and {token}, into {dir} under the same names; {config} is the first.
    #[serde(default)]
    pub(crate) config: Vec<String>,
    /// How agents get the run's token; `environment` unless given.
    #[serde(default)]
    pub(crate) token: TokenBy,
    /// What users may set by --engine-set, with what it is otherwise.
    #[serde(default)]
    pub(crate) options: BTreeMap<String, String>,
}

/// How agents get the run's token. It is never an argument: any user of a machine can read
/// those.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TokenBy {
    /// By `LAYERLAB_TOKEN` in the environment of the command.
    #[default]
    Environment,
    /// As the first line that the command reads.
    Stdin,
    /// By {token} in one of the files that the command takes.
    File,
}

/// An engine, checked.
#[derive(Clone, Debug)]
pub struct Engine {
    /// Its name: its folder's.
    pub name: String,
    /// Its name for people.
    pub title: String,
    /// What it is, and what it takes.
    pub description: String,
    /// Whether the command is run once for each node.
    pub each_node: bool,
    /// Whether the command ends before its agents do.
    pub detached: bool,
    /// How agents get the run's token.
    pub token: TokenBy,
    options: BTreeMap<String, String>,
    command: Vec<Text>,
    end: Vec<Text>,
    config: Vec<(String, Text)>,
}

/// What an engine is rendered with.
#[derive(Clone, Debug)]
pub struct EngineInput<'a> {
    /// The lab's own program.
    pub loadgen: &'a Path,
    /// Host and port of the coordinator.
    pub join: (&'a str, u16),
    /// How many nodes there are to be.
    pub nodes: usize,
    /// The node, and its host where that is given, of a command that is run for each.
    pub node: Option<(usize, Option<&'a str>)>,
    /// How long it takes at most, in whole minutes.
    pub minutes: u64,
    /// The folder its files are written to.
    pub dir: &'a Path,
    /// The run's token, for files.
    pub token: &'a str,
}

/// An engine's command with all values in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenderedEngine {
    /// Program and arguments; never empty.
    pub command: Vec<String>,
    /// What ends a detached one; empty where nothing does.
    pub end: Vec<String>,
    /// Files to write before, readable by this user alone, with their names in
    /// [`EngineInput::dir`].
    pub files: Vec<(String, String)>,
}

/// An option that an engine does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("engine {engine} has no option `{option}`{hint}; it has {known}")]
pub struct OptionError {
    engine: String,
    option: String,
    hint: String,
    known: String,
}

/// A value that an engine's texts may hold.
const VALUES: [&str; 11] = [
    "loadgen",
    "join",
    "join_host",
    "join_port",
    "nodes",
    "minutes",
    "seconds",
    "dir",
    "config",
    "node",
    "host",
];
const TOKEN: &str = "token";

/// A text with placeholders by name.
#[derive(Clone, Debug)]
struct Text(Vec<Result<String, String>>);

impl Text {
    fn parse(key: &str, written: &str, known: &[&str]) -> Result<Self, Problem> {
        let parts = pieces(written).map(|token| match token {
            Ok(text) => Ok(Ok(text)),
            Err(name) if known.contains(&name) => Ok(Err(name.to_owned())),
            Err(name) => {
                let (hint, list) = (did_you_mean(name, known), list_of(known));
                let message = format!("unknown placeholder `{{{name}}}`{hint}; known are {list}");
                Err(Problem::new(key, message))
            }
        });
        Ok(Self(parts.collect::<Result<_, _>>()?))
    }

    fn render(&self, value: &dyn Fn(&str) -> String) -> String {
        let part = |part: &Result<String, String>| match part {
            Ok(text) => text.clone(),
            Err(name) => value(name),
        };
        self.0.iter().map(part).collect()
    }

    fn uses(&self, wanted: &str) -> bool {
        self.0.iter().any(|part| part.as_ref().is_err_and(|name| name == wanted))
    }
}

/// Makes an engine of what its file says, one check after the other. `configs` are the texts of
/// its templates.
pub(crate) fn check(name: &str, wire: EngineWire, configs: Vec<String>) -> Result<Engine, Problem> {
    for option in wire.options.keys() {
        let is_word = option.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        if !is_word || VALUES.contains(&option.as_str()) || option == TOKEN {
            let message = "expected a name of lower-case letters that is no placeholder yet";
            return Err(Problem::new(format!("options.{option}"), message));
        }
    }
    if wire.command.is_empty() {
        return Err(Problem::new("command", "there is no program"));
    }
    if wire.detached == wire.end.is_empty() {
        let message = "what is `detached` needs an `end`, and nothing else has one";
        return Err(Problem::new("end", message));
    }
    let mut known: Vec<&str> = VALUES.to_vec();
    known.extend(wire.options.keys().map(String::as_str));
    let words = |key: &str, words: &[String]| -> Result<Vec<Text>, Problem> {
        let words = words.iter().enumerate();
        words.map(|(at, word)| Text::parse(&format!("{key}[{at}]"), word, &known)).collect()
    };
    let (command, end) = (words("command", &wire.command)?, words("end", &wire.end)?);
    let known_in_files = [known.as_slice(), &[TOKEN]].concat();
    let files = wire.config.iter().zip(&configs).enumerate();
    let config: Vec<(String, Text)> = files
        .map(|(at, (name, text))| {
            let text = Text::parse(&format!("config[{at}]"), text, &known_in_files)?;
            Ok((name.clone(), text))
        })
        .collect::<Result<_, Problem>>()?;
    if (wire.token == TokenBy::File) != config.iter().any(|(_, text)| text.uses(TOKEN)) {
        let message = "`token = \"file\"` goes with `{token}` in one of the files";
        return Err(Problem::new("token", message));
    }
    let all = command.iter().chain(&end).chain(config.iter().map(|(_, text)| text));
    if !wire.each_node && all.clone().any(|text| text.uses("node") || text.uses("host")) {
        let message = "`{node}` and `{host}` are those of a command that is run for each node; \
                       add `each_node = true`";
        return Err(Problem::new("each_node", message));
    }
    if config.is_empty() && all.clone().any(|text| text.uses("config")) {
        return Err(Problem::new("config", "`{config}` is the first of these, and there is none"));
    }
    Ok(Engine {
        name: name.to_owned(),
        title: wire.title,
        description: wire.description,
        each_node: wire.each_node,
        detached: wire.detached,
        token: wire.token,
        options: wire.options,
        command,
        end,
        config,
    })
}

impl Engine {
    /// Sets an option.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn set(&mut self, option: &str, value: &str) -> Result<(), OptionError> {
        match self.options.get_mut(option) {
            Some(known) => {
                value.clone_into(known);
                Ok(())
            }
            None => {
                let names: Vec<&String> = self.options.keys().collect();
                let known =
                    if names.is_empty() { "none".to_owned() } else { list_of(names.as_slice()) };
                Err(OptionError {
                    engine: self.name.clone(),
                    option: option.to_owned(),
                    hint: did_you_mean(option, names.as_slice()),
                    known,
                })
            }
        }
    }

    /// Whether nodes are hosts that the user names.
    pub fn needs_hosts(&self) -> bool {
        self.command.iter().any(|word| word.uses("host"))
    }

    /// Renders its command and its files.
    pub fn render(&self, input: &EngineInput<'_>) -> RenderedEngine {
        let config = self.config.first().map(|(name, _)| input.dir.join(name));
        let value = |name: &str| self.value(name, input, config.as_ref());
        let words = |words: &[Text]| -> Vec<String> {
            let words = words.iter().map(|word| word.render(&value));
            words.filter(|word| !word.is_empty()).collect()
        };
        let files = self.config.iter().map(|(name, text)| (name.clone(), text.render(&value)));
        RenderedEngine {
            command: words(&self.command),
            end: words(&self.end),
            files: files.collect(),
        }
    }

    fn value(&self, name: &str, input: &EngineInput<'_>, config: Option<&PathBuf>) -> String {
        let (join_host, join_port) = input.join;
        let node = input.node.map(|(node, _)| node.to_string());
        let host = input.node.and_then(|(_, host)| host);
        match name {
            "loadgen" => input.loadgen.display().to_string(),
            // An IPv6 address is in brackets before a port.
            "join" if join_host.contains(':') => format!("[{join_host}]:{join_port}"),
            "join" => format!("{join_host}:{join_port}"),
            "join_host" => join_host.to_owned(),
            "join_port" => join_port.to_string(),
            "nodes" => input.nodes.to_string(),
            "minutes" => input.minutes.to_string(),
            "seconds" => (input.minutes * 60).to_string(),
            "dir" => input.dir.display().to_string(),
            "config" => config.map(|path| path.display().to_string()).unwrap_or_default(),
            "node" => node.unwrap_or_default(),
            "host" => host.unwrap_or_default().to_owned(),
            TOKEN => input.token.to_owned(),
            // Checked: all others are options.
            option => self.options.get(option).cloned().unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
        title = "T"
        description = "D"
        command = ["run", "{nodes}", "{arguments}", "{loadgen}", "--join", "{join}"]
        [options]
        arguments = ""
    "#;

    fn engine(text: &str, configs: &[&str]) -> Result<Engine, Problem> {
        let wire: EngineWire = toml::from_str(text).unwrap();
        check("t", wire, configs.iter().map(|text| (*text).to_owned()).collect())
    }

    fn input<'a>() -> EngineInput<'a> {
        EngineInput {
            loadgen: Path::new("/bin/loadgen"),
            join: ("fd00::1", 7),
            nodes: 3,
            node: None,
            minutes: 5,
            dir: Path::new("/tmp/x"),
            token: "secret",
        }
    }

    #[test]
    fn options_stand_where_they_are_named_and_empty_words_go() {
        let mut engine = engine(TEXT, &[]).unwrap();
        let command = engine.render(&input()).command;
        assert_eq!(command, ["run", "3", "/bin/loadgen", "--join", "[fd00::1]:7"]);
        engine.set("arguments", "--partition=p").unwrap();
        assert_eq!(engine.render(&input()).command[2], "--partition=p");
        let error = engine.set("argument", "x").unwrap_err().to_string();
        assert!(error.contains("did you mean `arguments`?"), "{error}");
    }

    #[test]
    fn the_token_goes_into_files_and_never_into_a_command() {
        let with = |more: &str| format!("{more}\n{TEXT}");
        let in_file = with("token = \"file\"\nconfig = [\"a.yaml\"]");
        let rendered = engine(&in_file, &["t: {token}\n"]).unwrap().render(&input());
        assert_eq!(rendered.files, [("a.yaml".to_owned(), "t: secret\n".to_owned())]);
        assert!(engine(&in_file, &["t: {nodes}\n"]).is_err(), "the token is nowhere");
        let in_command = TEXT.replace("{nodes}", "{token}");
        let problem = engine(&in_command, &[]).unwrap_err();
        assert!(problem.message.contains("unknown placeholder `{token}`"), "{}", problem.message);
    }

    #[test]
    fn what_contradicts_itself_is_named() {
        for (from, to, key) in [
            ("[options]", "end = [\"x\"]\n[options]", "end"),
            ("{nodes}", "{node}", "each_node"),
            ("{nodes}", "{config}", "config"),
            ("arguments = \"\"", "arguments = \"\"\nnode = \"\"", "options.node"),
        ] {
            let problem = engine(&TEXT.replace(from, to), &[]).unwrap_err();
            assert_eq!(problem.key, key, "{}", problem.message);
        }
    }
}
