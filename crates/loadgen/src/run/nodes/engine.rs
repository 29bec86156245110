//! Starts, watches and ends agents, by the command of an engine.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use scenario::{Engine, EngineInput, RenderedEngine, TokenBy};

use crate::{
    exit::Failure,
    lab::{Launch, Process},
    peers::loadgen_program,
};

/// The variable that has a run's token.
pub(crate) const TOKEN_VARIABLE: &str = "LAYERLAB_TOKEN";
/// How long agents that were told to may take to end before their command is ended.
const END_WITHIN: Duration = Duration::from_secs(3);
/// How often it is looked whether they have.
const POLL_INTERVAL: Duration = Duration::from_millis(5);
/// What a run may take beyond what its trials do, in minutes: agents that join, processes
/// that start, trials that are repeated.
const SPARE_MINUTES: u64 = 10;

/// Agents that were started.
pub(super) struct Running {
    commands: Vec<Process>,
    is_detached: bool,
    end: Vec<String>,
    /// Where its commands write, and the files they are given. Last: it is let go of after
    /// they have ended.
    folder: tempfile::TempDir,
}

/// Who is to be started, and for whom.
pub(super) struct Start<'a> {
    pub(super) engine: &'a Engine,
    pub(super) hosts: &'a [String],
    pub(super) nodes: usize,
    /// Where agents find the coordinator.
    pub(super) join: (&'a str, u16),
    pub(super) token: &'a str,
    pub(super) minutes: u64,
}

/// How many minutes a run of so many trials is given.
pub(super) fn minutes(planned: Option<Duration>) -> u64 {
    let planned = planned.unwrap_or(Duration::from_secs(3_600));
    // Starts, ends and what is measured again take about as long as the trials.
    planned.as_secs().saturating_mul(2).div_ceil(60) + SPARE_MINUTES
}

impl Running {
    /// Starts the agents.
    pub(super) fn start(start: &Start<'_>) -> Result<Self, Failure> {
        let engine = start.engine;
        let cannot = |error: &dyn std::fmt::Display| {
            Failure::lab(format!("cannot start agents by {}: {error}", engine.name))
        };
        let folder = tempfile::tempdir().map_err(|error| cannot(&error))?;
        let nodes = if engine.each_node { start.nodes } else { 1 };
        let program = loadgen_program().map_err(|error| cannot(&error))?;
        let mut running = Self {
            commands: Vec::with_capacity(nodes),
            is_detached: engine.detached,
            end: Vec::new(),
            folder,
        };
        for node in 0..nodes {
            let input = EngineInput {
                loadgen: &program,
                join: start.join,
                nodes: start.nodes,
                node: engine.each_node.then(|| (node, start.hosts.get(node).map(String::as_str))),
                minutes: start.minutes,
                dir: running.folder.path(),
                token: start.token,
            };
            let RenderedEngine { command, end, files } = engine.render(&input);
            for (name, text) in &files {
                let written = write_private(&running.folder.path().join(name), text);
                written.map_err(|error| cannot(&error))?;
            }
            let mut process = Process::start(
                &launch(format!("{}-{node}", engine.name), command, engine.token, start.token),
                None,
                None,
                running.folder.path(),
            )
            .map_err(|error| cannot(&error))?;
            if engine.token == TokenBy::Stdin {
                process.send(start.token).map_err(|error| cannot(&error))?;
            }
            running.end = end;
            if engine.detached {
                process.set_up().map_err(|error| cannot(&error))?;
            } else {
                running.commands.push(process);
            }
        }
        Ok(running)
    }

    /// Says how a command ended that was to run for as long as the agents do.
    pub(super) fn ended(&mut self) -> Option<String> {
        let mut commands = self.commands.iter_mut();
        commands.find_map(|command| command.exited().map(|_| command.exit_report().to_string()))
    }

    /// Ends them: agents that were told so have ended by themselves.
    pub(super) fn stop(mut self) {
        let deadline = Instant::now() + END_WITHIN;
        while self.commands.iter_mut().any(|command| command.exited().is_none())
            && Instant::now() < deadline
        {
            thread::sleep(POLL_INTERVAL);
        }
        self.commands.iter_mut().for_each(Process::ask_to_stop);
        self.commands.iter_mut().for_each(Process::finish);
        if self.is_detached {
            let end = std::mem::take(&mut self.end);
            let launch = launch("end".to_owned(), end, TokenBy::File, "");
            let ended = Process::start(&launch, None, None, self.folder.path());
            // What can't be taken away ends by itself: its time is limited.
            let _ = ended.map(Process::set_up);
        }
    }
}

fn launch(name: String, command: Vec<String>, token_by: TokenBy, token: &str) -> Launch {
    let environment = match token_by {
        TokenBy::Environment => vec![(TOKEN_VARIABLE.to_owned(), token.to_owned())],
        TokenBy::Stdin | TokenBy::File => Vec::new(),
    };
    Launch { environment, ..Launch::new(name, command, &[]) }
}

/// Writes a file that only this user can read: it may hold the token.
fn write_private(path: &PathBuf, text: &str) -> io::Result<()> {
    fs::write(path, "")?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    fs::write(path, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_in_no_argument_and_in_no_file_that_others_read() {
        let by = |token_by| launch("n".into(), vec!["x".into()], token_by, "secret");
        let with = by(TokenBy::Environment);
        assert_eq!(with.environment, [(TOKEN_VARIABLE.to_owned(), "secret".to_owned())]);
        assert!(by(TokenBy::Stdin).environment.is_empty());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.yaml");
        write_private(&path, "secret").unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "others can read it");
    }

    #[test]
    fn a_run_is_given_more_time_than_its_trials_take() {
        assert_eq!(minutes(Some(Duration::from_secs(0))), SPARE_MINUTES);
        assert_eq!(minutes(Some(Duration::from_secs(90))), SPARE_MINUTES + 3);
        assert_eq!(minutes(None), SPARE_MINUTES + 120);
    }
}
