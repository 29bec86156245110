//! The user's own servers in place of the lab's backend: where they run already, or how they
//! are started, by a command with placeholders, and what shows that one is ready.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use measure::record::{Network, Tls};
use serde::{Serialize, Serializer};

use crate::{
    bounds::{self, time_within},
    error::{Problem, did_you_mean, list_of, refuse},
    peer::pieces,
    quantity::{DurationText, duration_as_text},
    wire::{BackendsWire, Ready},
};

const DEFAULT_READY_WITHIN: Duration = Duration::from_secs(30);

/// Whose servers the backends are.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Servers {
    /// The lab's echo backend.
    #[default]
    Echo,
    /// The user's own, which the lab starts.
    Started(BackendCommand),
    /// The user's own, which run already: `HOST:PORT` of each, as many as backends.
    Running(Vec<String>),
}

impl Servers {
    /// Whether they are not the lab's own.
    pub fn are_own(&self) -> bool {
        *self != Self::Echo
    }

    /// How they are started, where they are the user's and the lab starts them.
    pub fn command(&self) -> Option<&BackendCommand> {
        match self {
            Self::Started(command) => Some(command),
            Self::Echo | Self::Running(_) => None,
        }
    }

    /// Where they run already.
    pub fn running(&self) -> Option<&[String]> {
        match self {
            Self::Running(addresses) => Some(addresses),
            Self::Echo | Self::Started(_) => None,
        }
    }
}

/// How servers of the user's own are started.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BackendCommand {
    /// The program and its arguments; never empty.
    pub command: Vec<ServerText>,
    /// Additions to the environment of all of them.
    pub environment: BTreeMap<String, ServerText>,
    /// The folder they run in. Not recorded: it means something on one machine only.
    #[serde(skip)]
    pub folder: PathBuf,
    /// What shows that one is ready.
    pub ready: Ready,
    /// How long one may take until then.
    #[serde(serialize_with = "duration_as_text")]
    pub ready_within: Duration,
}

/// One server, for which a command is rendered.
#[derive(Clone, Copy, Debug)]
pub struct Server<'a> {
    /// Its id: `b0`.
    pub id: &'a str,
    /// Its number, from zero.
    pub index: usize,
    /// Where it has to listen.
    pub addr: SocketAddr,
    /// Where each of them may listen for the others, by their numbers.
    pub cluster: &'a [SocketAddr],
    /// Its certificate and key, where it has to speak TLS.
    pub tls: Option<(&'a Path, &'a Path)>,
}

/// A text with placeholders that stand for values of one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerText {
    written: String,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Value(Placeholder),
}

impl Part {
    /// The number of the server whose address it stands for.
    fn other_server(&self) -> Option<usize> {
        match self {
            Self::Value(Placeholder::Cluster(number)) => *number,
            _ => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Placeholder {
    Port,
    Host,
    Addr,
    Id,
    Index,
    /// Its own address for the others, or that of another one.
    Cluster(Option<usize>),
    TlsCert,
    TlsKey,
}

const PLACEHOLDERS: [(&str, Placeholder); 8] = [
    ("port", Placeholder::Port),
    ("host", Placeholder::Host),
    ("addr", Placeholder::Addr),
    ("id", Placeholder::Id),
    ("index", Placeholder::Index),
    ("cluster_addr", Placeholder::Cluster(None)),
    ("tls_cert", Placeholder::TlsCert),
    ("tls_key", Placeholder::TlsKey),
];

impl Placeholder {
    /// `{cluster_addr.2}` is that of server number 2.
    fn named(tag: &str) -> Option<Self> {
        if let Some(number) = tag.strip_prefix("cluster_addr.") {
            return number.parse().ok().map(|number| Self::Cluster(Some(number)));
        }
        PLACEHOLDERS.iter().find(|(name, _)| *name == tag).map(|(_, placeholder)| *placeholder)
    }
}

impl ServerText {
    fn parse(key: &str, written: &str) -> Result<Self, Problem> {
        let mut parts = Vec::new();
        for token in pieces(written) {
            parts.push(match token {
                Ok(text) => Part::Text(text),
                Err(tag) => Part::Value(Placeholder::named(tag).ok_or_else(|| unknown(key, tag))?),
            });
        }
        Ok(Self { written: written.to_owned(), parts })
    }

    /// The text for one server.
    pub fn render(&self, server: &Server<'_>) -> String {
        let path = |path: Option<&Path>| path.unwrap_or(Path::new("")).display().to_string();
        let value = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::Value(Placeholder::Port) => server.addr.port().to_string(),
            Part::Value(Placeholder::Host) => server.addr.ip().to_string(),
            Part::Value(Placeholder::Addr) => server.addr.to_string(),
            Part::Value(Placeholder::Id) => server.id.to_owned(),
            Part::Value(Placeholder::Index) => server.index.to_string(),
            Part::Value(Placeholder::Cluster(number)) => {
                // Checked: there are as many servers.
                let addr = server.cluster.get(number.unwrap_or(server.index));
                addr.map(ToString::to_string).unwrap_or_default()
            }
            // Checked: it is there wherever the scenario speaks TLS.
            Part::Value(Placeholder::TlsCert) => path(server.tls.map(|(cert, _)| cert)),
            Part::Value(Placeholder::TlsKey) => path(server.tls.map(|(_, key)| key)),
        };
        self.parts.iter().map(value).collect()
    }

    fn uses(&self, wanted: &[Placeholder]) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Value(used) if wanted.contains(used)))
    }
}

impl Serialize for ServerText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.written)
    }
}

fn unknown(key: &str, tag: &str) -> Problem {
    let names = PLACEHOLDERS.map(|(name, _)| name);
    let (hint, list) = (did_you_mean(tag, &names), list_of(&names));
    Problem::new(
        key,
        format!(
            "unknown placeholder `{{{tag}}}`{hint}; known are {list}; `{{{{{tag}}}}}` stands for \
             the text itself"
        ),
    )
}

/// Checks whose servers the backends are, of which there are `count`.
pub(crate) fn check_servers(
    wire: &BackendsWire,
    count: usize,
    tls: Tls,
    network: Network,
) -> Result<Servers, Problem> {
    match (&wire.command, &wire.addresses) {
        (None, None) => without_command(wire).map(|()| Servers::Echo),
        (Some(words), None) => check_command(words, wire, count, tls).map(Servers::Started),
        (None, Some(addresses)) => {
            without_command(wire)?;
            check_running(addresses, wire, tls, network).map(Servers::Running)
        }
        (Some(_), Some(_)) => Err(Problem::new(
            "backends.addresses",
            "servers that run already are not started; take `backends.command` out, or this",
        )),
    }
}

fn check_running(
    addresses: &[String],
    wire: &BackendsWire,
    tls: Tls,
    network: Network,
) -> Result<Vec<String>, Problem> {
    only_for_echo(wire, "the servers at `backends.addresses` are yours")?;
    let key = |index| format!("backends.addresses[{index}]");
    for (index, address) in addresses.iter().enumerate() {
        let port = address.rsplit_once(':').filter(|(host, _)| !host.is_empty());
        let port = port.and_then(|(_, port)| port.parse::<u16>().ok());
        if port.is_none_or(|port| port == 0) || address.contains('/') {
            let message = format!("`{address}`: expected HOST:PORT, as in 10.0.0.7:50051");
            return Err(Problem::new(key(index), message));
        }
        if addresses[..index].contains(address) {
            return Err(Problem::new(key(index), format!("`{address}` stands there twice")));
        }
    }
    if tls.of_backends() {
        let message = format!(
            "`tls = \"{}\"` has backends show certificates of the lab's, and these servers run \
             already; use `none` or `clients`",
            tls.name()
        );
        return Err(Problem::new("tls", message));
    }
    if network != Network::Loopback {
        let message = "a network namespace of the lab's does not lead to servers that run already; \
                       use `loopback`";
        return Err(Problem::new("network", message));
    }
    Ok(addresses.to_vec())
}

fn check_command(
    words: &[String],
    wire: &BackendsWire,
    count: usize,
    tls: Tls,
) -> Result<BackendCommand, Problem> {
    if words.first().is_none_or(|program| program.trim().is_empty()) {
        let message = "there is no program; write it as [\"python3\", \"server.py\", ...]";
        return Err(Problem::new("backends.command", message));
    }
    only_for_echo(wire, "`backends.command` starts servers of yours")?;
    let word = |(index, word): (usize, &String)| {
        ServerText::parse(&format!("backends.command[{index}]"), word)
    };
    let command: Vec<ServerText> = words.iter().enumerate().map(word).collect::<Result<_, _>>()?;
    let environment = check_environment("backends.environment", &wire.environment)?;
    let of_servers = wire.overrides.iter().flat_map(|server| server.environment.values());
    let of_servers = of_servers.filter_map(|text| ServerText::parse("", text).ok());
    let all: Vec<ServerText> =
        command.iter().chain(environment.values()).cloned().chain(of_servers).collect();
    check_uses(&all, count, tls).map_err(|message| Problem::new("backends.command", message))?;
    let ready_within = wire.ready_within.map_or(DEFAULT_READY_WITHIN, |DurationText(time)| time);
    let ready_within = time_within(
        "backends.ready_within",
        ready_within,
        bounds::READY_WITHIN,
        "a time to start in",
    )?;
    Ok(BackendCommand {
        command,
        environment,
        folder: wire.folder.clone().unwrap_or_default(),
        ready: wire.ready.unwrap_or_default(),
        ready_within,
    })
}

/// Checks what a server is told, by the command and its environments together.
fn check_uses(all: &[ServerText], servers: usize, tls: Tls) -> Result<(), String> {
    let uses = |wanted: &[Placeholder]| all.iter().any(|text| text.uses(wanted));
    if !uses(&[Placeholder::Port, Placeholder::Addr]) {
        let message = "it does not say where to listen; the lab chooses a port for each server: \
                       put `{port}` or `{addr}` into the command or into `backends.environment`";
        return Err(message.to_owned());
    }
    let mut others = all.iter().flat_map(|text| &text.parts).filter_map(Part::other_server);
    if let Some(number) = others.find(|number| *number >= servers) {
        return Err(format!(
            "`{{cluster_addr.{number}}}`: there are {servers} servers, counted from 0"
        ));
    }
    if tls.of_backends() && !(uses(&[Placeholder::TlsCert]) && uses(&[Placeholder::TlsKey])) {
        return Err(format!(
            "`tls = \"{}\"` has backends speak TLS, and the command has no `{{tls_cert}}` and \
             `{{tls_key}}`, the files of the certificate and its key",
            tls.name()
        ));
    }
    Ok(())
}

/// Checks additions to an environment.
pub(crate) fn check_environment(
    key: &str,
    wire: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, ServerText>, Problem> {
    let entry = |(name, value): (&String, &String)| {
        let key = format!("{key}.{name}");
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(Problem::new(key, "no name of an environment variable"));
        }
        Ok((name.clone(), ServerText::parse(&key, value)?))
    };
    wire.iter().map(entry).collect()
}

/// Keys that say how the user's own servers are started, and none are.
fn without_command(wire: &BackendsWire) -> Result<(), Problem> {
    let with_environment = wire.overrides.iter().position(|one| !one.environment.is_empty());
    let set = [
        ("backends.environment".to_owned(), !wire.environment.is_empty()),
        ("backends.folder".to_owned(), wire.folder.is_some()),
        ("backends.ready".to_owned(), wire.ready.is_some()),
        ("backends.ready_within".to_owned(), wire.ready_within.is_some()),
        (
            format!("backends.override[{}].environment", with_environment.unwrap_or_default()),
            with_environment.is_some(),
        ),
    ];
    refuse(set, "this is for servers of yours that the lab starts; add `backends.command`")
}

/// Keys that say how the lab's own backend behaves, which is not started.
fn only_for_echo(wire: &BackendsWire, why: &str) -> Result<(), Problem> {
    let mut set = vec![
        ("backends.service_time".to_owned(), wire.service_time.is_some()),
        ("backends.failures".to_owned(), wire.failures.is_some()),
        ("backends.max_connection_age".to_owned(), wire.max_connection_age.is_some()),
    ];
    for (position, server) in wire.overrides.iter().enumerate() {
        let key = |name: &str| format!("backends.override[{position}].{name}");
        set.extend([
            (key("speed"), server.speed.is_some()),
            (key("service_time"), server.service_time.is_some()),
            (key("failures"), server.failures.is_some()),
        ]);
    }
    refuse(set, format!("only the lab's own backend can be told this, and {why}; take it out"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Scenario, ScenarioSource};

    fn scenario(backends: &str) -> Result<Scenario, String> {
        let text = format!(
            "question = \"Own?\"\ntls = \"none\"\n[backends]\n{backends}\n[load]\nloop = \"open\"\n\
             connections = 1\nrate = \"10/s\"\nduration = \"1s\"\n"
        );
        let peers = ["direct", "l4", "l7"].map(str::to_owned);
        let source = ScenarioSource::parse("own", "there/own.toml", &text, &peers)
            .map_err(|error| error.to_string())?;
        source.resolve(false, &[]).map_err(|error| error.to_string())
    }

    #[test]
    fn a_server_is_told_where_to_listen_and_who_it_is() {
        let own = scenario(
            "count = 2\ncommand = [\"serve\", \"--at={addr}\", \"{{id}}\", \
             \"{cluster_addr} {cluster_addr.0}\"]\n\
             environment = { PORT = \"{port}\", NAME = \"{id}/{index}\" }\nfolder = \"src\"\n\
             [[backends.override]]\nindex = 1\nenvironment = { DELAY = \"5ms\" }",
        )
        .unwrap();
        let command = own.servers.command().unwrap();
        let addr = SocketAddr::from(([127, 0, 0, 1], 4_000));
        let cluster = [5_000, 5_001].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let server = Server { id: "b1", index: 1, addr, cluster: &cluster, tls: None };
        let words: Vec<String> = command.command.iter().map(|word| word.render(&server)).collect();
        let others = "127.0.0.1:5001 127.0.0.1:5000";
        assert_eq!(words, ["serve", "--at=127.0.0.1:4000", "{id}", others]);
        assert_eq!(command.environment["NAME"].render(&server), "b1/1");
        assert_eq!(own.backends[1].environment["DELAY"].render(&server), "5ms");
        assert_eq!(command.folder, Path::new("there/src"), "beside the file");
        assert_eq!((command.ready, command.ready_within), (Ready::Call, DEFAULT_READY_WITHIN));
        assert_eq!(own.backends[0].concurrency, None, "nobody said it");
        let own = scenario("command = [\"s\", \"{port}\"]\nconcurrency = 3").unwrap();
        assert_eq!(own.backends[0].concurrency, Some(3));
    }

    #[test]
    fn what_can_not_be_started_is_told_with_its_line() {
        let command = "command = [\"serve\", \"{port}\"]\n";
        for (backends, expected) in [
            ("command = []", "own.toml:4: backends.command: there is no program"),
            ("command = [\"serve\"]", "put `{port}` or `{addr}`"),
            ("command = [\"serve\", \"{prt}\"]", "own.toml:4: backends.command[1]: unknown"),
            ("command = [\"serve\", \"{prt}\"]", "did you mean `port`?"),
            ("count = 2\ncommand = [\"s\", \"{port} {cluster_addr.2}\"]", "there are 2 servers"),
            (
                &format!("{command}concurrency = 0"),
                "own.toml:5: backends.concurrency: found 0, expected servers from 1",
            ),
            (&format!("{command}environment = {{ A = \"{{x}}\" }}"), "backends.environment.A"),
            (&format!("{command}ready_within = \"0s\""), "backends.ready_within"),
            (&format!("{command}ready = \"soon\""), "own.toml:5: backends.ready"),
            ("ready = \"tcp\"", "own.toml:4: backends.ready: this is for servers of yours"),
            (
                &format!("{command}[[backends.override]]\nindex = 0\nspeed = 0.5"),
                "backends.override[0].speed: only the lab",
            ),
            (
                &format!(
                    "{command}[[fault]]\nat = \"10%\"\nbackend = 0\naction = \"slow_down\"\n\
                     factor = 2"
                ),
                "only the lab's own backend",
            ),
        ] {
            let error = scenario(backends).unwrap_err();
            assert!(error.contains(expected), "{backends}: {error}");
        }
    }

    #[test]
    fn servers_that_run_already_are_taken_as_they_are() {
        let own = scenario("addresses = [\"10.0.0.7:50051\", \"shop.example:443\"]").unwrap();
        assert_eq!(own.servers.running().unwrap(), ["10.0.0.7:50051", "shop.example:443"]);
        assert_eq!(own.backends.len(), 2, "as many backends as addresses");
        for (backends, expected) in [
            ("addresses = [\"10.0.0.7\"]", "own.toml:4: backends.addresses[0]: `10.0.0.7`"),
            ("addresses = [\"a:1\", \"a:1\"]", "`a:1` stands there twice"),
            ("addresses = []", "backends.addresses"),
            ("count = 3\naddresses = [\"a:1\"]", "own.toml:4: backends.count: there are 1"),
            ("addresses = [\"a:1\"]\ncommand = [\"s\", \"{port}\"]", "take `backends.command` out"),
            ("addresses = [\"a:1\"]\nready = \"tcp\"", "add `backends.command`"),
            ("addresses = [\"a:1\"]\nservice_time = \"none\"", "are yours; take it out"),
            (
                "addresses = [\"a:1\", \"b:1\"]\n[[fault]]\nat = \"10%\"\nbackend = 0\n\
                 action = \"kill\"",
                "the lab did not start these servers",
            ),
        ] {
            let error = scenario(backends).unwrap_err();
            assert!(error.contains(expected), "{backends}: {error}");
        }
    }

    #[test]
    fn a_server_that_has_to_speak_tls_is_given_a_certificate() {
        let text = "tls = \"both\"\nquestion = \"Own?\"\n[backends]\ncommand = [\"s\", \"{port}\"]\n\
                    [load]\nloop = \"open\"\nconnections = 1\nrate = \"10/s\"\nduration = \"1s\"\n";
        let peers = ["direct", "l4", "l7"].map(str::to_owned);
        let read = |text: &str| ScenarioSource::parse("own", "own.toml", text, &peers);
        let error = read(text).unwrap_err().to_string();
        assert!(error.contains("`{tls_cert}` and `{tls_key}`"), "{error}");
        read(&text.replace("{port}", "{port},{tls_cert},{tls_key}")).unwrap();
    }
}
