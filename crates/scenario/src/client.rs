//! Real gRPC clients as data: how the program that makes the calls is found and started.
//!
//! A client is a folder under `scenarios/clients/` with a `client.toml` and a program that
//! speaks the line protocol of `scenarios/clients/README.md`.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    error::{Problem, list_of},
    peer::{Candidate, Lookup, NotFound, candidates, locate, pieces},
};

/// The gRPC client that makes the calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "ClientWire")]
pub enum Client {
    /// layerlab's own: cheap enough never to be what is measured.
    Wire,
    /// tonic: what most Rust services call with.
    Tonic,
    /// gRPC for Python, on gRPC's C core: a program of its own, to see what real clients do.
    #[serde(rename = "grpcio")]
    Grpcio,
    /// gRPC for Node.js, likewise.
    #[serde(rename = "grpc-js")]
    GrpcJs,
    /// gRPC for Go, likewise.
    #[serde(rename = "grpc-go")]
    GrpcGo,
    /// tonic as a service uses it, by a channel to a name, likewise.
    #[serde(rename = "tonic-channel")]
    TonicChannel,
}

impl Client {
    /// Its name in scenario files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Wire => "wire",
            Self::Tonic => "tonic",
            Self::TonicChannel => "tonic-channel",
            Self::Grpcio => "grpcio",
            Self::GrpcJs => "grpc-js",
            Self::GrpcGo => "grpc-go",
        }
    }

    /// Whether its channels have one connection to an address, whatever limits that (no gRFC
    /// A105).
    pub(crate) fn has_one_connection(self) -> bool {
        !matches!(self, Self::Wire | Self::Grpcio)
    }

    /// Whether it is a program of its own, which `scenarios/clients/` describes.
    pub fn is_program(self) -> bool {
        matches!(self, Self::Grpcio | Self::GrpcJs | Self::GrpcGo | Self::TonicChannel)
    }
}

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
