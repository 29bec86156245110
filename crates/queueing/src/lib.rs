//! Closed-form queueing models: what theory says of a scenario. Pure.
