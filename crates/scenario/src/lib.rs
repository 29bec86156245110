//! Scenario and peer files: wire structs, checked types, JSON Schema.
