//! `loadgen --list`: the scenarios and what they ask.

use crate::{
    exit::{self, Failure},
    root::Root,
    ui::print,
};

pub(super) fn main() -> Result<u8, Failure> {
    let library = super::library(&Root::find())?;
    let mut text = String::new();
    for summary in library.summaries() {
        match summary {
            Ok(summary) => {
                let planned = summary.planned.map_or_else(
                    || "until done".to_owned(),
                    |planned| format!("{:.0} s of load", planned.as_secs_f64()),
                );
                let peers = summary.peers.join(", ");
                text.push_str(&format!(
                    "{}\n    {}\n    {peers}; {planned}\n",
                    summary.name, summary.question
                ));
            }
            Err(error) => text.push_str(&format!("BROKEN: {error}\n")),
        }
    }
    print(&text)?;
    Ok(exit::FINE)
}
