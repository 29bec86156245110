//! Statistics: how sure one can be of a figure, and whether the assumptions it
//! rests on held.
//!
//! | module | question |
//! |---|---|
//! | [`interval`] | how far off may this figure be, and is A really less than B? |
//!
//! All functions are pure: the same numbers in, the same numbers out, chance
//! seeded. Those that can't answer (too few values, no variation, something that
//! is no number) return `None`, never a guess. A p-value is the chance of data at
//! least as odd as these if the assumption held; with the many values a trial
//! has, small p-values come from deviations too small to matter, so every test
//! gives the size of the effect beside it.
//!
//! Left out: judging. Which p-value or effect becomes a [`crate::warning`] is for
//! the caller to say.

mod chance;
pub mod interval;
mod special;
