//! Two runs against each other, as text and as a page.

use analysis::{compare::Comparison, verdict::Verdict};

use crate::{
    page,
    terminal::Style,
    verdicts::{allowance, cells, sentence},
};

/// A comparison as one self-contained page.
pub fn html(comparison: &Comparison) -> String {
    page::compare::render(comparison)
}

/// A comparison as text.
pub fn text(comparison: &Comparison, style: Style) -> String {
    let mut text = format!("before  {}\nafter   {}\n\n", comparison.before, comparison.after);
    let cells: Vec<[String; 6]> = comparison.rows.iter().map(cells).collect();
    let heads = ["peer", "figure", "before", "after", "change", ""].map(str::to_owned);
    let width = |column: usize| {
        let all = cells.iter().chain([&heads]);
        all.map(|row| row[column].chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..6).map(width).collect();
    for (index, row) in std::iter::once(&heads).chain(&cells).enumerate() {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let width = widths[column];
            // Words to the left, numbers to the right.
            line.push_str(&match column {
                0 | 1 | 5 => format!("{cell:<width$}  "),
                _ => format!("{cell:>width$}  "),
            });
        }
        let line = line.trim_end();
        let verdict = index.checked_sub(1).map(|index| comparison.rows[index].verdict);
        let code = match verdict {
            Some(Verdict::Worse) => Some(31),
            Some(Verdict::Better) => Some(32),
            _ => None,
        };
        match code.filter(|_| style.colour) {
            Some(code) => text.push_str(&format!("\x1b[{code}m{line}\x1b[0m\n")),
            None => text.push_str(&format!("{line}\n")),
        }
    }
    text.push_str(&format!("\n{}\n{}\n", sentence(comparison), allowance(comparison)));
    for warning in &comparison.warnings {
        text.push_str(&format!("! {warning}\n"));
    }
    text
}
