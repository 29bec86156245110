//! Per-connection balancing of TCP.
