//! The committed scenarios, peers and schemas, and what is said of broken ones.
use std::{
    collections::HashMap,
    ffi::OsString,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use balance::PolicyKind;
use scenario::{
    Layer, Library, Lookup, ReloadSignal, RenderError, RenderInput, Rendered, RenderedHow, Target,
    Tls, TlsFiles, engine_schema, peer_schema, scenario_schema,
};

fn scenarios() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scenarios")
}

fn library() -> Library {
    Library::open(scenarios()).unwrap()
}

fn targets(weights: &[u32]) -> Vec<Target> {
    let target = |(index, weight): (usize, &u32)| Target {
        id: format!("b{index}"),
        addr: SocketAddr::from(([127, 0, 0, 1], 5000 + u16::try_from(index).unwrap())),
        weight: *weight,
        zone: String::new(),
    };
    weights.iter().enumerate().map(target).collect()
}

fn render(
    library: &Library,
    peer: &str,
    policy: PolicyKind,
    weights: &[u32],
) -> Result<Option<Rendered>, RenderError> {
    render_limited(library, peer, policy, weights, None)
}

fn render_limited(
    library: &Library,
    peer: &str,
    policy: PolicyKind,
    weights: &[u32],
    max_streams: Option<u32>,
) -> Result<Option<Rendered>, RenderError> {
    let backends = targets(weights);
    let input = RenderInput {
        loadgen: Path::new("/bin/loadgen"),
        program: Some(Path::new("/bin/proxy")),
        listen: SocketAddr::from(([127, 0, 0, 1], 4000)),
        admin: SocketAddr::from(([127, 0, 0, 9], 4001)),
        backends: &backends,
        policy,
        max_streams,
        threads: 1,
        own_zone: "",
        zone_proxies: &[],
        settings: None,
        tls: Tls::None,
        tls_files: TlsFiles::default(),
        dir: Path::new("/run/dir"),
    };
    library.peer(peer).unwrap().render(&input)
}

#[test]
fn the_committed_schemas_are_those_of_the_types() {
    for (file, schema) in [
        ("scenario.schema.json", scenario_schema()),
        ("peers/peer.schema.json", peer_schema()),
        ("engines/engine.schema.json", engine_schema()),
    ] {
        let path = scenarios().join(file);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&path, &schema).unwrap();
        }
        let committed = fs::read_to_string(&path).unwrap_or_default();
        assert!(committed == schema, "{file} is out of date; run this test with UPDATE_GOLDEN=1");
    }
}

#[test]
fn every_committed_scenario_is_right_and_expects_something() {
    let library = library();
    assert!(!library.names().is_empty());
    for name in library.names() {
        let source = library.find(name).unwrap();
        assert!(source.text().starts_with("# "), "{name} opens with its question");
        for short in [false, true] {
            let scenario = source.resolve(short, &[]).unwrap();
            assert!(!scenario.claims.is_empty(), "{name}");
            assert!(scenario.learned.is_some(), "{name}");
            for claim in &scenario.claims {
                let is_run = |peer: &str| scenario.peers.iter().any(|run| run == peer);
                assert!(
                    claim.peers().all(is_run),
                    "{name}: {claim} is about a peer it doesn't run"
                );
            }
        }
    }
    for summary in library.summaries() {
        let summary = summary.unwrap();
        assert!(!summary.question.is_empty());
    }
}

#[test]
fn every_committed_peer_renders_every_policy_it_can_do() {
    let library = library();
    for name in library.peer_names() {
        let peer = library.peer(name).unwrap();
        assert_eq!(peer.layer.stands_between(), peer.process.is_some(), "{name}");
        assert!(peer.policies().contains(&PolicyKind::RoundRobin), "{name}");
        for policy in peer.policies() {
            let rendered = render(&library, name, policy, &[1, 1, 1]).unwrap();
            let Some(rendered) = rendered else { continue };
            let files: String = rendered.files.iter().map(|file| file.text.as_str()).collect();
            let whole = format!("{}\n{files}", rendered.argv.join("\n"));
            for port in ["4000", "5000", "5001", "5002"] {
                assert!(whole.contains(port), "{name} with {policy}: no {port} in\n{whole}");
            }
        }
    }
}

#[test]
fn a_stream_limit_reaches_every_l7_proxy_that_can_be_told() {
    let library = library();
    let l7 = |name: &&String| library.peer(name).unwrap().layer == Layer::L7;
    for name in library.peer_names().iter().filter(l7) {
        match render_limited(&library, name, PolicyKind::RoundRobin, &[1], Some(77_001)) {
            Ok(rendered) => {
                let rendered = rendered.unwrap();
                let files = rendered.files.iter().any(|file| file.text.contains("77001"));
                let words = rendered.argv.iter().any(|word| word == "77001");
                assert!(files || words, "{name}");
            }
            Err(error) => {
                assert!(["caddy-l7", "l7-floor"].contains(&name.as_str()), "{name}");
                assert_eq!(error, RenderError::Streams { peer: name.clone() });
            }
        }
    }
}

#[test]
fn our_proxies_can_do_every_policy_that_their_layer_can() {
    let policies = |name| library().peer(name).unwrap().policies();
    assert_eq!(policies("l7"), PolicyKind::ALL);
    // What backends say of their load is in the trailers of calls.
    let of_connections = PolicyKind::ALL.into_iter().filter(|policy| !policy.asks_backends());
    assert_eq!(policies("l4"), of_connections.collect::<Vec<_>>());
}

#[test]
fn our_l4_proxy_is_started_like_any_other() {
    let rendered = render(&library(), "l4", PolicyKind::P2c, &[1, 3]).unwrap().unwrap();
    let expected = [
        "/bin/loadgen",
        "l4-proxy",
        "--listen",
        "127.0.0.1:4000",
        "--policy",
        "p2c",
        "--threads",
        "1",
        "--control-pipe",
        "--backends-file",
        "/run/dir/backends.toml",
        "--admin-listen",
        "127.0.0.9:4001",
    ];
    assert_eq!(rendered.argv, expected);
    assert!(rendered.environment.is_empty());
    let [file] = rendered.files.as_slice() else { panic!("{:?}", rendered.files) };
    assert!(file.text.contains("address = \"127.0.0.1:5001\"\nweight = 3"), "{}", file.text);
    let reload = rendered.reload.unwrap();
    assert_eq!(reload.how, RenderedHow::Signal(ReloadSignal::Hup));
    assert_eq!(reload.lists, "http://127.0.0.9:4001/backends");
}

#[test]
fn how_a_proxy_hears_of_other_backends_has_to_add_up() {
    let reload = |table: &str, template: &str| {
        let folder = Folder::new(&format!("{PROXY}[reload]\n{table}\n"), template);
        folder.library().peer("proxy").map(|_| ()).map_err(|error| error.to_string())
    };
    let lists = "lists = \"http://{admin}/backends\"";
    let template = "{listen} {policy} {admin} {each backend}{addr} {end}";
    assert_eq!(reload(lists, template), Ok(()));
    assert_eq!(reload(&format!("signal = \"usr2\"\n{lists}"), template), Ok(()));
    assert_eq!(reload(&format!("command = [\"{{program}}\"]\n{lists}"), template), Ok(()));
    for (table, template, expected) in [
        ("lists = \"/backends\"", template, "reload.lists"),
        ("signal = \"hup\"", template, "lists"),
        (&format!("signal = \"kill\"\n{lists}"), template, "signal"),
        (&format!("signal = \"hup\"\ncommand = [\"x\"]\n{lists}"), template, "keep one"),
        (lists, "{listen} {policy} {each backend}{addr} {end}", "use `{admin}`"),
    ] {
        let error = reload(table, template).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn what_a_proxy_says_of_tls_has_to_add_up() {
    let with = |table: &str, template: &str| {
        let folder = Folder::new(&format!("{PROXY}{table}\n"), template);
        folder.library().peer("proxy").map(|_| ()).map_err(|error| error.to_string())
    };
    let plain = TEMPLATE.to_owned();
    let used = format!("{TEMPLATE}{{client_tls}}\n");
    let word = "[tls.client]\non = \"cert {tls_cert}\"";
    assert_eq!(with(word, &used), Ok(()));
    assert_eq!(with("[tls.backend]\narguments = [\"--ca\", \"{tls_ca}\"]", &plain), Ok(()));
    for (table, template, expected) in [
        ("[tls.server]\non = \"x\"", &plain, "unknown key `server`"),
        ("[tls.client]\noff = \"x\"", &used, "tls.client: this table changes nothing"),
        ("[tls.client]\non = \"{tls_crt}\"", &used, "did you mean `tls_cert`?"),
        (word, &plain, "tls.client.on: `{client_tls}` is used nowhere"),
        ("", &used, "tls.client.on: `{client_tls}` is used, and nothing says"),
        (word, &format!("{used}{{tls_key}}\n"), "used outside of [tls.client]"),
    ] {
        let error = with(table, template).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
    let l4 = PROXY.replace("layer = \"l7\"", "layer = \"l4\"");
    let error = Folder::new(&format!("{l4}{word}\n"), &used).refusal();
    assert!(error.contains("tls.client: a peer of layer `l4` passes TLS through"), "{error}");
}

#[test]
fn unknown_names_are_met_with_the_nearest() {
    let library = library();
    let error = library.find("single-con-flood").unwrap_err().to_string();
    assert!(error.contains("did you mean `single-conn-flood`?"), "{error}");
    assert!(error.contains("`many-conns`"), "{error}");
    let error = library.peer("direkt").unwrap_err().to_string();
    assert!(error.contains("did you mean `direct`?"), "{error}");
    let error = library.find("no/such/file.toml").unwrap_err().to_string();
    assert!(error.starts_with("cannot read no/such/file.toml"), "{error}");
}

/// A folder of scenarios with one peer in it.
struct Folder {
    folder: tempfile::TempDir,
}

const PROXY: &str = r#"title = "A proxy"
layer = "l7"
description = "Balances."
find = ["env:A_PROXY", "peers:bin/proxy", "path:proxy"]
install = "apt-get install proxy"
command = ["{program}", "-f", "{config}"]
version_command = ["{program}", "-v"]
config = ["proxy.cfg"]
stop_signal = "quit"
[policies]
round_robin = "rr"
random = ""
[environment]
THREADS = "1"
HOME = "{dir}"
"#;

const TEMPLATE: &str =
    "listen {listen_port}\nbalance {policy}\n{each backend}\nserver {id} {addr}\n{end}\n";

impl Folder {
    fn new(peer: &str, template: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let proxy = folder.path().join("peers/proxy");
        fs::create_dir_all(&proxy).unwrap();
        fs::write(proxy.join("peer.toml"), peer).unwrap();
        fs::write(proxy.join("proxy.cfg"), template).unwrap();
        Self { folder }
    }

    fn library(&self) -> Library {
        Library::open(self.folder.path()).unwrap()
    }

    /// What is said of a broken peer, from the file's plain name on.
    fn refusal(&self) -> String {
        let message = self.library().peer("proxy").unwrap_err().to_string();
        let at = message.find("proxy/").map_or(0, |at| at + "proxy/".len());
        message[at..].to_owned()
    }
}

#[test]
fn a_peer_is_added_with_files_alone() {
    let folder = Folder::new(PROXY, TEMPLATE);
    let library = folder.library();
    let peer = library.peer("proxy").unwrap();
    assert_eq!((peer.layer, peer.title.as_str()), (Layer::L7, "A proxy"));
    assert_eq!(peer.policies(), [PolicyKind::RoundRobin, PolicyKind::Random]);
    let rendered = render(&library, "proxy", PolicyKind::RoundRobin, &[1, 1]).unwrap().unwrap();
    assert_eq!(rendered.argv, ["/bin/proxy", "-f", "/run/dir/proxy.cfg"]);
    assert_eq!(
        rendered.files[0].text,
        "listen 4000\nbalance rr\nserver b0 127.0.0.1:5000\nserver b1 127.0.0.1:5001\n"
    );
    let environment = [("HOME", "/run/dir"), ("THREADS", "1")];
    assert_eq!(rendered.environment, environment.map(|(k, v)| (k.to_owned(), v.to_owned())));
    let version = peer.version_command(Path::new("l"), Some(Path::new("/p"))).unwrap();
    assert_eq!(version.unwrap(), ["/p", "-v"]);
}

#[test]
fn what_a_peer_cannot_do_is_said() {
    let library_folder = Folder::new(PROXY, TEMPLATE);
    let library = library_folder.library();
    let error = render(&library, "proxy", PolicyKind::Maglev, &[1]).unwrap_err().to_string();
    assert_eq!(error, "proxy has no policy like maglev; it can do `round_robin`, `random`");
    let error = render(&library, "proxy", PolicyKind::RoundRobin, &[1, 2]).unwrap_err();
    assert!(matches!(error, RenderError::Weights { .. }));
    let error = library.peer("proxy").unwrap().version_command(Path::new("l"), None);
    assert!(matches!(error, Err(RenderError::Program { .. })));
}

#[test]
fn a_program_is_looked_for_in_order() {
    let folder = Folder::new(PROXY, TEMPLATE);
    let peer = folder.library().peer("proxy").unwrap();
    let locate = |env: &[(&str, &str)], programs: &[&str]| {
        let env: HashMap<_, _> = env.iter().copied().collect();
        let lookup = Lookup {
            env: &|name| env.get(name).map(OsString::from),
            peers_folder: Path::new("/lab/peers"),
            is_program: &|path| programs.iter().any(|program| Path::new(program) == path),
        };
        peer.locate(&lookup)
    };
    let everywhere = ["/own/proxy", "/lab/peers/bin/proxy", "/usr/bin/proxy"];
    let env = [("A_PROXY", "/own/proxy"), ("PATH", "/bin:/usr/bin")];
    let found = |program: &str| Ok(Some(PathBuf::from(program)));
    assert_eq!(locate(&env, &everywhere), found("/own/proxy"));
    assert_eq!(locate(&env[1..], &everywhere), found("/lab/peers/bin/proxy"));
    assert_eq!(locate(&env[1..], &everywhere[2..]), found("/usr/bin/proxy"));
    // A variable that is set is an order, not a suggestion.
    let error = locate(&env, &everywhere[1..]).unwrap_err().to_string();
    assert!(error.contains("$A_PROXY (/own/proxy is no program)"), "{error}");
    let error = locate(&[], &[]).unwrap_err().to_string();
    assert_eq!(
        error,
        "proxy is not installed: looked for $A_PROXY (not set), /lab/peers/bin/proxy, \
         proxy on PATH; to get it: apt-get install proxy"
    );
    // Where administrators' programs are is looked at as well.
    assert_eq!(locate(&[], &["/usr/sbin/proxy"]), found("/usr/sbin/proxy"));
}

#[test]
fn every_slip_in_a_peer_is_refused_with_its_line() {
    let cases = [
        ("title = \"A proxy\"", "title = \"\"", "peer.toml:1: title: this text is empty"),
        ("layer = \"l7\"", "layer = \"l8\"", "peer.toml:2: layer: unknown value `l8`"),
        (
            "layer = \"l7\"",
            "layer = \"none\"",
            "peer.toml:6: command: a peer of layer `none` has no process",
        ),
        ("\"env:A_PROXY\"", "\"A_PROXY\"", "peer.toml:4: find[0]: `A_PROXY` is no place to look"),
        ("\"peers:bin/proxy\"", "\"peers:../proxy\"", "peer.toml:4: find[1]: `../proxy` leads out"),
        ("\"path:proxy\"", "\"path:/bin/proxy\"", "peer.toml:4: find[2]: `/bin/proxy` is a path"),
        ("\"path:proxy\"", "\"path:\"", "peer.toml:4: find[2]: `path:` names nothing"),
        (
            "find = [\"env:A_PROXY\", \"peers:bin/proxy\", \"path:proxy\"]",
            "find = []",
            "peer.toml:4: find: `{program}` is used, and nothing says",
        ),
        (
            "{config}",
            "{confg}",
            "peer.toml:6: command[2]: unknown placeholder `{confg}`; did you mean `config`?",
        ),
        ("{config}", "x", "peer.toml:8: config: the command uses neither"),
        (
            "command = [\"{program}\", \"-f\", \"{config}\"]",
            "",
            "peer.toml:1: command: this key is missing",
        ),
        (
            "\"proxy.cfg\"",
            "\"../proxy.cfg\"",
            "peer.toml:8: config[0]: `../proxy.cfg` is no plain file name",
        ),
        (
            "\"proxy.cfg\"",
            "\"proxy.cfg\", \"proxy.cfg\"",
            "peer.toml:8: config[1]: `proxy.cfg` is listed twice",
        ),
        ("\"proxy.cfg\"", "\"other.cfg\"", "peer.toml:8: config[0]: cannot read"),
        ("config = [\"proxy.cfg\"]", "", "peer.toml:6: command: nothing says where to listen"),
        (
            "stop_signal = \"quit\"",
            "stop_signal = \"usr1\"",
            "peer.toml:9: stop_signal: unknown value `usr1`",
        ),
        ("random = \"\"", "rnd = \"\"", "peer.toml:12: policies.rnd: unknown value `rnd`"),
        (
            "round_robin = \"rr\"\nrandom = \"\"\n",
            "",
            "peer.toml:10: policies: this table is missing or empty",
        ),
        (
            "THREADS = \"1\"",
            "THREADS = 1",
            "peer.toml:14: environment.THREADS: found integer `1`, expected a string",
        ),
        ("{dir}", "{addr}", "peer.toml:15: environment.HOME: `{addr}` stands outside"),
    ];
    for (line, replacement, expected) in cases {
        assert!(PROXY.contains(line), "{line}");
        let message = Folder::new(&PROXY.replacen(line, replacement, 1), TEMPLATE).refusal();
        assert!(message.starts_with(expected), "{replacement}:\n{message}\n{expected}");
    }
    let templates = [
        (
            "listen {listen_port}",
            "listen {lisen_port}",
            "proxy.cfg:1: unknown placeholder `{lisen_port}`; did you mean `listen_port`?",
        ),
        ("{end}\n", "", "proxy.cfg:3: `{each backend}` without `{end}`"),
        ("{addr}", "b", "peer.toml:6: command: nothing names the backends"),
        ("listen {listen_port}", "", "peer.toml:6: command: nothing says where to listen"),
        ("{policy}", "rr", "peer.toml:10: policies: the words differ"),
    ];
    for (line, replacement, expected) in templates {
        let message = Folder::new(PROXY, &TEMPLATE.replacen(line, replacement, 1)).refusal();
        assert!(message.starts_with(expected), "{replacement}:\n{message}\n{expected}");
    }
}

#[test]
fn a_file_that_is_no_text_is_refused_with_its_line() {
    let folder = Folder::new(PROXY, TEMPLATE);
    let write = |name: &str, bytes: &[u8]| fs::write(folder.folder.path().join(name), bytes);
    write("latin.toml", b"question = \"?\"\n# caf\xe9\n").unwrap();
    write("binary.toml", b"\x7fELF\x02\x01\0\0\xff\xff").unwrap();
    write("peers/proxy/proxy.cfg", b"listen\n\n\xfc\n").unwrap();
    let library = Library::open(folder.folder.path()).unwrap();
    for (error, expected) in [
        (library.find("latin").unwrap_err(), "latin.toml:2: byte 0xE9 is no UTF-8, and may be"),
        (library.find("binary").unwrap_err(), "binary.toml:1: byte 0xFF is none of a text"),
        (library.peer("proxy").unwrap_err(), "proxy.cfg:3: byte 0xFC is no UTF-8"),
    ] {
        assert!(error.to_string().contains(expected), "{error}");
    }
}
