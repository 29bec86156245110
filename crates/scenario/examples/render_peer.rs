//! Renders a peer for a script: writes its files into a folder and prints the
//! words that start it, so that `scripts/bench.sh` starts every proxy exactly
//! as the lab does. Starts nothing itself.
//!
//! Prints `env NAME=VALUE` for each variable to set, then `arg WORD` for each
//! word of the command; with `--version`, the words that print the version;
//! with `--policies`, the policies it can do.

use std::{
    env,
    error::Error,
    ffi::OsString,
    fmt::Write as _,
    fs,
    io::{self, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
};

use balance::PolicyKind;
use scenario::{Library, Lookup, RenderInput, Target, Tls, TlsFiles};

const USAGE: &str = "usage: render_peer PEER --dir DIR --listen ADDR --policy NAME \
                     --backend ID=ADDR[,WEIGHT]... [--loadgen PROGRAM]
       render_peer PEER --version | --policies";

fn main() -> ExitCode {
    match output(env::args().skip(1)) {
        Ok(text) => match io::stdout().write_all(text.as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What the command line asks for.
struct Arguments {
    peer: String,
    version: bool,
    policies: bool,
    dir: PathBuf,
    listen: SocketAddr,
    policy: PolicyKind,
    backends: Vec<Target>,
    loadgen: PathBuf,
}

impl Arguments {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, Box<dyn Error>> {
        let mut arguments = Self {
            peer: words.next().ok_or(USAGE)?,
            version: false,
            policies: false,
            dir: PathBuf::from("."),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            policy: PolicyKind::default(),
            backends: Vec::new(),
            loadgen: PathBuf::from("loadgen"),
        };
        while let Some(flag) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{flag} needs a value"));
            match flag.as_str() {
                "--version" => arguments.version = true,
                "--policies" => arguments.policies = true,
                "--dir" => arguments.dir = value()?.into(),
                "--listen" => arguments.listen = value()?.parse()?,
                "--policy" => arguments.policy = value()?.parse()?,
                "--backend" => arguments.backends.push(target(&value()?)?),
                "--loadgen" => arguments.loadgen = value()?.into(),
                _ => return Err(format!("unknown flag {flag}\n{USAGE}").into()),
            }
        }
        Ok(arguments)
    }
}

fn target(text: &str) -> Result<Target, Box<dyn Error>> {
    let (id, rest) = text.split_once('=').ok_or("a backend is ID=ADDR[,WEIGHT]")?;
    let (addr, weight) = rest.split_once(',').unwrap_or((rest, "1"));
    let (addr, weight) = (addr.parse()?, weight.parse()?);
    Ok(Target { id: id.to_owned(), addr, weight, zone: String::new() })
}

fn output(words: impl Iterator<Item = String>) -> Result<String, Box<dyn Error>> {
    let arguments = Arguments::parse(words)?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?;
    let peer = Library::open(root.join("scenarios"))?.peer(&arguments.peer)?;
    if peer.in_kernel() {
        // On the loopback it would change the rules of the whole machine.
        let name = arguments.peer;
        return Err(format!(
            "{name} is set up in a network namespace of the lab; run it with \
             `loadgen --set network=namespaces --peers {name}`"
        )
        .into());
    }
    let mut text = String::new();
    if arguments.policies {
        for policy in peer.policies() {
            writeln!(text, "{policy}")?;
        }
        return Ok(text);
    }
    let peers_folder = root.join("peers");
    let lookup = Lookup {
        env: &|name: &str| -> Option<OsString> { env::var_os(name) },
        peers_folder: &peers_folder,
        is_program: &|path| path.is_file(),
    };
    let program = peer.locate(&lookup)?;
    if arguments.version {
        let command = peer.version_command(&arguments.loadgen, program.as_deref())?;
        for word in command.into_iter().flatten() {
            writeln!(text, "arg {word}")?;
        }
        return Ok(text);
    }
    // Free a moment ago; whoever takes it in between makes the proxy say so.
    let admin = std::net::TcpListener::bind((arguments.listen.ip(), 0))?.local_addr()?;
    let rendered = peer
        .render(&RenderInput {
            loadgen: &arguments.loadgen,
            program: program.as_deref(),
            listen: arguments.listen,
            admin,
            backends: &arguments.backends,
            policy: arguments.policy,
            max_streams: None,
            threads: 1,
            own_zone: "",
            zone_proxies: &[],
            settings: None,
            tls: Tls::None,
            tls_files: TlsFiles::default(),
            dir: &arguments.dir,
        })?
        .ok_or_else(|| format!("{} is no process", arguments.peer))?;
    for file in &rendered.files {
        fs::write(arguments.dir.join(&file.name), &file.text)?;
    }
    for (name, value) in &rendered.environment {
        writeln!(text, "env {name}={value}")?;
    }
    for word in &rendered.argv {
        writeln!(text, "arg {word}")?;
    }
    Ok(text)
}
