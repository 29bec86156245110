//! Call timing, recorders, statistics, the run record. Pure.
