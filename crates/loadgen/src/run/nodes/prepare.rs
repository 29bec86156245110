//! What nodes have to know before the first trial: the coordinator sends it ([`sent`]), and an
//! agent makes of it what its trials have in common ([`Prepared`]).

use std::{
    fs,
    path::{Path, PathBuf},
};

use agents::wire;
use grpc_call::Interface;
use scenario::{Library, Scenario, ScenarioSource};

use super::{Wanted, convert, files};
use crate::{
    exit::Failure,
    external::{self, Target, Targets, TlsOptions},
    lab::{Certificates, private_folder},
    peers::ReadyPeer,
    root::Root,
    run::{Request, load, preflight, prepare::can_do},
    service::OwnService,
};

/// What all nodes have to know before the first trial.
pub(super) fn sent(
    request: &Request,
    wanted: &Wanted,
    library: &Library,
    certificates: Option<&Certificates>,
) -> Result<wire::Prepare, Failure> {
    let mut peers = Vec::new();
    for peer in library.peer_names() {
        for (name, text) in library.peer_files(peer).map_err(Failure::bad_input)? {
            peers.push(wire::File { path: format!("{peer}/{name}"), content: text.into_bytes() });
        }
    }
    let pairs = certificates.map(Certificates::all_files).transpose().map_err(Failure::lab)?;
    let file = |(path, content)| wire::File { path, content };
    let folder = files::folder_of(&request.source)?;
    let interface = request.service.as_ref().and_then(OwnService::described);
    Ok(wire::Prepare {
        scenario: request.source.name().to_owned(),
        text: request.source.text().to_owned(),
        short: wanted.short,
        settings: convert::settings_to_wire(&wanted.settings),
        peers,
        certificates: pairs.into_iter().flatten().map(file).collect(),
        targets: request.targets.as_ref().map(targets_to_wire).transpose()?,
        files: files::read(&request.scenario, &folder)?,
        folder: folder.to_string_lossy().into_owned(),
        interface: interface.map(Interface::encode).unwrap_or_default(),
        max_errors: request.max_errors,
    })
}

fn targets_to_wire(targets: &Targets) -> Result<wire::Targets, Failure> {
    let read = |path: Option<&PathBuf>| {
        let read = path.map(fs::read).transpose();
        // Each was read before, to see whether it is what it should be.
        read.map(Option::unwrap_or_default).map_err(Failure::lab)
    };
    let tls = &targets.tls;
    let identity = tls.identity.as_ref();
    Ok(wire::Targets {
        targets: targets.all.iter().map(|one| format!("{}={one}", one.name)).collect(),
        insecure: tls.insecure,
        ca: read(tls.ca.as_ref())?,
        cert: read(identity.map(|(cert, _)| cert))?,
        key: read(identity.map(|(_, key)| key))?,
        server_name: tls.server_name.clone().unwrap_or_default(),
    })
}

/// What all trials have in common.
pub(super) struct Prepared {
    pub(super) scenario: Scenario,
    pub(super) peers: Vec<ReadyPeer>,
    pub(super) certificates: Option<Certificates>,
    /// The user's own service, where that is called.
    pub(super) service: Option<OwnService>,
    /// The part of the calls that may fail at what the lab did not start.
    pub(super) max_errors: f64,
    /// Where peers' files are, and those of trials.
    pub(super) folder: tempfile::TempDir,
    /// Where files of the scenario's are.
    _files: tempfile::TempDir,
}

impl Prepared {
    /// Makes the scenario of what was sent, and looks for its peers.
    pub(super) fn of(
        prepare: &wire::Prepare,
        root: &Root,
    ) -> Result<(Self, wire::Prepared), Failure> {
        let folder = tempfile::tempdir().map_err(Failure::lab)?;
        let sent = private_folder().map_err(Failure::lab)?;
        let tree = sent.path().join("tree");
        let library = library(&prepare.peers, folder.path().join("scenarios"))?;
        let source = source(prepare, &tree, &library)?;
        let settings = convert::settings_of_wire(&prepare.settings).map_err(Failure::lab)?;
        let mut scenario = source.resolve(prepare.short, &settings).map_err(Failure::bad_input)?;
        files::run_in(&mut scenario, Path::new(&prepare.folder), &tree);
        let interface = (!prepare.interface.is_empty()).then_some(prepare.interface.as_slice());
        let read = |bytes| Interface::decode(bytes).ok_or(convert::Unreadable("an interface"));
        let interface = interface.map(read).transpose().map_err(Failure::lab)?;
        let count = load::expected_calls(&scenario, 1);
        let service = OwnService::of(&scenario, &source, &settings, count, interface)?;
        let certificates = certificates_of(prepare)?;
        let (peers, missing) = match &prepare.targets {
            Some(targets) => {
                let targets = targets_of(targets, &sent.path().join("tls"))?;
                let found = external::find_all(&targets, &scenario, service.as_ref())?;
                (found.into_iter().map(ReadyPeer::external).collect(), Vec::new())
            }
            None => ready_peers(&scenario, &library, root)?,
        };
        preflight::check(&scenario, &peers)?;
        let servers = preflight::check_command(&scenario).err();
        let found = found(&peers, missing, servers);
        let max_errors = prepare.max_errors;
        let prepared =
            Self { scenario, peers, certificates, service, max_errors, folder, _files: sent };
        Ok((prepared, found))
    }
}

/// The peers that were sent, in a folder of their own.
fn library(peers: &[wire::File], scenarios: PathBuf) -> Result<Library, Failure> {
    for file in peers {
        let path = convert::below(&scenarios.join("peers"), &file.path).map_err(Failure::lab)?;
        write(path, &file.content)?;
    }
    Library::open(scenarios).map_err(Failure::bad_input)
}

/// The scenario that was sent, with the files it names in `tree`.
fn source(
    prepare: &wire::Prepare,
    tree: &Path,
    library: &Library,
) -> Result<ScenarioSource, Failure> {
    for file in &prepare.files {
        write(files::within(tree, Path::new(&file.path)), &file.content)?;
    }
    let folder = files::within(tree, Path::new(&prepare.folder));
    let file = format!("{}.toml", prepare.scenario);
    let file = convert::below(&folder, &file).map_err(Failure::lab)?;
    write(file.clone(), prepare.text.as_bytes())?;
    library.read(&prepare.scenario, &file).map_err(Failure::bad_input)
}

/// Peers that can't be run here, with the reason.
type Missing = Vec<(String, String)>;

/// The peers that can be run here, and the others.
fn ready_peers(
    scenario: &Scenario,
    library: &Library,
    root: &Root,
) -> Result<(Vec<ReadyPeer>, Missing), Failure> {
    let (mut peers, mut missing) = (Vec::new(), Vec::new());
    for name in &scenario.peers {
        let peer = library.peer(name).map_err(Failure::bad_input)?;
        let ready = ReadyPeer::prepare(peer, root)
            .and_then(|ready| can_do(&ready, scenario).map(|()| ready));
        match ready {
            Ok(ready) => peers.push(ready),
            Err(reason) => missing.push((name.clone(), reason.to_string())),
        }
    }
    Ok((peers, missing))
}

/// What there is on this node, and what is missing.
fn found(peers: &[ReadyPeer], missing: Missing, no_servers: Option<String>) -> wire::Prepared {
    let there = peers.iter().map(|ready| wire::PeerFound {
        name: ready.peer.name.clone(),
        version: ready.version.clone(),
        missing: None,
    });
    let missing = missing.into_iter().map(|(name, reason)| wire::PeerFound {
        name,
        version: None,
        missing: Some(reason),
    });
    let peers = there.chain(missing).collect();
    wire::Prepared { peers, no_servers: no_servers.unwrap_or_default() }
}

fn certificates_of(prepare: &wire::Prepare) -> Result<Option<Certificates>, Failure> {
    let files: Vec<(&str, &[u8])> = prepare
        .certificates
        .iter()
        .map(|file| (file.path.as_str(), file.content.as_slice()))
        .collect();
    let made = (!files.is_empty()).then(|| Certificates::of_files(&files)).transpose();
    made.map_err(Failure::lab)
}

/// What is driven. Its files go into `folder`.
fn targets_of(sent: &wire::Targets, folder: &Path) -> Result<Targets, Failure> {
    let all = sent.targets.iter().map(|text| text.parse::<Target>());
    let file = |name: &str, content: &[u8]| -> Result<Option<PathBuf>, Failure> {
        let path = folder.join(name);
        (!content.is_empty()).then(|| write(path.clone(), content).map(|()| path)).transpose()
    };
    let (cert, key) = (file("cert.pem", &sent.cert)?, file("key.pem", &sent.key)?);
    let tls = TlsOptions {
        ca: file("ca.pem", &sent.ca)?,
        server_name: Some(sent.server_name.clone()).filter(|name| !name.is_empty()),
        identity: cert.zip(key),
        insecure: sent.insecure,
    };
    Ok(Targets {
        all: all.collect::<Result<_, _>>().map_err(Failure::lab)?,
        expected: None,
        tls,
        // The coordinator reads them.
        bills: Vec::new(),
    })
}

fn write(path: PathBuf, content: &[u8]) -> Result<(), Failure> {
    let parent = path.parent().unwrap_or(&path).to_owned();
    let written = fs::create_dir_all(parent).and_then(|()| fs::write(&path, content));
    written.map_err(|error| Failure::writing(path.display(), &error))
}
