//! Flags that change a scenario, of runs and of simulations alike.

use std::path::PathBuf;

use scenario::{Library, Scenario, ScenarioSource, Setting};

use crate::{exit::Failure, peers, root::Root};

#[derive(Debug, clap::Args)]
pub(super) struct SettingArgs {
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

impl SettingArgs {
    /// The scenario with the flags in force, and the flags as they were written.
    pub(super) fn resolve(
        &self,
        source: &ScenarioSource,
        library: &Library,
    ) -> Result<(Scenario, Vec<String>), Failure> {
        let settings = self.settings(library, Vec::new())?;
        let scenario = self.scenario(source, &settings)?;
        Ok((scenario, self.short().into_iter().chain(origins(&settings)).collect()))
    }

    /// The flag of the short form, as written.
    pub(super) fn short(&self) -> Option<String> {
        self.short.then(|| "--short".to_owned())
    }

    /// The scenario with these settings in force.
    pub(super) fn scenario(
        &self,
        source: &ScenarioSource,
        settings: &[Setting],
    ) -> Result<Scenario, Failure> {
        source.resolve(self.short, settings).map_err(Failure::bad_input)
    }

    /// Whether the peers are all there are.
    pub(super) fn every_peer(&self) -> bool {
        self.peers == ["all"]
    }

    /// Whether a setting of the scenario was changed, beside how much is measured.
    pub(super) fn changes_scenario(&self) -> bool {
        !self.settings.is_empty()
    }

    /// Where runs are kept.
    pub(super) fn results(&self, root: &Root) -> PathBuf {
        self.out.clone().unwrap_or_else(|| root.results())
    }

    /// What the flags set, with what other flags do before `--set`. They go through the
    /// same check as the file, which blames them by name.
    pub(super) fn settings(
        &self,
        library: &Library,
        others: Vec<Setting>,
    ) -> Result<Vec<Setting>, Failure> {
        let flag = |key: &str, flag: &str, value: &Option<String>| {
            value.as_ref().map(|value| Setting::new(key, value, format!("{flag} {value}")))
        };
        let mut settings = Vec::new();
        if !self.peers.is_empty() {
            let origin = format!("--peers {}", self.peers.join(","));
            let names =
                if self.every_peer() { peers::all_names(library) } else { self.peers.clone() };
            settings.push(Setting::list("run.peers", &names, origin));
        }
        settings.extend(flag("load.duration", "--duration", &self.duration));
        settings.extend(flag("run.repeats", "--repeats", &self.repeats));
        settings.extend(flag("run.seed", "--seed", &self.seed));
        settings.extend(others);
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

/// The settings as they were written.
pub(super) fn origins(settings: &[Setting]) -> impl Iterator<Item = String> {
    settings.iter().map(|setting| setting.origin().to_owned())
}
