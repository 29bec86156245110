//! `loadgen schema FORMAT`: the JSON Schema of a file format.

use clap::ValueEnum;

use crate::{
    exit::{self, Failure},
    run::summary::Summary,
    ui::print,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Which format.
    format: Format,
}

/// A file format with a schema.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// Scenario files.
    Scenario,
    /// Peer files.
    Peer,
    /// Engine files.
    Engine,
    /// run.json of a run folder.
    Run,
    /// trials/*.json of a run folder.
    Trial,
    /// predictions.json of a run folder.
    Predictions,
    /// What --json prints.
    Summary,
    /// What `decide --json` prints.
    Decision,
    /// What `compare --json` prints.
    Comparison,
}

pub(super) fn main(args: &Args) -> Result<u8, Failure> {
    use measure::record::{RunRecord, TrialRecord};
    let text = |schema: schemars::Schema| format!("{:#}\n", schema.to_value());
    print(&match args.format {
        Format::Scenario => scenario::scenario_schema(),
        Format::Peer => scenario::peer_schema(),
        Format::Engine => scenario::engine_schema(),
        Format::Run => text(schemars::schema_for!(RunRecord)),
        Format::Trial => text(schemars::schema_for!(TrialRecord)),
        Format::Predictions => text(schemars::schema_for!(measure::prediction::Predictions)),
        Format::Summary => text(schemars::schema_for!(Summary)),
        Format::Decision => text(schemars::schema_for!(analysis::decide::Decision)),
        Format::Comparison => text(schemars::schema_for!(analysis::compare::Comparison)),
    })?;
    Ok(exit::FINE)
}
