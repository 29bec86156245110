//! What a stream is: a terminal with colours and a width, or a pipe.

use std::io::{self, IsTerminal as _, Write as _};

use analysis::prediction::outcomes;
use measure::record::{Expectation, RunOutcome, Verdict};
use report::terminal::{Style, predictions, table, verdict};

use crate::{exit::Failure, run::Finished};

/// Columns where nobody can be asked.
const USUAL_WIDTH: usize = 100;
/// Sentences wider than this are hard to read.
pub(crate) const WIDEST_TEXT: usize = 100;

/// What is known of an output stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terminal {
    pub(crate) interactive: bool,
    pub(crate) style: Style,
}

impl Terminal {
    pub(crate) fn stdout() -> Self {
        Self::of(io::stdout().is_terminal())
    }

    pub(crate) fn stderr() -> Self {
        Self::of(io::stderr().is_terminal())
    }

    fn of(is_terminal: bool) -> Self {
        // https://no-color.org: set and not empty.
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        let interactive = is_terminal && !dumb;
        let width = if is_terminal {
            terminal_size::terminal_size().map_or(USUAL_WIDTH, |(width, _)| usize::from(width.0))
        } else {
            USUAL_WIDTH
        };
        Self { interactive, style: Style { colour: interactive && !no_color, width } }
    }
}

/// Writes to standard output. A reader who went away is no error; a disk that is full is.
///
/// # Errors
/// What the file system said.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    // Not println!, which panics on any of them.
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::lab(format!("cannot write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// Prints what came out: the table, what it means, what was expected, and where
/// the report is.
///
/// # Errors
/// When it can't be written.
pub(crate) fn print_result(
    finished: &Finished,
    report: Option<&std::path::Path>,
    last: Option<&str>,
) -> Result<(), Failure> {
    let style = Terminal::stdout().style;
    let text_style = Style { width: style.width.min(WIDEST_TEXT), ..style };
    let mut text = String::new();
    text.push('\n');
    text.push_str(&table(&finished.record, &finished.trials, style));
    text.push('\n');
    text.push_str(&verdict(&finished.record, &finished.trials, text_style));
    let predicted = outcomes(&finished.record, &finished.trials);
    if !predicted.is_empty() {
        text.push('\n');
        text.push_str(&predictions(&predicted, style));
    }
    let expectations = &finished.record.expectations;
    if !expectations.is_empty() {
        text.push('\n');
        text.push_str(&expected(expectations, style));
    }
    if finished.record.outcome == RunOutcome::Interrupted {
        text.push_str("\nInterrupted; what was measured until then is kept.\n");
    }
    text.push('\n');
    if let Some(report) = report {
        text.push_str(&format!("report   {}\n", report.display()));
    }
    text.push_str(&format!("records  {}\n", finished.folder.display()));
    if let Some(last) = last {
        text.push_str(&format!("{last}\n"));
    }
    print(&text)
}

/// One line for what held, and a line for each claim that did not.
fn expected(expectations: &[Expectation], style: Style) -> String {
    let held = expectations.iter().filter(|one| one.verdict == Verdict::Held).count();
    let mut text = match expectations.len() {
        1 if held == 1 => "expected the claim holds\n".to_owned(),
        1 => "expected the claim does not hold\n".to_owned(),
        all => format!("expected {held} of {all} claims hold\n"),
    };
    for one in expectations {
        let (word, colour) = match one.verdict {
            Verdict::Held => continue,
            Verdict::Failed => ("FAILED", 31),
            Verdict::NotJudged => ("not judged", 33),
        };
        let word =
            if style.colour { format!("\x1b[1;{colour}m{word}\x1b[0m") } else { word.to_owned() };
        text.push_str(&format!("  {word}: {} ({})\n", one.claim, one.detail));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_did_not_hold_is_told_with_its_figure() {
        let one = |claim: &str, verdict, detail: &str| Expectation {
            claim: claim.into(),
            verdict,
            detail: detail.into(),
        };
        let text = expected(
            &[
                one("l4.max_share == 100%", Verdict::Held, "100 %"),
                one("l7.max_share < 20%", Verdict::Failed, "25.0 %"),
                one("nginx-l7.max_share < 30%", Verdict::NotJudged, "nginx-l7 was not run"),
            ],
            Style { colour: false, width: 80 },
        );
        assert_eq!(
            text,
            "expected 1 of 3 claims hold\n  \
             FAILED: l7.max_share < 20% (25.0 %)\n  \
             not judged: nginx-l7.max_share < 30% (nginx-l7 was not run)\n"
        );
    }
}
