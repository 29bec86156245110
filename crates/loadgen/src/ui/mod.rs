//! What the user sees. Progress goes to standard error, results to standard
//! output, so that either can be piped.

mod live;
mod progress;
mod terminal;

pub(crate) use live::Live;
pub(crate) use progress::Progress;
pub(crate) use terminal::{Terminal, WIDEST_TEXT, print, print_result};
