//! What was found: a row for each figure, printed as it comes, and as a table at the end.

/// A figure beside what it has to be.
pub(crate) struct Row {
    /// What was measured.
    pub(crate) case: String,
    /// Which figure of it.
    pub(crate) figure: String,
    /// What it has to be, with its unit.
    pub(crate) known: String,
    /// What the lab says.
    pub(crate) measured: String,
    /// How far it is off.
    pub(crate) off: String,
    /// How far it may be off.
    pub(crate) bound: String,
    /// Whether it is off by no more than that.
    pub(crate) is_within: bool,
}

/// All rows so far.
#[derive(Default)]
pub(crate) struct Table {
    rows: Vec<Row>,
    /// Cases that could not be measured here, with the reason.
    left_out: Vec<String>,
}

impl Table {
    /// Prints a row and keeps it.
    pub(crate) fn row(&mut self, row: Row) {
        println!(
            "{:<30} {:<22} {:>16} {:>34} {:>10}  (bound {}){}",
            row.case,
            row.figure,
            row.known,
            row.measured,
            row.off,
            row.bound,
            if row.is_within { "" } else { "  MISSED" }
        );
        self.rows.push(row);
    }

    /// Prints what belongs to the rows before.
    pub(crate) fn note(&mut self, text: &str) {
        println!("{:<30} {text}", "");
    }

    /// Says that something can't be measured here.
    pub(crate) fn leave_out(&mut self, text: String) {
        println!("left out: {text}");
        self.left_out.push(text);
    }

    /// How many rows missed their bound.
    pub(crate) fn missed(&self) -> usize {
        self.rows.iter().filter(|row| !row.is_within).count()
    }

    /// As Markdown.
    pub(crate) fn markdown(&self) -> String {
        let mut text = String::from("| case | figure | known | measured | off by | bound | |\n");
        text.push_str("|---|---|---|---|---|---|---|\n");
        for row in &self.rows {
            let verdict = if row.is_within { "within" } else { "**missed**" };
            text.push_str(&format!(
                "| {} | {} | {} | {} | {} | {} | {verdict} |\n",
                row.case, row.figure, row.known, row.measured, row.off, row.bound
            ));
        }
        for reason in &self.left_out {
            text.push_str(&format!("\nLeft out: {reason}\n"));
        }
        text
    }
}
