//! Flags that say what is asked of a scenario that is simulated: those of a run that have
//! nothing to do with processes.

use std::path::PathBuf;

use scenario::{Library, Scenario, ScenarioSource, Setting};

use crate::{exit::Failure, peers, root::Root};

#[derive(Debug, clap::Args)]
pub(super) struct Asked {
    /// The peers to compare, with commas, instead of the scenario's; `all` for
    /// every peer there is (see `loadgen peers`).
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    peers: Vec<String>,

    /// Length of the measured part of each trial: 2s, 500ms, 1m.
    #[arg(long, value_name = "TIME")]
    duration: Option<String>,

    /// Trials of each peer.
    #[arg(long, value_name = "N")]
    repeats: Option<String>,

    /// Seed of all chance: arrivals, service times, payloads.
    #[arg(long, value_name = "N")]
    seed: Option<String>,

    /// Any other setting of the scenario, by its key: `load.rate=5000/s`,
    /// `backends.count=8`, `balance.policy=p2c`, `network=namespaces`,
    /// `tls=both`. May be given again.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,

    /// Run the scenario's short form: a few seconds, for a check and not for
    /// figures.
    #[arg(long)]
    short: bool,

    /// Folder to keep runs in [default: results].
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,

    /// Print the result as one JSON object (progress stays on standard error).
    #[arg(long)]
    pub(super) json: bool,
}

impl Asked {
    /// The scenario with the flags in force, and the flags as they were written.
    pub(super) fn resolve(
        &self,
        source: &ScenarioSource,
        library: &Library,
    ) -> Result<(Scenario, Vec<String>), Failure> {
        let settings = self.settings(library)?;
        let scenario = source.resolve(self.short, &settings).map_err(Failure::bad_input)?;
        let short = self.short.then(|| "--short".to_owned());
        let written = settings.iter().map(|setting| setting.origin().to_owned());
        Ok((scenario, short.into_iter().chain(written).collect()))
    }

    /// Whether a setting of the scenario was changed, beside how much is measured.
    pub(super) fn changes_scenario(&self) -> bool {
        !self.settings.is_empty()
    }

    /// Where runs are kept.
    pub(super) fn results(&self, root: &Root) -> PathBuf {
        self.out.clone().unwrap_or_else(|| root.results())
    }

    /// The flags that change the scenario. They go through the same check as the
    /// file, which blames them by name.
    fn settings(&self, library: &Library) -> Result<Vec<Setting>, Failure> {
        let flag = |key: &str, flag: &str, value: &Option<String>| {
            value.as_ref().map(|value| Setting::new(key, value, format!("{flag} {value}")))
        };
        let mut settings = Vec::new();
        if !self.peers.is_empty() {
            let origin = format!("--peers {}", self.peers.join(","));
            let names =
                if self.peers == ["all"] { peers::all_names(library) } else { self.peers.clone() };
            settings.push(Setting::list("run.peers", &names, origin));
        }
        settings.extend(flag("load.duration", "--duration", &self.duration));
        settings.extend(flag("run.repeats", "--repeats", &self.repeats));
        settings.extend(flag("run.seed", "--seed", &self.seed));
        for text in &self.settings {
            let Some((key, value)) = text.split_once('=') else {
                return Err(Failure::bad_input(format!(
                    "--set {text}: expected KEY=VALUE, as in --set load.rate=5000/s"
                )));
            };
            settings.push(Setting::new(key.trim(), value.trim(), format!("--set {text}")));
        }
        Ok(settings)
    }
}
