//! The JSON Schema of the file formats, for editors: made from the types that
//! read the files, so that it can't say anything else.

use crate::wire::ScenarioWire;

/// The schema of scenario files, as committed in `scenarios/scenario.schema.json`.
pub fn scenario_schema() -> String {
    text(schemars::schema_for!(ScenarioWire))
}

fn text(schema: schemars::Schema) -> String {
    format!("{:#}\n", schema.to_value())
}
