//! Policies: which backend gets the next call or connection. Pure.
