//! From a peer file to a peer that can be started.

use std::{
    collections::BTreeMap,
    path::{Component, Path},
};

use balance::PolicyKind;

use super::{
    Candidate, ConfigFile, Discovery, Layer, Peer, Process, Reload, ReloadHow,
    template::{Global, Local, Template, TemplateError, template, templates},
    tls,
    wire::{PeerWire, ReloadWire},
};
use crate::{
    error::{Error, Invalid, Place, Problem, did_you_mean, list_of, refuse},
    settings::NAMES,
};

/// Checks a peer. `configs` are the texts of its templates, in the order of the
/// wire's names.
pub(crate) fn check(name: &str, wire: PeerWire, configs: Vec<ConfigFile>) -> Result<Peer, Problem> {
    let process = if wire.layer.stands_between() {
        Some(check_process(&wire, configs)?)
    } else {
        no_process(&wire)?;
        None
    };
    Ok(Peer {
        name: name.to_owned(),
        policy: None,
        settings: None,
        title: text("title", &wire.title)?,
        layer: wire.layer,
        description: text("description", &wire.description)?,
        discovery: discovery(&wire)?,
        process,
    })
}

impl ConfigFile {
    /// Understands a template. Its name is a plain file name.
    pub(crate) fn parse(name: &str, text: &str) -> Result<Self, TemplateError> {
        Ok(Self { name: name.to_owned(), template: Template::parse(text)? })
    }
}

/// Names of config files are plain, so that nothing is written elsewhere.
pub(crate) fn check_file_names(names: &[String]) -> Result<(), Problem> {
    for (index, name) in names.iter().enumerate() {
        let mut components = Path::new(name).components();
        let is_plain = matches!(components.next(), Some(Component::Normal(_)));
        if !is_plain || components.next().is_some() {
            let message =
                format!("`{name}` is no plain file name; templates stand beside this file");
            return Err(Problem::new(format!("config[{index}]"), message));
        }
        if names[..index].contains(name) {
            let message = format!("`{name}` is listed twice");
            return Err(Problem::new(format!("config[{index}]"), message));
        }
    }
    Ok(())
}

/// A template's error, placed in the template's own file.
pub(crate) fn template_error(file: &str, error: TemplateError) -> Error {
    let place = Place::File { file: file.to_owned(), line: error.line };
    Error::Invalid(Invalid { place, key: String::new(), message: error.reason })
}

fn text(key: &str, text: &str) -> Result<String, Problem> {
    match text.trim() {
        "" => Err(Problem::new(key, "this text is empty; write it for the reader of the report")),
        text => Ok(text.to_owned()),
    }
}

/// Who balances has to learn of backends; at the other layers that is the proxy's.
fn discovery(wire: &PeerWire) -> Result<Option<Discovery>, Problem> {
    match (wire.layer, wire.discovery) {
        (Layer::Client, None) => {
            let message = "this key is missing: a client that balances learns of backends by \
                           `dns` or `lookaside`";
            Err(Problem::new("discovery", message))
        }
        (Layer::None | Layer::L4 | Layer::L7, Some(_)) => {
            let layer = wire.layer.name();
            let message =
                format!("belongs to layer `client`; take it out of this one of layer `{layer}`");
            Err(Problem::new("discovery", message))
        }
        (_, discovery) => Ok(discovery),
    }
}

/// Keys of processes have no meaning where there is none.
fn no_process(wire: &PeerWire) -> Result<(), Problem> {
    let layer = wire.layer.name();
    let keys = [
        ("command", !wire.command.is_empty()),
        ("version_command", !wire.version_command.is_empty()),
        ("find", !wire.find.is_empty()),
        ("install", wire.install.is_some()),
        ("config", !wire.config.is_empty()),
        ("policies", !wire.policies.is_empty()),
        ("weighted", wire.weighted.is_some()),
        ("stop_signal", wire.stop_signal.is_some()),
        ("environment", !wire.environment.is_empty()),
        ("in_kernel", wire.in_kernel),
        ("has_workers", wire.has_workers),
        ("reload", wire.reload.is_some()),
        ("settings", !wire.settings.is_empty()),
        ("tls", wire.tls.client.is_some() || wire.tls.backend.is_some()),
    ];
    let message = format!(
        "a peer of layer `{layer}` has no process; take this out, or set `layer` to `l4` or `l7`"
    );
    refuse(keys, message)
}

fn check_process(wire: &PeerWire, config: Vec<ConfigFile>) -> Result<Process, Problem> {
    if wire.command.is_empty() {
        let layer = wire.layer.name();
        let message = format!("this key is missing: a peer of layer `{layer}` is a process");
        return Err(Problem::new("command", message));
    }
    let command = templates("command", &wire.command)?;
    let version_command = templates("version_command", &wire.version_command)?;
    let environment = wire
        .environment
        .iter()
        .map(|(name, value)| Ok((name.clone(), template(&format!("environment.{name}"), value)?)))
        .collect::<Result<Vec<_>, Problem>>()?;
    if wire.in_kernel && wire.stop_signal.is_some() {
        let message = "`in_kernel` says that its command ends by itself; there is nothing to stop";
        return Err(Problem::new("stop_signal", message));
    }
    if wire.in_kernel && wire.has_workers {
        let message = "`in_kernel` says that its command ends by itself; it leaves no workers";
        return Err(Problem::new("has_workers", message));
    }
    let process = Process {
        in_kernel: wire.in_kernel,
        has_workers: wire.has_workers,
        find: candidates(&wire.find)?,
        install: wire.install.clone(),
        stop_signal: wire.stop_signal.unwrap_or_default(),
        policies: policies(wire)?,
        weighted: wire.weighted.clone(),
        command,
        version_command,
        config,
        environment,
        reload: wire.reload.as_ref().map(check_reload).transpose()?,
        tls: tls::check(&wire.tls, wire.layer)?,
        settings: settings(&wire.settings)?,
    };
    check_use(&process)?;
    check_weighted(&process)?;
    check_reload_use(&process)?;
    tls::check_use(&process)?;
    Ok(process)
}

/// Each setting is one that scenarios know, and its words say where its value goes.
fn settings(wire: &BTreeMap<String, Vec<String>>) -> Result<Vec<(String, Vec<Template>)>, Problem> {
    let setting = |(name, words): (&String, &Vec<String>)| {
        let key = format!("settings.{name}");
        if !NAMES.contains(&&**name) {
            let (hint, list) = (did_you_mean(name, &NAMES), list_of(&NAMES));
            let message = format!("there is no setting `{name}`{hint}; known are {list}");
            return Err(Problem::new(key, message));
        }
        let words = templates(&key, words)?;
        if !words.iter().any(|word| word.uses(Global::Value)) {
            return Err(Problem::new(key, "nothing says where its value goes; use `{value}`"));
        }
        Ok((name.clone(), words))
    };
    wire.iter().map(setting).collect()
}

fn check_reload(wire: &ReloadWire) -> Result<Reload, Problem> {
    let how = match (wire.signal, wire.command.is_empty()) {
        (Some(_), false) => {
            let message = "a signal and a command both tell it to read its files; keep one";
            return Err(Problem::new("reload.command", message));
        }
        (Some(signal), true) => ReloadHow::Signal(signal),
        (None, false) => ReloadHow::Command(templates("reload.command", &wire.command)?),
        (None, true) => ReloadHow::Watches,
    };
    if !wire.lists.starts_with("http://{admin}/") {
        let message = format!(
            "found `{}`, expected a page of its own, as in `http://{{admin}}/backends`",
            wire.lists
        );
        return Err(Problem::new("reload.lists", message));
    }
    Ok(Reload { how, lists: template("reload.lists", &wire.lists)? })
}

/// What is rendered again has to hold the backends, and somebody has to serve the
/// page that lists them.
fn check_reload_use(process: &Process) -> Result<(), Problem> {
    if process.reload.is_none() {
        return Ok(());
    }
    let addresses = [Local::Addr, Local::Port];
    if !process.config.iter().any(|file| file.template.uses_local(&addresses)) {
        let message = "no config template names the backends, so reading them again changes \
                       nothing; use `{each backend}...{addr}...{end}` in one";
        return Err(Problem::new("reload", message));
    }
    let admin = [Global::Admin, Global::AdminPort];
    if !process.templates().any(|template| admin.into_iter().any(|one| template.uses(one))) {
        let message = "nothing says where its page is served; use `{admin}` in the command or \
                       a template";
        return Err(Problem::new("reload.lists", message));
    }
    Ok(())
}

pub(crate) fn candidates(find: &[String]) -> Result<Vec<Candidate>, Problem> {
    let candidate = |(index, text): (usize, &String)| {
        let problem = |message: String| Err(Problem::new(format!("find[{index}]"), message));
        match text.split_once(':') {
            Some((_, "")) => problem(format!("`{text}` names nothing")),
            Some(("env", name)) => Ok(Candidate::Env(name.to_owned())),
            Some(("path", name)) if name.contains('/') => {
                problem(format!("`{name}` is a path; `path:` takes the name of a program on PATH"))
            }
            Some(("path", name)) => Ok(Candidate::Path(name.to_owned())),
            Some(("peers", path)) => {
                let is_inside = Path::new(path)
                    .components()
                    .all(|component| matches!(component, Component::Normal(_)));
                if is_inside {
                    Ok(Candidate::Peers(path.into()))
                } else {
                    problem(format!("`{path}` leads out of the folder of peers"))
                }
            }
            _ => problem(format!(
                "`{text}` is no place to look; write `env:NAME`, `peers:PATH` or `path:NAME`"
            )),
        }
    };
    find.iter().enumerate().map(candidate).collect()
}

fn policies(wire: &PeerWire) -> Result<Vec<(PolicyKind, String)>, Problem> {
    let word = |policy| wire.policies.get(&policy).map(|word| (policy, word.clone()));
    let policies: Vec<_> = PolicyKind::ALL.into_iter().filter_map(word).collect();
    if policies.is_empty() {
        let message = "this table is missing or empty; name at least one policy it can do";
        return Err(Problem::new("policies", message));
    }
    Ok(policies)
}

/// A policy that heeds weights is one it can do, and is given them.
fn check_weighted(process: &Process) -> Result<(), Problem> {
    let Some(weighted) = &process.weighted else { return Ok(()) };
    for (index, policy) in weighted.iter().enumerate() {
        if process.word_for(*policy).is_none() {
            let message = format!("`{policy}` is not in `policies`");
            return Err(Problem::new(format!("weighted[{index}]"), message));
        }
    }
    if !weighted.is_empty() && !process.passes_weights() {
        return Err(Problem::new("weighted", "nothing passes weights on; use `{weight}`"));
    }
    Ok(())
}

/// A peer whose placeholders don't add up would start and do the wrong thing.
fn check_use(process: &Process) -> Result<(), Problem> {
    let problem = |key: &str, message: &str| Err(Problem::new(key, message));
    let uses = |global| process.templates().any(|template| template.uses(global));
    let addresses = [Local::Addr, Local::Port];
    if uses(Global::Value) {
        return problem("settings", "`{value}` stands in the words of `[settings]` only");
    }
    if !uses(Global::Listen) && !uses(Global::ListenPort) {
        return problem(
            "command",
            "nothing says where to listen; use `{listen}` or `{listen_port}`",
        );
    }
    if !process.templates().any(|template| template.uses_local(&addresses)) {
        let message = "nothing names the backends; use `{each backend}...{addr}...{end}`";
        return problem("command", message);
    }
    let is_program_used = uses(Global::Program)
        || process.version_command.iter().any(|word| word.uses(Global::Program));
    match (is_program_used, process.find.is_empty()) {
        (true, true) => {
            return problem("find", "`{program}` is used, and nothing says where it may be");
        }
        (false, false) => return problem("find", "`{program}` is used nowhere"),
        _ => {}
    }
    let is_config_used = process.command.iter().any(|word| word.uses(Global::Config));
    match (is_config_used, process.config.is_empty()) {
        (true, true) => return problem("config", "`{config}` is used, and there is no template"),
        (false, false) if !process.command.iter().any(|word| word.uses(Global::Dir)) => {
            return problem("config", "the command uses neither `{config}` nor `{dir}`");
        }
        _ => {}
    }
    let (_, first) = &process.policies[0];
    let words_differ = process.policies.iter().any(|(_, word)| word != first);
    if words_differ && !uses(Global::Policy) {
        return problem("policies", "the words differ, and `{policy}` is used nowhere");
    }
    Ok(())
}
