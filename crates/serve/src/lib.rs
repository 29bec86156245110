//! What every server here shares: accept loop, limits, drain, control pipe, counters.
