//! Progress: which peer, which repeat, how fast, how long still.
//!
//! On a terminal one line is drawn over and over while a trial runs; into a pipe
//! goes a line a trial and no control characters.

use std::{
    io::{self, Write as _},
    time::{Duration, Instant},
};

use measure::{
    figure::{Figure, Figures},
    format::{self, counted},
    record::{SearchResult, TrialOutcome, TrialRecord},
};

use super::{Live, Terminal};
use crate::run::{Event, Observer, trial::TrialProgress};

/// How often the line is drawn.
const REDRAW_EVERY: Duration = Duration::from_millis(200);
/// What starting and ending the processes of a trial takes, until it is known.
const USUAL_OVERHEAD: Duration = Duration::from_millis(700);

/// The progress of one run.
pub(crate) struct Progress {
    terminal: Terminal,
    trials: usize,
    done: usize,
    planned: Option<Duration>,
    /// Wall time of the trials that are done.
    spent: Duration,
    /// When a search ends at the latest.
    deadline: Option<Instant>,
    current: Option<Current>,
    /// When the line of simulations was drawn last.
    simulated: Option<Instant>,
    /// Told the same, where metrics are served.
    live: Option<Live>,
}

#[derive(Debug)]
struct Current {
    name: String,
    repeat: u32,
    began: Instant,
    drawn: Option<Instant>,
    /// Calls that had ended when the line was drawn last.
    ended: u64,
    calls_per_s: f64,
}

impl Progress {
    pub(crate) fn new(terminal: Terminal) -> Self {
        Self {
            terminal,
            trials: 0,
            done: 0,
            planned: None,
            spent: Duration::ZERO,
            deadline: None,
            current: None,
            simulated: None,
            live: None,
        }
    }

    /// Tells `live` what happens as well.
    pub(crate) fn with_live(self, live: Option<Live>) -> Self {
        Self { live, ..self }
    }

    /// Says something that must not be missed.
    pub(crate) fn note(&mut self, text: &str) {
        self.line(text);
    }

    fn simulated(&mut self, done: usize, of: usize) {
        if done == of {
            self.line(&counted(of, "simulation"));
        } else if self.terminal.interactive {
            let now = Instant::now();
            if self.simulated.is_none_or(|drawn| now - drawn >= REDRAW_EVERY) {
                self.simulated = Some(now);
                let _ = write!(io::stderr(), "\r\x1b[2Ksimulated {done} of {of}");
                let _ = io::stderr().flush();
            }
        }
    }

    /// Of this run: one that is made again (`--retries`) has the same progress.
    fn begin(&mut self, trials: usize, planned: Option<Duration>) {
        (self.done, self.spent, self.deadline) = (0, Duration::ZERO, None);
        self.planned = planned;
        self.set_trials(trials);
        let time = match self.left(Duration::ZERO) {
            Some(left) => format!(", about {}", seconds(left)),
            None => String::new(),
        };
        self.line(&format!("{}{time}", counted(trials, "trial")));
    }

    fn add(&mut self, trials: usize, why: &str) {
        self.set_trials(self.trials + trials);
        self.line(why);
    }

    fn set_trials(&mut self, trials: usize) {
        self.trials = trials;
        if let Some(live) = &self.live {
            live.planned(trials);
        }
    }

    fn search(&mut self, peers: usize, repeats: u32, budget: Duration) {
        self.deadline = Some(Instant::now() + budget);
        let (peers, times) = (counted(peers, "peer"), counted(repeats as usize, "time"));
        self.line(&format!("{peers} searched, {times} each, in {} at most", seconds(budget)));
    }

    fn found(&mut self, result: &SearchResult) {
        let held = result.held.map_or_else(|| "no rate".to_owned(), format::rate);
        let failed = match result.failed {
            Some(failed) => format!(", and not at {}", format::rate(failed)),
            None => String::new(),
        };
        let (name, repeat) = (&result.peer, result.repeat + 1);
        self.line(&format!("  {name}, repeat {repeat}: the objective held at {held}{failed}"));
    }

    fn trial_begins(&mut self, name: &str, repeat: u32) {
        if let Some(live) = &mut self.live {
            live.trial_begins(name);
        }
        self.current = Some(Current {
            name: name.to_owned(),
            repeat,
            began: Instant::now(),
            drawn: None,
            ended: 0,
            calls_per_s: 0.0,
        });
    }

    fn trial_progress(&mut self, progress: TrialProgress) {
        if let Some(live) = &mut self.live {
            live.update(&progress);
        }
        if !self.terminal.interactive {
            return;
        }
        let now = Instant::now();
        let Some(current) = &mut self.current else { return };
        let since_drawn = current.drawn.map(|drawn| now - drawn);
        if since_drawn.is_some_and(|since| since < REDRAW_EVERY) {
            return;
        }
        let state = match progress {
            TrialProgress::Starting => "starting its processes".to_owned(),
            TrialProgress::Running { elapsed, ended } => {
                if let Some(since) = since_drawn {
                    current.calls_per_s = (ended - current.ended) as f64 / since.as_secs_f64();
                    current.ended = ended;
                }
                let whole = self.planned.map(|planned| format!(" of {}", seconds(planned)));
                let rate = format::rate(current.calls_per_s);
                format!("{}{}, {rate}", seconds(elapsed), whole.unwrap_or_default())
            }
        };
        current.drawn = Some(now);
        let in_trial = now - current.began;
        let (name, repeat) = (current.name.clone(), current.repeat + 1);
        let left = match self.deadline {
            Some(deadline) => {
                Some(format!(", {} left at most", seconds(deadline.saturating_duration_since(now))))
            }
            None => self.left(in_trial).map(|left| format!(", {} left", seconds(left))),
        };
        let line = format!(
            "{} {name}, repeat {repeat}: {state}{}",
            self.number(self.done + 1),
            left.unwrap_or_default()
        );
        let line: String = line.chars().take(self.terminal.style.width.max(1) - 1).collect();
        let _ = write!(io::stderr(), "\r\x1b[2K{line}");
        let _ = io::stderr().flush();
    }

    fn trial_ends(&mut self, record: &TrialRecord) {
        let Some(current) = self.current.take() else { return };
        self.done += 1;
        if let Some(live) = &mut self.live {
            live.trial_ends(self.done);
        }
        self.spent += current.began.elapsed();
        let number = self.number(self.done);
        let head = format!("{number} {}, repeat {}: ", current.name, current.repeat + 1);
        self.line(&format!("{head}{}", in_short(record)));
    }

    /// A trial's number, and of how many where that is known.
    fn number(&self, trial: usize) -> String {
        match self.deadline {
            Some(_) => format!("[{trial}]"),
            None => format!("[{trial}/{}]", self.trials),
        }
    }

    /// A line that stays.
    fn line(&self, text: &str) {
        let start = if self.terminal.interactive { "\r\x1b[2K" } else { "" };
        let _ = writeln!(io::stderr(), "{start}{text}");
    }

    /// Time left: as long as the trials so far took each, or as planned.
    fn left(&self, in_trial: Duration) -> Option<Duration> {
        let each = match u32::try_from(self.done) {
            Ok(done) if done > 0 => self.spent / done,
            _ => self.planned? + USUAL_OVERHEAD,
        };
        let open = u32::try_from(self.trials - self.done).unwrap_or(u32::MAX);
        Some(each.saturating_mul(open).saturating_sub(in_trial))
    }
}

impl Observer for Progress {
    fn on(&mut self, event: Event<'_>) {
        match event {
            Event::Note(text) => self.note(text),
            Event::Simulated { done, of } => self.simulated(done, of),
            Event::Planned { trials, each } => self.begin(trials, each),
            Event::Added { trials, why } => self.add(trials, why),
            Event::SearchBegins { peers, repeats, budget } => self.search(peers, repeats, budget),
            Event::Found(result) => self.found(result),
            Event::TrialBegins { name, repeat } => self.trial_begins(name, repeat),
            Event::Progress(progress) => self.trial_progress(progress),
            Event::TrialEnds(record) => self.trial_ends(record),
        }
    }
}

/// A trial in a few words.
fn in_short(record: &TrialRecord) -> String {
    if let TrialOutcome::Failed { side, message } = &record.outcome {
        let side = format!("{side:?}").to_lowercase();
        return format!("FAILED on the side of the {side}: {message}");
    }
    if record.outcome == TrialOutcome::Interrupted {
        let ended = format::count(record.counts.ok);
        return format!("cut short after {ended} calls, and in no figure");
    }
    let figures = Figures::of_trial(record);
    let mut text = format!("{} calls", format::count(figures.ok));
    let used = figures.get(Figure::BackendsUsed).unwrap_or(0.0);
    // Of somebody else's service, which backend served a call may not be known.
    if !record.backends.is_empty() {
        text.push_str(&format!(" on {} of {} backends", used, record.backends.len()));
    }
    if let (Some(p50), Some(p99)) = (figures.latency_ns(0.5), figures.latency_ns(0.99)) {
        text.push_str(&format!(", p50 {}, p99 {}", format::duration(p50), format::duration(p99)));
    }
    let lost = figures.failed + figures.unfinished;
    if lost > 0 {
        text.push_str(&format!(", {} failed or without an answer", format::count(lost)));
    }
    text
}

fn seconds(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 10.0 { format!("{seconds:.1} s") } else { format!("{seconds:.0} s") }
}

#[cfg(test)]
mod tests {
    use measure::record::Side;
    use report::terminal::Style;

    use super::*;

    fn progress(trials: usize, planned: Option<Duration>) -> Progress {
        let terminal = Terminal { interactive: false, style: Style { colour: false, width: 80 } };
        let mut progress = Progress::new(terminal);
        progress.trials = trials;
        progress.planned = planned;
        progress
    }

    #[test]
    fn time_left_follows_the_plan_and_then_experience() {
        let mut progress = progress(4, Some(Duration::from_millis(2_300)));
        assert_eq!(progress.left(Duration::ZERO), Some(Duration::from_secs(12)));
        progress.done = 2;
        progress.spent = Duration::from_secs(10);
        assert_eq!(progress.left(Duration::from_secs(1)), Some(Duration::from_secs(9)));
        assert_eq!(progress.left(Duration::from_secs(60)), Some(Duration::ZERO));
    }

    #[test]
    fn a_run_that_is_made_again_counts_from_the_start() {
        let mut progress = progress(0, None);
        for _ in 0..2 {
            progress.begin(1, Some(Duration::from_secs(1)));
            // One that was disturbed is measured again.
            progress.add(1, "disturbed");
            for repeat in 0..2 {
                progress.trial_begins("l4", repeat);
                progress.trial_ends(&TrialRecord::blank("l4", repeat, 0));
            }
            assert_eq!((progress.done, progress.trials), (2, 2));
        }
    }

    #[test]
    fn a_failed_trial_says_whose_side_it_was() {
        let mut record = TrialRecord::blank("l4", 0, 0);
        record.outcome = TrialOutcome::Failed { side: Side::Backend, message: "b0 ended".into() };
        assert_eq!(in_short(&record), "FAILED on the side of the backend: b0 ended");
    }
}
