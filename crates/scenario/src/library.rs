//! The folder of scenarios and peers: the only place of this crate that reads
//! files.
//!
//! ```text
//! scenarios/<name>.toml              a scenario
//! scenarios/peers/<peer>/peer.toml   a peer, beside its config templates
//! scenarios/engines/<engine>/engine.toml   an engine, likewise
//! ```

use std::{
    fs,
    path::{Path, PathBuf},
    string::FromUtf8Error,
    time::Duration,
};

use crate::{
    client::{ClientProgram, ClientWireFile, check_client_file},
    document::Document,
    engine::{self, Engine, EngineWire},
    error::{Error, Invalid, Place, Problem},
    peer::{self, ConfigFile, Layer, Peer, wire::PeerWire},
    scenario::Scenario,
    source::ScenarioSource,
};

/// The largest file that is read. Scenarios are a screen or two of text.
const LARGEST_FILE_BYTES: u64 = 1 << 20;

/// A folder of scenarios and peers.
#[derive(Clone, Debug)]
pub struct Library {
    folder: PathBuf,
    names: Vec<String>,
    peers: Vec<String>,
}

/// A scenario in a line or two, for lists.
#[derive(Clone, Debug)]
pub struct Summary {
    /// Its name.
    pub name: String,
    /// The question it asks.
    pub question: String,
    /// The peers it compares.
    pub peers: Vec<String>,
    /// How long its trials take together, without starts and ends; `None` when
    /// that can't be told before.
    pub planned: Option<Duration>,
}

impl Library {
    /// Opens a folder. Files are read when they are asked for, so that one
    /// broken file doesn't stand in the way of the others.
    ///
    /// # Errors
    /// [`Error::Read`] when the folder can't be listed. A folder without peers
    /// is an empty one.
    pub fn open(folder: impl Into<PathBuf>) -> Result<Self, Error> {
        let folder = folder.into();
        let mut names = Vec::new();
        for path in list(&folder)? {
            let stem = path.file_stem().and_then(|stem| stem.to_str());
            if let Some(stem) = stem
                && path.extension().is_some_and(|extension| extension == "toml")
            {
                names.push(stem.to_owned());
            }
        }
        let peers_folder = folder.join("peers");
        let mut peers = Vec::new();
        if peers_folder.is_dir() {
            for path in list(&peers_folder)? {
                let name = path.file_name().and_then(|name| name.to_str());
                if let Some(name) = name
                    && path.join("peer.toml").is_file()
                {
                    peers.push(name.to_owned());
                }
            }
        }
        Ok(Self { folder, names, peers })
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Names of all scenarios, sorted.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Names of all peers, sorted.
    pub fn peer_names(&self) -> &[String] {
        &self.peers
    }

    /// Finds a scenario by name, or by the path of its file, and reads it.
    ///
    /// # Errors
    /// [`Error::UnknownScenario`] with the nearest name, [`Error::Read`], or
    /// what is wrong with the file.
    pub fn find(&self, name_or_path: &str) -> Result<ScenarioSource, Error> {
        let is_path = name_or_path.contains('/') || name_or_path.ends_with(".toml");
        let path = if is_path {
            PathBuf::from(name_or_path)
        } else if self.names.iter().any(|name| name == name_or_path) {
            self.folder.join(format!("{name_or_path}.toml"))
        } else {
            let known = self.names.clone();
            return Err(Error::UnknownScenario { name: name_or_path.to_owned(), known });
        };
        let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        self.read(&name.unwrap_or_default(), &path)
    }

    /// Reads a scenario by the path of its file under a name of the caller's, as that of
    /// the run that kept the file.
    ///
    /// # Errors
    /// [`Error::Read`], or what is wrong with the file.
    pub fn read(&self, name: &str, path: &Path) -> Result<ScenarioSource, Error> {
        ScenarioSource::parse(name, &path.display().to_string(), &read(path)?, &self.peers)
    }

    /// Reads a peer and its templates. `l7:p2c` is the peer `l7` under the policy
    /// p2c, whatever the scenario's policy is, and `l7@retries` is it with the settings that
    /// the scenario has under that name.
    ///
    /// # Errors
    /// [`Error::UnknownPeer`] with the nearest name, [`Error::PeerPolicy`],
    /// [`Error::Read`], or what is wrong with one of its files.
    pub fn peer(&self, name: &str) -> Result<Peer, Error> {
        let parts = peer::split_name(name).map_err(Error::PeerPolicy)?;
        let mut peer = self.peer_in(parts.folder)?;
        if let (Layer::None, Some(_)) = (peer.layer, parts.policy) {
            let message = format!("`{}` picks nothing, so `{name}` means nothing", parts.folder);
            return Err(Error::PeerPolicy(message));
        }
        let settings = parts.settings.map(|settings| format!("with {settings}"));
        let policy = parts.policy.map(|policy| policy.to_string());
        let added = settings.into_iter().chain(policy);
        peer.title = added.fold(peer.title, |title, one| format!("{title}, {one}"));
        peer.name = name.to_owned();
        peer.policy = parts.policy;
        peer.settings = parts.settings.map(str::to_owned);
        Ok(peer)
    }

    fn peer_in(&self, name: &str) -> Result<Peer, Error> {
        if !self.peers.iter().any(|known| known == name) {
            let known = self.peers.clone();
            return Err(Error::UnknownPeer { name: name.to_owned(), known });
        }
        let folder = self.folder.join("peers").join(name);
        let path = folder.join("peer.toml");
        let text = read(&path)?;
        let (document, wire) = Document::read::<PeerWire>(&path.display().to_string(), &text)?;
        peer::check_file_names(&wire.config).map_err(|problem| document.place(problem))?;
        let mut configs = Vec::with_capacity(wire.config.len());
        for (index, name) in wire.config.iter().enumerate() {
            let path = folder.join(name);
            let text = read(&path).map_err(|error| {
                document.place(Problem::new(format!("config[{index}]"), error.to_string()))
            })?;
            let config = ConfigFile::parse(name, &text)
                .map_err(|error| peer::template_error(&path.display().to_string(), error))?;
            configs.push(config);
        }
        peer::check(name, wire, configs).map_err(|problem| document.place(problem))
    }

    /// Names of all engines, sorted; none where there is no folder of them.
    pub fn engine_names(&self) -> Vec<String> {
        let paths = list(&self.folder.join("engines")).unwrap_or_default();
        let engines = paths.iter().filter(|path| path.join("engine.toml").is_file());
        let name = |path: &PathBuf| Some(path.file_name()?.to_str()?.to_owned());
        engines.filter_map(name).collect()
    }

    /// Reads an engine and its templates.
    ///
    /// # Errors
    /// [`Error::UnknownEngine`] with the nearest name, [`Error::Read`], or what is wrong
    /// with its file.
    pub fn engine(&self, name: &str) -> Result<Engine, Error> {
        let known = self.engine_names();
        if !known.iter().any(|known| known == name) {
            return Err(Error::UnknownEngine { name: name.to_owned(), known });
        }
        let folder = self.folder.join("engines").join(name);
        let path = folder.join("engine.toml");
        let text = read(&path)?;
        let (document, wire) = Document::read::<EngineWire>(&path.display().to_string(), &text)?;
        peer::check_file_names(&wire.config).map_err(|problem| document.place(problem))?;
        let configs = wire.config.iter().map(|name| read(&folder.join(name)));
        let configs = configs.collect::<Result<Vec<_>, _>>()?;
        engine::check(name, wire, configs).map_err(|problem| document.place(problem))
    }

    /// The files of a peer, by their names in its folder: what another machine needs to
    /// know it by.
    ///
    /// # Errors
    /// [`Error::Read`] when one can't be read.
    pub fn peer_files(&self, name: &str) -> Result<Vec<(String, String)>, Error> {
        let folder = peer::split_name(name).map_err(Error::PeerPolicy)?.folder;
        let folder = self.folder.join("peers").join(folder);
        let files = list(&folder)?.into_iter().filter(|path| path.is_file());
        let file = |path: PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            Ok((name, read(&path)?))
        };
        files.map(file).collect()
    }

    /// Reads a real client's file.
    ///
    /// # Errors
    /// [`Error::Read`], or what is wrong with the file.
    pub fn client(&self, name: &str) -> Result<ClientProgram, Error> {
        let folder = self.folder.join("clients").join(name);
        let path = folder.join("client.toml");
        let text = read(&path)?;
        let (document, wire) =
            Document::read::<ClientWireFile>(&path.display().to_string(), &text)?;
        check_client_file(name, &folder, wire).map_err(|problem| document.place(problem))
    }

    /// All scenarios in a line or two each, in the order of their names; a
    /// broken file is an error among the others.
    pub fn summaries(&self) -> Vec<Result<Summary, Error>> {
        let summary = |name: &String| {
            self.find(name)?.resolve(false, &[]).map(|scenario| Summary::of(&scenario))
        };
        self.names.iter().map(summary).collect()
    }
}

impl Summary {
    fn of(scenario: &Scenario) -> Self {
        Self {
            name: scenario.name.clone(),
            question: scenario.question.clone(),
            peers: scenario.peers.clone(),
            planned: scenario.planned(),
        }
    }
}

fn list(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let unreadable = |reason| Error::Read { file: folder.display().to_string(), reason };
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        paths.push(entry.map_err(unreadable)?.path());
    }
    // By name: `scale-out` stands before `scale-out-with-age`, which a path would not.
    paths.sort_by(|one, other| one.file_stem().cmp(&other.file_stem()));
    Ok(paths)
}

/// Reads a text file of a size that makes sense.
fn read(path: &Path) -> Result<String, Error> {
    let unreadable = |reason| Error::Read { file: path.display().to_string(), reason };
    let size = fs::metadata(path).map_err(unreadable)?.len();
    if size > LARGEST_FILE_BYTES {
        let reason = format!("{size} bytes are too many for a scenario or a peer");
        return Err(unreadable(std::io::Error::other(reason)));
    }
    let bytes = fs::read(path).map_err(unreadable)?;
    String::from_utf8(bytes).map_err(|error| not_text(&path.display().to_string(), error))
}

/// Where a file stops being text, and what may help.
fn not_text(file: &str, error: FromUtf8Error) -> Error {
    let at = error.utf8_error().valid_up_to();
    let bytes = error.as_bytes();
    let (before, byte) = (&bytes[..at], bytes[at]);
    let message = if bytes.contains(&0) {
        format!("byte 0x{byte:02X} is none of a text; expected a TOML file in UTF-8")
    } else {
        format!("byte 0x{byte:02X} is no UTF-8, and may be Latin-1; save the file as UTF-8")
    };
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let place = Place::File { file: file.to_owned(), line };
    Error::Invalid(Invalid { place, key: String::new(), message })
}
