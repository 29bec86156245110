//! The JSON Schema of the file formats, for editors: made from the types that
//! read the files, so that it can't say anything else.

use crate::{engine::EngineWire, peer::wire::PeerWire, wire::ScenarioWire};

/// The schema of scenario files, as committed in `scenarios/scenario.schema.json`.
pub fn scenario_schema() -> String {
    text(schemars::schema_for!(ScenarioWire))
}

/// The schema of peer files, as committed in `scenarios/peers/peer.schema.json`.
pub fn peer_schema() -> String {
    text(schemars::schema_for!(PeerWire))
}

/// The schema of engine files, as committed in `scenarios/engines/engine.schema.json`.
pub fn engine_schema() -> String {
    text(schemars::schema_for!(EngineWire))
}

fn text(schema: schemars::Schema) -> String {
    format!("{:#}\n", schema.to_value())
}
