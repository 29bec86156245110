//! Rendering a peer: from addresses, policy and paths to a command line, an
//! environment and files. Nothing is started or written here.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use balance::PolicyKind;
use measure::record::Tls;

use super::{
    Layer, Peer, Process, ReloadHow, ReloadSignal,
    template::{Each, Global, Local, Template, Values},
    tls::{Side, TlsFiles},
};
use crate::{error::list_of, settings::ProxySettings};

/// Streams of a client's connection where the scenario does not say how many: more than
/// nearly any scenario has, and the same for all.
const MAX_STREAMS: u32 = 1024;

/// What a peer is rendered with.
#[derive(Clone, Copy, Debug)]
pub struct RenderInput<'a> {
    /// The lab's own program.
    pub loadgen: &'a Path,
    /// The peer's program, from [`Peer::locate`].
    pub program: Option<&'a Path>,
    /// Where the peer listens.
    pub listen: SocketAddr,
    /// Where it answers questions about itself, if it does.
    pub admin: SocketAddr,
    /// The backends behind it.
    pub backends: &'a [Target],
    /// How it picks.
    pub policy: PolicyKind,
    /// How many streams it allows on a client's connection, if the scenario says so.
    pub max_streams: Option<u32>,
    /// How many threads it runs on.
    pub threads: u32,
    /// The zone that it is in; empty where there are none.
    pub own_zone: &'a str,
    /// Of each zone that something is called from: its name, and the part of what is called that
    /// comes to its proxies.
    pub zone_proxies: &'a [(String, u32)],
    /// What else it is set to; `None` for nothing.
    pub settings: Option<&'a ProxySettings>,
    /// Which of its sides speak TLS.
    pub tls: Tls,
    /// What it speaks it with.
    pub tls_files: TlsFiles<'a>,
    /// The folder its files are written to.
    pub dir: &'a Path,
}

/// A backend as a peer sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its id.
    pub id: String,
    /// Its address.
    pub addr: SocketAddr,
    /// Its weight.
    pub weight: u32,
    /// Its zone; empty where there are none.
    pub zone: String,
}

/// A peer that is ready to be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// Program and arguments; never empty.
    pub argv: Vec<String>,
    /// Environment variables to set.
    pub environment: Vec<(String, String)>,
    /// Files to write before it is started.
    pub files: Vec<RenderedFile>,
    /// How it learns of other backends; `None` when it can't while it runs.
    pub reload: Option<RenderedReload>,
}

/// How a proxy learns that its files are new.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenderedReload {
    /// What tells it.
    pub how: RenderedHow,
    /// `http://ADDRESS/...`: a page with the address of every backend it knows.
    pub lists: String,
}

/// What tells a proxy that its files are new.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RenderedHow {
    /// Nothing: it watches them.
    Watches,
    /// A signal to its first process.
    Signal(ReloadSignal),
    /// A command; never empty.
    Command(Vec<String>),
}

/// A file to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenderedFile {
    /// Its plain name, within [`RenderInput::dir`].
    pub name: String,
    /// What goes into it.
    pub text: String,
}

/// Why a peer can't be rendered for a scenario.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// It can't do the policy.
    #[error("{peer} has no policy like {policy}; it can do {}", list_of(known))]
    Policy {
        /// The peer.
        peer: String,
        /// What was asked for.
        policy: PolicyKind,
        /// What it can do.
        known: Vec<String>,
    },
    /// The backends' weights differ, and it would not heed them.
    #[error("{peer} heeds no weights with {policy}, and the backends' weights differ")]
    Weights {
        /// The peer.
        peer: String,
        /// What was asked for.
        policy: PolicyKind,
    },
    /// It can't be told how many streams to allow, and the scenario says how many.
    #[error(
        "{peer} can't be told `balance.max_concurrent_streams`; none of its files uses \
         `{{max_streams}}`"
    )]
    Streams {
        /// The peer.
        peer: String,
    },
    /// It can't be told one of its settings.
    #[error("{peer} can't be told `{setting}`; its peer.toml has {}", list_of(known))]
    Setting {
        /// The peer.
        peer: String,
        /// What was asked for.
        setting: String,
        /// What it can be told.
        known: Vec<String>,
    },
    /// It can't be told how many threads to run on.
    #[error(
        "{peer} can't be run on {threads} threads: nothing in its peer.toml or its templates \
         passes {{threads}} on"
    )]
    Threads {
        /// The peer.
        peer: String,
        /// What was asked for.
        threads: u32,
    },
    /// It can't speak TLS on the sides that were asked for.
    #[error("{peer} can't have `tls = \"{tls}\"`: {reason}", tls = tls.name())]
    Tls {
        /// The peer.
        peer: String,
        /// What was asked for.
        tls: Tls,
        /// Why not, and what can be had.
        reason: String,
    },
    /// Its program was not passed in.
    #[error("the program of {peer} is not known")]
    Program {
        /// The peer.
        peer: String,
    },
}

impl Peer {
    /// Whether it can speak TLS on these sides.
    ///
    /// # Errors
    /// [`RenderError::Tls`] with what it can do.
    pub fn check_tls(&self, tls: Tls) -> Result<(), RenderError> {
        self.cannot_speak(tls)
            .map_or(Ok(()), |reason| Err(RenderError::Tls { peer: self.name.clone(), tls, reason }))
    }

    /// Renders the peer; `Ok(None)` for a peer without a process.
    ///
    /// # Errors
    /// [`RenderError`] when it can't do what the scenario asks.
    pub fn render(&self, input: &RenderInput<'_>) -> Result<Option<Rendered>, RenderError> {
        self.check_tls(input.tls)?;
        let Some(process) = &self.process else { return Ok(None) };
        let Some(policy) = process.word_for(input.policy) else {
            let known = self.policies().iter().map(ToString::to_string).collect();
            return Err(RenderError::Policy {
                peer: self.name.clone(),
                policy: input.policy,
                known,
            });
        };
        let weights_differ = input.backends.windows(2).any(|two| two[0].weight != two[1].weight);
        if weights_differ && !process.heeds_weights(input.policy) {
            let (peer, policy) = (self.name.clone(), input.policy);
            return Err(RenderError::Weights { peer, policy });
        }
        let is_told = process.templates().any(|part| part.uses(Global::MaxStreams));
        if self.layer == Layer::L7 && input.max_streams.is_some() && !is_told {
            return Err(RenderError::Streams { peer: self.name.clone() });
        }
        if input.threads > 1 && !process.templates().any(|part| part.uses(Global::Threads)) {
            let (peer, threads) = (self.name.clone(), input.threads);
            return Err(RenderError::Threads { peer, threads });
        }
        let config = process.config.first().map(|file| input.dir.join(&file.name));
        // The peer's check left only one thing that can be missing.
        let missing = |_: Global| RenderError::Program { peer: self.name.clone() };
        let mut values = Filled { input, policy, config, tls: Default::default() };
        values.tls = [
            process.tls.word(Side::Client, input.tls, &values).map_err(missing)?,
            process.tls.word(Side::Backend, input.tls, &values).map_err(missing)?,
        ];
        let reload = process.render_reload(&values).map_err(missing)?;
        let mut rendered =
            Rendered { argv: Vec::new(), environment: Vec::new(), files: Vec::new(), reload };
        for word in &process.command {
            rendered.argv.extend(word.render_words(&values).map_err(missing)?);
        }
        for word in process.tls.arguments(input.tls) {
            rendered.argv.extend(word.render_words(&values).map_err(missing)?);
        }
        for (name, value) in input.settings.into_iter().flatten() {
            let Some((_, words)) = process.settings.iter().find(|(known, _)| known == name) else {
                let known = process.settings.iter().map(|(name, _)| name.clone()).collect();
                let (peer, setting) = (self.name.clone(), name.clone());
                return Err(RenderError::Setting { peer, setting, known });
            };
            let values = WithValue { values: &values, value };
            for word in words {
                rendered.argv.extend(word.render_words(&values).map_err(missing)?);
            }
        }
        for (name, value) in &process.environment {
            let value = value.render(&values).map_err(missing)?;
            rendered.environment.push((name.clone(), value));
        }
        for file in &process.config {
            let text = file.template.render(&values).map_err(missing)?;
            rendered.files.push(RenderedFile { name: file.name.clone(), text });
        }
        Ok(Some(rendered))
    }

    /// The command that prints the version; `None` when there is none.
    ///
    /// # Errors
    /// [`RenderError::Program`] when it needs a program that was not passed in.
    pub fn version_command(
        &self,
        loadgen: &Path,
        program: Option<&Path>,
    ) -> Result<Option<Vec<String>>, RenderError> {
        let Some(process) = &self.process else { return Ok(None) };
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let (policy, dir, backends) = (PolicyKind::default(), Path::new("."), &[]);
        let (tls, tls_files) = (Tls::None, TlsFiles::default());
        let input = RenderInput {
            loadgen,
            program,
            listen,
            admin: listen,
            backends,
            policy,
            max_streams: None,
            threads: 1,
            own_zone: "",
            zone_proxies: &[],
            settings: None,
            tls,
            tls_files,
            dir,
        };
        let (config, tls) = (Some(PathBuf::new()), Default::default());
        let values = Filled { input: &input, policy: "", config, tls };
        let mut words = Vec::new();
        for word in &process.version_command {
            let missing = |_| RenderError::Program { peer: self.name.clone() };
            words.extend(word.render_words(&values).map_err(missing)?);
        }
        Ok((!words.is_empty()).then_some(words))
    }
}

impl Process {
    fn render_reload(&self, values: &dyn Values) -> Result<Option<RenderedReload>, Global> {
        let Some(reload) = &self.reload else { return Ok(None) };
        let how = match &reload.how {
            ReloadHow::Watches => RenderedHow::Watches,
            ReloadHow::Signal(signal) => RenderedHow::Signal(*signal),
            ReloadHow::Command(words) => {
                let words: Vec<Vec<String>> =
                    words.iter().map(|word| word.render_words(values)).collect::<Result<_, _>>()?;
                RenderedHow::Command(words.concat())
            }
        };
        Ok(Some(RenderedReload { how, lists: reload.lists.render(values)? }))
    }

    /// Whether it can learn of backends that join or leave while it runs.
    pub fn can_reload(&self) -> bool {
        self.reload.is_some()
    }

    /// The proxy's word for a policy.
    pub(crate) fn word_for(&self, policy: PolicyKind) -> Option<&str> {
        self.policies.iter().find(|(known, _)| *known == policy).map(|(_, word)| word.as_str())
    }

    /// Whether unequal weights mean something to it under a policy.
    pub fn heeds_weights(&self, policy: PolicyKind) -> bool {
        self.passes_weights()
            && self.weighted.as_ref().is_none_or(|weighted| weighted.contains(&policy))
    }

    /// Whether it is told the backends' weights at all.
    pub(super) fn passes_weights(&self) -> bool {
        self.templates().any(|part| part.uses_local(&[Local::Weight]))
    }

    /// Everything that is rendered to start it.
    pub(super) fn templates(&self) -> impl Iterator<Item = &Template> {
        let config = self.config.iter().map(|file| &file.template);
        let environment = self.environment.iter().map(|(_, value)| value);
        self.command.iter().chain(config).chain(environment)
    }
}

struct Filled<'a> {
    input: &'a RenderInput<'a>,
    policy: &'a str,
    config: Option<PathBuf>,
    /// What stands for the clients' and the backends' side.
    tls: [String; 2],
}

impl Values for Filled<'_> {
    fn global(&self, global: Global) -> Option<String> {
        let path = |path: &Path| path.display().to_string();
        Some(match global {
            Global::Program => path(self.input.program?),
            Global::Loadgen => path(self.input.loadgen),
            Global::Listen => self.input.listen.to_string(),
            Global::ListenHost => self.input.listen.ip().to_string(),
            Global::ListenPort => self.input.listen.port().to_string(),
            Global::Admin => self.input.admin.to_string(),
            Global::AdminHost => self.input.admin.ip().to_string(),
            Global::AdminPort => self.input.admin.port().to_string(),
            Global::Policy => self.policy.to_owned(),
            Global::Threads => self.input.threads.to_string(),
            // It stands in settings only.
            Global::Value => return None,
            Global::Config => path(self.config.as_deref()?),
            Global::Dir => path(self.input.dir),
            Global::BackendCount => self.input.backends.len().to_string(),
            Global::MaxStreams => self.input.max_streams.unwrap_or(MAX_STREAMS).to_string(),
            Global::ClientTls => self.tls[0].clone(),
            Global::BackendTls => self.tls[1].clone(),
            Global::TlsCa => path(self.input.tls_files.ca),
            Global::TlsCert => path(self.input.tls_files.cert),
            Global::TlsKey => path(self.input.tls_files.key),
            Global::TlsName => self.input.tls_files.name.to_owned(),
            Global::OwnZone => self.input.own_zone.to_owned(),
            Global::ZoneProxies => {
                let parts = self.input.zone_proxies.iter();
                parts.map(|(name, part)| format!("{name}={part}")).collect::<Vec<_>>().join(",")
            }
        })
    }

    fn count(&self, each: Each) -> usize {
        match each {
            Each::Backend => self.input.backends.len(),
            Each::Zone => self.input.zone_proxies.len(),
        }
    }

    fn local(&self, each: Each, index: usize, local: Local) -> String {
        match each {
            Each::Backend => self.of_backend(index, local),
            Each::Zone => {
                let (name, part) = &self.input.zone_proxies[index];
                if local == Local::Proxies { part.to_string() } else { name.clone() }
            }
        }
    }
}

impl Filled<'_> {
    fn of_backend(&self, backend: usize, local: Local) -> String {
        let target = &self.input.backends[backend];
        match local {
            Local::Addr => target.addr.to_string(),
            Local::Host => target.addr.ip().to_string(),
            Local::Port => target.addr.port().to_string(),
            Local::Weight => target.weight.to_string(),
            Local::Id => target.id.clone(),
            Local::Index => backend.to_string(),
            Local::Zone => target.zone.clone(),
            // The parser lets it stand only within `{each zone}`.
            Local::Proxies => String::new(),
        }
    }
}

/// The same with the value of a setting.
struct WithValue<'a> {
    values: &'a dyn Values,
    value: &'a str,
}

impl Values for WithValue<'_> {
    fn global(&self, global: Global) -> Option<String> {
        match global {
            Global::Value => Some(self.value.to_owned()),
            other => self.values.global(other),
        }
    }

    fn count(&self, each: Each) -> usize {
        self.values.count(each)
    }

    fn local(&self, each: Each, index: usize, local: Local) -> String {
        self.values.local(each, index, local)
    }
}
