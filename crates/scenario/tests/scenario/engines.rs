//! The engines of the repository: each is right, and starts what it should.

use std::{
    fs,
    path::{Path, PathBuf},
};

use scenario::{Engine, EngineInput, Library, RenderedEngine, TokenBy};

fn library() -> Library {
    Library::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scenarios")).unwrap()
}

fn render(engine: &Engine) -> RenderedEngine {
    engine.render(&EngineInput {
        loadgen: Path::new("/opt/loadgen"),
        join: ("layerlab", 7077),
        nodes: 3,
        node: engine.each_node.then_some((1, Some("host1"))),
        minutes: 15,
        dir: Path::new("/run/dir"),
        token: "the-token",
    })
}

#[test]
fn every_engine_starts_agents_that_join_and_keeps_the_token_off_command_lines() {
    let library = library();
    assert_eq!(library.engine_names(), ["kubernetes", "local", "slurm", "ssh"]);
    for name in library.engine_names() {
        let engine = library.engine(&name).unwrap();
        let rendered = render(&engine);
        let texts = rendered.files.iter().map(|(_, text)| text);
        let all: Vec<&String> = rendered.command.iter().chain(texts).collect();
        let has = |word: &str| all.iter().any(|text| text.contains(word));
        assert!(has("agent") && has("--join=layerlab:7077") && has("--rank"), "{name}");
        let words = rendered.command.iter().chain(&rendered.end);
        assert!(!words.into_iter().any(|word| word.contains("the-token")), "{name}");
        assert_eq!(has("the-token"), engine.token == TokenBy::File, "{name}");
        assert_eq!(engine.needs_hosts(), name == "ssh");
    }
}

#[test]
fn slurm_gets_whole_nodes_and_a_time_limit_and_ends_all_when_one_fails() {
    let mut engine = library().engine("slurm").unwrap();
    engine.set("arguments", "--partition=p").unwrap();
    let command = render(&engine).command;
    for word in [
        "--nodes=3",
        "--ntasks=3",
        "--exclusive",
        "--kill-on-bad-exit=1",
        "--time=15",
        "--partition=p",
    ] {
        assert!(command.iter().any(|known| known == word), "{word} is missing in {command:?}");
    }
}

/// `UPDATE_GOLDEN=1` rewrites it. `scripts/check.sh` checks it against the API's schema.
#[test]
fn kubernetes_manifests_are_those_of_the_golden_file() {
    let rendered = render(&library().engine("kubernetes").unwrap());
    let [(name, text)] = rendered.files.as_slice() else { panic!("{:?}", rendered.files) };
    let golden: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::create_dir_all(golden.parent().unwrap()).unwrap();
        fs::write(&golden, text).unwrap();
    }
    assert_eq!(*text, fs::read_to_string(&golden).unwrap_or_default(), "{}", golden.display());
}
