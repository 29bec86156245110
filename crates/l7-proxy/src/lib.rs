//! Per-call balancing of gRPC over h2c.
