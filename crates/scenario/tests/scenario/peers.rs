//! The committed peers: that each renders with every policy it claims, with
//! nothing left to fill in, and that what a proxy can't do is refused.
//!
//! What the proxies make of it is checked where they run, by
//! `scripts/bench.sh policies`.
use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use balance::PolicyKind;
use scenario::{Layer, Library, Peer, RenderError, RenderInput, Rendered, Target, Tls, TlsFiles};

/// The proxies that other people made, and the layer of each.
const PROXIES: [(&str, Layer); 8] = [
    ("caddy-l7", Layer::L7),
    ("envoy-l4", Layer::L4),
    ("envoy-l7", Layer::L7),
    ("haproxy-l4", Layer::L4),
    ("haproxy-l7", Layer::L7),
    ("nghttpx-l7", Layer::L7),
    ("nginx-l4", Layer::L4),
    ("nginx-l7", Layer::L7),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn library() -> Library {
    Library::open(root().join("scenarios")).unwrap()
}

fn peers() -> Vec<Peer> {
    let library = library();
    library.peer_names().iter().map(|name| library.peer(name).unwrap()).collect()
}

/// Those that can be chosen in earnest: a floor knows neither TLS nor weights.
fn proxies() -> impl Iterator<Item = Peer> {
    peers().into_iter().filter(|peer| !peer.name.ends_with("-floor"))
}

fn targets(weights: &[u32]) -> Vec<Target> {
    let target = |(index, weight): (usize, &u32)| Target {
        id: format!("backend-{index}"),
        addr: SocketAddr::from(([10, 0, 0, 1], 5000 + u16::try_from(index).unwrap())),
        weight: *weight,
        zone: String::new(),
    };
    weights.iter().enumerate().map(target).collect()
}

fn render(
    peer: &Peer,
    policy: PolicyKind,
    weights: &[u32],
) -> Result<Option<Rendered>, RenderError> {
    render_with(peer, policy, weights, Tls::None)
}

fn render_with(
    peer: &Peer,
    policy: PolicyKind,
    weights: &[u32],
    tls: Tls,
) -> Result<Option<Rendered>, RenderError> {
    let tls_files = TlsFiles {
        ca: Path::new("/run/dir/ca"),
        cert: Path::new("/run/dir/cert"),
        key: Path::new("/run/dir/cert.key"),
        name: "tls.test",
    };
    let backends = targets(weights);
    peer.render(&RenderInput {
        loadgen: Path::new("/bin/loadgen"),
        program: Some(Path::new("/bin/proxy")),
        listen: SocketAddr::from(([127, 0, 0, 9], 4000)),
        admin: SocketAddr::from(([127, 0, 0, 9], 4001)),
        backends: &backends,
        policy,
        max_streams: None,
        threads: 1,
        own_zone: "",
        zone_proxies: &[],
        settings: None,
        tls,
        tls_files,
        dir: Path::new("/run/dir"),
    })
}

/// All that is rendered, as one text.
fn whole(rendered: &Rendered) -> String {
    let files = rendered.files.iter().map(|file| file.text.as_str());
    let variables = rendered.environment.iter().map(|(_, value)| value.as_str());
    let words = rendered.argv.iter().map(String::as_str);
    words.chain(variables).chain(files).collect::<Vec<_>>().join("\n")
}

/// What looks like a placeholder: a lower-case word between braces.
fn placeholder(text: &str) -> Option<&str> {
    text.match_indices('{').find_map(|(at, _)| {
        let (name, _) = text[at + 1..].split_once('}')?;
        let is_word = !name.is_empty()
            && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_' || byte == b' ')
            && name.trim() == name;
        is_word.then_some(name)
    })
}

#[test]
fn the_real_proxies_are_all_there() {
    let library = library();
    for (name, layer) in PROXIES {
        let peer = library.peer(name).unwrap();
        assert_eq!(peer.layer, layer, "{name}");
        assert!(!peer.title.is_empty() && !peer.description.is_empty(), "{name}");
        assert!(peer.policies().contains(&PolicyKind::RoundRobin), "{name}");
    }
}

#[test]
fn every_peer_renders_every_policy_with_nothing_left_to_fill_in() {
    for peer in peers() {
        let name = &peer.name;
        for policy in peer.policies() {
            let Some(rendered) = render(&peer, policy, &[1, 1, 1]).unwrap() else { continue };
            let whole = whole(&rendered);
            assert_eq!(placeholder(&whole), None, "{name} with {policy}:\n{whole}");
            for value in ["4000", "10.0.0.1", "5000", "5001", "5002"] {
                assert!(whole.contains(value), "{name} with {policy}: no {value} in\n{whole}");
            }
        }
    }
}

#[test]
fn a_proxy_speaks_tls_on_the_side_that_is_asked_for_or_is_refused() {
    for peer in proxies() {
        let name = &peer.name;
        let plain = render(&peer, PolicyKind::RoundRobin, &[1, 1]).unwrap();
        for tls in [Tls::Client, Tls::Backend, Tls::Both] {
            let rendered = match render_with(&peer, PolicyKind::RoundRobin, &[1, 1], tls) {
                Ok(rendered) => rendered,
                Err(error) => {
                    let expected = format!("{name} can't have `tls = \"{}\"`: ", tls.name());
                    assert!(error.to_string().starts_with(&expected), "{error}");
                    assert!(peer.layer != Layer::L7 && tls != Tls::Both, "{error}");
                    continue;
                }
            };
            if peer.layer != Layer::L7 {
                assert_eq!((tls, &rendered), (Tls::Both, &plain), "{name} passes it through");
                continue;
            }
            let whole = whole(rendered.as_ref().unwrap());
            assert_eq!(placeholder(&whole), None, "{name}:\n{whole}");
            assert_eq!(whole.contains("/run/dir/cert"), tls.of_clients(), "{name}:\n{whole}");
            assert_eq!(whole.contains("/run/dir/ca"), tls.of_backends(), "{name}:\n{whole}");
            assert_eq!(whole.contains("tls.test"), tls.of_backends(), "{name}:\n{whole}");
        }
    }
}

#[test]
fn policies_of_a_proxy_differ_in_what_is_rendered() {
    // Two policies by one configuration would be compared as if they differed.
    for peer in peers() {
        let mut seen: Vec<(PolicyKind, Rendered)> = Vec::new();
        for policy in peer.policies() {
            let Some(rendered) = render(&peer, policy, &[1, 1]).unwrap() else { continue };
            let twin = seen.iter().find(|(_, other)| *other == rendered);
            assert!(twin.is_none(), "{}: {policy} is {}", peer.name, twin.unwrap().0);
            seen.push((policy, rendered));
        }
    }
}

#[test]
fn weights_reach_the_proxy_or_are_refused() {
    for peer in proxies() {
        let Some(process) = &peer.process else { continue };
        // Rules that pick by number know no weights, as kube-proxy doesn't.
        let heeds = process.heeds_weights(PolicyKind::RoundRobin);
        assert_eq!(heeds, !peer.in_kernel(), "{}", peer.name);
        for policy in peer.policies() {
            let equal = render(&peer, policy, &[1, 1]).unwrap().unwrap();
            match render(&peer, policy, &[1, 53]) {
                Ok(rendered) => {
                    assert!(process.heeds_weights(policy), "{} with {policy}", peer.name);
                    let rendered = whole(&rendered.unwrap());
                    assert!(rendered.contains("53") && !whole(&equal).contains("53"));
                }
                Err(error) => {
                    assert!(!process.heeds_weights(policy), "{} with {policy}", peer.name);
                    let expected = format!(
                        "{} heeds no weights with {policy}, and the backends' weights differ",
                        peer.name
                    );
                    assert_eq!(error.to_string(), expected);
                }
            }
        }
    }
}

#[test]
fn what_a_proxy_writes_stays_in_its_folder() {
    for (name, _) in PROXIES {
        let peer = library().peer(name).unwrap();
        let rendered = render(&peer, PolicyKind::RoundRobin, &[1]).unwrap().unwrap();
        let whole = whole(&rendered);
        assert!(!rendered.files.is_empty(), "{name}");
        assert!(whole.contains("/run/dir"), "{name}");
        for folder in ["/tmp", "/var", "/run/", "/etc", "/home"] {
            for (at, _) in whole.match_indices(folder) {
                let path = &whole[at..];
                assert!(path.starts_with("/run/dir"), "{name}: {}", path.lines().next().unwrap());
            }
        }
    }
}

#[test]
fn every_proxy_can_be_had_and_asked_for_its_version() {
    let script = fs::read_to_string(root().join("scripts/install-peers.sh")).unwrap();
    for (name, _) in PROXIES {
        let peer = library().peer(name).unwrap();
        let process = peer.process.as_ref().unwrap();
        let install = process.install.as_deref().unwrap();
        let program = install.strip_prefix("scripts/install-peers.sh ").unwrap();
        assert!(script.contains(&format!("get_{program}()")), "{name}: {install}");
        let command = peer.version_command(Path::new("l"), Some(Path::new("/p"))).unwrap();
        assert_eq!(command.unwrap()[0], "/p", "{name}");
        // A variable first, so that anyone can measure their own build.
        let variable = format!("Env(\"LAYERLAB_{}\")", program.to_uppercase());
        let places = process.find.iter().map(|place| format!("{place:?}")).collect::<Vec<_>>();
        let expected =
            [variable, format!("Peers(\"bin/{program}\")"), format!("Path(\"{program}\")")];
        assert_eq!(places, expected, "{name}");
    }
}

#[test]
fn the_kernel_is_set_up_by_rules_that_name_every_backend_once() {
    let peer = library().peer("kernel-l4").unwrap();
    assert_eq!((peer.layer, peer.in_kernel()), (Layer::L4, true));
    let process = peer.process.as_ref().unwrap();
    assert_eq!(process.install.as_deref(), Some("apt-get install nftables"));
    let version = peer.version_command(Path::new("l"), Some(Path::new("/sbin/nft"))).unwrap();
    assert_eq!(version.unwrap(), ["/sbin/nft", "--version"]);
    for (policy, word) in [(PolicyKind::RoundRobin, "inc"), (PolicyKind::Random, "random")] {
        let rendered = render(&peer, policy, &[1, 1, 1]).unwrap().unwrap();
        assert_eq!(rendered.argv, ["/bin/proxy", "-f", "/run/dir/rules.nft"]);
        let rules = &rendered.files[0].text;
        let pick = format!(
            "numgen {word} mod 3 vmap {{ 0 : goto endpoint-0, 1 : goto endpoint-1, \
             2 : goto endpoint-2, }}"
        );
        assert!(rules.contains(&pick), "{rules}");
        for index in 0..3 {
            let dnat = format!("dnat to 10.0.0.1:500{index}\n");
            assert_eq!(rules.matches(&dnat).count(), 1, "{rules}");
        }
        assert!(rules.contains("127.0.0.9 . 4000 : goto service"), "{rules}");
    }
}

#[test]
fn what_sets_the_kernel_up_has_nothing_to_stop() {
    let folder = tempfile::tempdir().unwrap();
    let proxy = folder.path().join("peers/proxy");
    fs::create_dir_all(&proxy).unwrap();
    let text = "title = \"A proxy\"\nlayer = \"l4\"\ndescription = \"Balances.\"\n\
                in_kernel = true\nstop_signal = \"int\"\n\
                command = [\"rules\", \"{listen}\", \"{backend_count}\", \
                \"{each backend}{addr}{end}\"]\n[policies]\nround_robin = \"\"\n";
    fs::write(proxy.join("peer.toml"), text).unwrap();
    let library = Library::open(folder.path()).unwrap();
    let error = library.peer("proxy").unwrap_err().to_string();
    assert!(error.contains("peer.toml:5: stop_signal: `in_kernel` says"), "{error}");
    let workers = text.replace("stop_signal = \"int\"", "has_workers = true");
    fs::write(proxy.join("peer.toml"), workers).unwrap();
    let error = library.peer("proxy").unwrap_err().to_string();
    assert!(error.contains("peer.toml:5: has_workers: `in_kernel` says"), "{error}");
    fs::write(proxy.join("peer.toml"), text.replace("stop_signal = \"int\"\n", "")).unwrap();
    let rendered = render(&library.peer("proxy").unwrap(), PolicyKind::RoundRobin, &[1, 1]);
    let words = rendered.unwrap().unwrap().argv;
    assert_eq!(words, ["rules", "127.0.0.9:4000", "2", "10.0.0.1:5000", "10.0.0.1:5001"]);
}

#[test]
fn every_setting_of_a_proxy_has_its_reason() {
    // A setting without one can't be argued about. Comments are counted rather
    // than judged: a template without any was written in haste.
    for (name, _) in PROXIES {
        let folder = root().join("scenarios/peers").join(name);
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.ends_with("peer.toml") {
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            let comments = text.lines().filter(|line| line.trim_start().starts_with('#')).count();
            assert!(comments >= 4, "{}", path.display());
        }
    }
}

#[test]
fn a_policy_that_heeds_weights_is_claimed_and_given_them() {
    let peer = |weighted: &str, weight: &str| {
        let folder = tempfile::tempdir().unwrap();
        let proxy = folder.path().join("peers/proxy");
        fs::create_dir_all(&proxy).unwrap();
        let text = format!(
            "title = \"A proxy\"\nlayer = \"l7\"\ndescription = \"Balances.\"\n\
             weighted = {weighted}\n\
             command = [\"proxy\", \"{{listen}}\", \"{{policy}}\", \
             \"{{each backend}}{{addr}}{weight}{{end}}\"]\n\
             [policies]\nround_robin = \"rr\"\nrandom = \"rnd\"\n"
        );
        fs::write(proxy.join("peer.toml"), text).unwrap();
        Library::open(folder.path()).unwrap().peer("proxy")
    };
    let weighted = peer("[\"round_robin\"]", "={weight}").unwrap();
    let words = render(&weighted, PolicyKind::RoundRobin, &[1, 2]).unwrap().unwrap().argv;
    assert_eq!(words[3..], ["10.0.0.1:5000=1", "10.0.0.1:5001=2"]);
    let error = render(&weighted, PolicyKind::Random, &[1, 2]).unwrap_err();
    assert!(matches!(error, RenderError::Weights { .. }));
    assert!(render(&weighted, PolicyKind::Random, &[2, 2]).is_ok());

    let refusal = |weighted, weight| peer(weighted, weight).unwrap_err().to_string();
    let error = refusal("[\"p2c\"]", "={weight}");
    assert!(error.ends_with("peer.toml:4: weighted[0]: `p2c` is not in `policies`"), "{error}");
    let error = refusal("[\"random\"]", "");
    assert!(error.ends_with("weighted: nothing passes weights on; use `{weight}`"), "{error}");
}
