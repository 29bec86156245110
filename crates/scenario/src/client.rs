//! Real gRPC clients as data: how the program that makes the calls is found and started.
//!
//! A client is a folder under `scenarios/clients/` with a `client.toml` and a program that
//! speaks the line protocol of `scenarios/clients/README.md`.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::{
    error::{Problem, list_of},
    peer::{Candidate, Lookup, NotFound, candidates, locate, pieces},
    scenario::{CallKind, Load, Network, Tls},
};

/// A client file as it is written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClientWireFile {
    title: String,
    find: Vec<String>,
    install: Option<String>,
    command: Vec<String>,
    version_command: Vec<String>,
}

/// A real gRPC client, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientProgram {
    /// Its name: its folder's.
    pub name: String,
    /// Its name for people.
    pub title: String,
    folder: PathBuf,
    find: Vec<Candidate>,
    install: Option<String>,
    command: Vec<Vec<Piece>>,
    version_command: Vec<Vec<Piece>>,
}

/// A piece of a word of a command.
#[derive(Clone, Debug, PartialEq)]
enum Piece {
    Text(String),
    /// `{program}`: what `find` found.
    Program,
    /// `{folder}`: the client's own folder.
    Folder,
}

impl ClientProgram {
    /// Its program.
    ///
    /// # Errors
    /// [`NotFound`] with the places looked at.
    pub fn locate(&self, lookup: &Lookup<'_>) -> Result<PathBuf, NotFound> {
        locate(&self.name, &self.find, self.install.as_ref(), lookup)
    }

    /// What starts it, with the program that was found.
    pub fn command(&self, program: &Path) -> Vec<String> {
        self.words(&self.command, program)
    }

    /// What prints the version of its library, and fails where there is none.
    pub fn version_command(&self, program: &Path) -> Vec<String> {
        self.words(&self.version_command, program)
    }

    /// How to get it, for people who miss it.
    pub fn install(&self) -> Option<&str> {
        self.install.as_deref()
    }

    fn words(&self, words: &[Vec<Piece>], program: &Path) -> Vec<String> {
        let piece = |piece: &Piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Program => program.display().to_string(),
            Piece::Folder => self.folder.display().to_string(),
        };
        words.iter().map(|word| word.iter().map(piece).collect()).collect()
    }
}

/// Checks a client file. `folder` is where it stands.
pub(crate) fn check_client_file(
    name: &str,
    folder: &Path,
    wire: ClientWireFile,
) -> Result<ClientProgram, Problem> {
    let words = |key: &str, words: &[String]| -> Result<Vec<Vec<Piece>>, Problem> {
        if words.is_empty() {
            return Err(Problem::new(key, "this list is empty; name a program and its arguments"));
        }
        let word = |(index, word): (usize, &String)| {
            let piece = |piece: Result<String, &str>| match piece {
                Ok(text) => Ok(Piece::Text(text)),
                Err("program") => Ok(Piece::Program),
                Err("folder") => Ok(Piece::Folder),
                Err(other) => {
                    let known = list_of(&["{program}", "{folder}"]);
                    let message =
                        format!("`{{{other}}}` is no placeholder here; known are {known}");
                    Err(Problem::new(format!("{key}[{index}]"), message))
                }
            };
            pieces(word).map(piece).collect()
        };
        words.iter().enumerate().map(word).collect()
    };
    if wire.title.trim().is_empty() {
        return Err(Problem::new(
            "title",
            "this text is empty; write it for the reader of the report",
        ));
    }
    Ok(ClientProgram {
        name: name.to_owned(),
        title: wire.title,
        folder: folder.to_owned(),
        find: candidates(&wire.find)?,
        install: wire.install,
        command: words("command", &wire.command)?,
        version_command: words("version_command", &wire.version_command)?,
    })
}

/// What a scenario must not have for a real client to make its calls.
pub(crate) fn check_client(
    load: &Load,
    network: Network,
    tls: Tls,
    has_service: bool,
) -> Result<(), Problem> {
    if !load.client.is_program() {
        return Ok(());
    }
    let refusals = [
        (network != Network::Loopback, "the loopback"),
        (tls != Tls::None, "plain text"),
        (has_service, "the lab's echo service"),
        (load.call != CallKind::Unary, "unary calls"),
        (load.deadline.is_some(), "calls without a deadline"),
        (load.connection_calls.is_some(), "connections that live as long as they can"),
    ];
    match refusals.into_iter().find(|(is_so, _)| *is_so) {
        Some((_, only)) => {
            let name = load.client.name();
            let message = format!("`{name}` is a real client, which is for {only}; use `wire`");
            Err(Problem::new("load.client", message))
        }
        None => Ok(()),
    }
}
