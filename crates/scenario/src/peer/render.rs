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
    input::{Filled, RenderInput},
    template::{Global, Local, Template, Values},
    tls::{Side, TlsFiles},
};
use crate::error::list_of;

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
        let policy = self.check(process, input)?;
        let config = process.config.first().map(|file| input.dir.join(&file.name));
        // The peer's check left only one thing that can be missing.
        let missing = |_: Global| RenderError::Program { peer: self.name.clone() };
        let mut values = Filled { input, policy, config, tls: Default::default(), value: "" };
        values.tls = [
            process.tls.word(Side::Client, input.tls, &values).map_err(missing)?,
            process.tls.word(Side::Backend, input.tls, &values).map_err(missing)?,
        ];
        let reload = process.render_reload(&values).map_err(missing)?;
        let command = process.command.iter().chain(process.tls.arguments(input.tls));
        let argv = Template::render_all(command, &values).map_err(missing)?;
        let mut rendered = Rendered { argv, environment: Vec::new(), files: Vec::new(), reload };
        for (name, value) in input.settings.into_iter().flatten() {
            let Some((_, words)) = process.settings.iter().find(|(known, _)| known == name) else {
                let known = process.settings.iter().map(|(name, _)| name.clone()).collect();
                let (peer, setting) = (self.name.clone(), name.clone());
                return Err(RenderError::Setting { peer, setting, known });
            };
            values.value = value;
            rendered.argv.extend(Template::render_all(words, &values).map_err(missing)?);
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

    /// The peer's word for the policy, if it can do all that is asked.
    fn check<'a>(
        &self,
        process: &'a Process,
        input: &RenderInput<'_>,
    ) -> Result<&'a str, RenderError> {
        let (peer, policy) = (self.name.clone(), input.policy);
        let is_told = |what| process.templates().any(|part| part.uses(what));
        let Some(word) = process.word_for(policy) else {
            let known = self.policies().iter().map(ToString::to_string).collect();
            return Err(RenderError::Policy { peer, policy, known });
        };
        let weights_differ = input.backends.windows(2).any(|two| two[0].weight != two[1].weight);
        if weights_differ && !process.heeds_weights(policy) {
            return Err(RenderError::Weights { peer, policy });
        }
        if self.layer == Layer::L7 && input.max_streams.is_some() && !is_told(Global::MaxStreams) {
            return Err(RenderError::Streams { peer });
        }
        if input.threads > 1 && !is_told(Global::Threads) {
            return Err(RenderError::Threads { peer, threads: input.threads });
        }
        Ok(word)
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
        let values = Filled { input: &input, policy: "", config, tls, value: "" };
        let words = Template::render_all(&process.version_command, &values)
            .map_err(|_| RenderError::Program { peer: self.name.clone() })?;
        Ok((!words.is_empty()).then_some(words))
    }
}

impl Process {
    fn render_reload(&self, values: &dyn Values) -> Result<Option<RenderedReload>, Global> {
        let Some(reload) = &self.reload else { return Ok(None) };
        let how = match &reload.how {
            ReloadHow::Watches => RenderedHow::Watches,
            ReloadHow::Signal(signal) => RenderedHow::Signal(*signal),
            ReloadHow::Command(words) => RenderedHow::Command(Template::render_all(words, values)?),
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
