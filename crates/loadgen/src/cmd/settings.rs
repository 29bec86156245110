//! Flags that change a scenario, of runs and of simulations alike.

use std::path::PathBuf;

use measure::record::RunRecord;
use scenario::{Library, Scenario, ScenarioSource, Setting};

use crate::{exit::Failure, peers, root::Root};

#[derive(Debug, Default, clap::Args)]
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

    /// The scenario of a run that was kept, as it was run, with these flags in force on top,
    /// and all of them as they were written.
    pub(super) fn resolve_again(
        &self,
        source: &ScenarioSource,
        library: &Library,
        run: &RunRecord,
    ) -> Result<(Scenario, Vec<String>), Failure> {
        let (was_short, mut settings) = of_run(run);
        settings.extend(self.settings(library, Vec::new())?);
        let short = self.short || was_short;
        let scenario = source.resolve(short, &settings).map_err(Failure::bad_input)?;
        let written = short.then(|| "--short".to_owned()).into_iter().chain(origins(&settings));
        Ok((scenario, written.collect()))
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

/// Whether a run was of the short form, and the settings that its flags made. Other flags
/// say what was driven, and not what load it had.
fn of_run(run: &RunRecord) -> (bool, Vec<Setting>) {
    let setting = |written: &String| {
        let (flag, value) = written.split_once(' ')?;
        let set = |key: &str| Some(Setting::new(key, value, written));
        match flag {
            "--peers" => {
                let names: Vec<String> = value.split(',').map(str::to_owned).collect();
                Some(Setting::list("run.peers", &names, written))
            }
            "--duration" => set("load.duration"),
            "--repeats" => set("run.repeats"),
            "--seed" => set("run.seed"),
            "--rate" => set("load.rate"),
            "--set" => {
                let (key, value) = value.split_once('=')?;
                Some(Setting::new(key.trim(), value.trim(), written))
            }
            _ => None,
        }
    };
    let is_short = run.overrides.iter().any(|written| written == "--short");
    (is_short, run.overrides.iter().filter_map(setting).collect())
}

/// The settings as they were written.
pub(super) fn origins(settings: &[Setting]) -> impl Iterator<Item = String> {
    settings.iter().map(|setting| setting.origin().to_owned())
}

#[cfg(test)]
mod tests {
    use measure::folder::Run;

    use super::*;

    #[test]
    fn a_run_s_flags_are_in_force_again_and_new_ones_go_before_them() {
        let root = Root::find();
        let mut record = Run::open(&root.results().join("example")).unwrap().record;
        record.overrides = ["--short", "--peers l7", "--repeats 5", "--set load.rate=900/s"]
            .map(str::to_owned)
            .to_vec();
        let library = Library::open(root.scenarios()).unwrap();
        let source = library.find(&record.scenario).unwrap();
        let args = SettingArgs { repeats: Some("2".to_owned()), ..SettingArgs::default() };
        let (scenario, written) = args.resolve_again(&source, &library, &record).unwrap();
        assert_eq!((scenario.peers, scenario.repeats), (vec!["l7".to_owned()], 2));
        assert_eq!(scenario.load.pace.mean_rate(), Some(900.0));
        assert_eq!(
            written,
            ["--short", "--peers l7", "--repeats 5", "--set load.rate=900/s", "--repeats 2"]
        );
    }
}
