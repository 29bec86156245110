//! The timeline of a scenario: whether what happens to backends makes sense one
//! after the other, before anything is started.

use serde::Serialize;

use crate::{
    backends::Backend,
    bounds::{self, Bounds, within},
    command::Servers,
    error::Problem,
    quantity::PercentText,
    service_time::ServiceTime,
    wire::{FaultActionWire, FaultWire},
};

/// Something that happens to a backend.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Fault {
    /// When, as a fraction of the measured part.
    pub at: f64,
    /// What happens.
    pub action: FaultAction,
    /// Index of the backend.
    pub backend: u32,
}

/// What can happen to a backend.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultAction {
    /// It is stopped (SIGSTOP): connections stay open, nothing is answered.
    Stop,
    /// It goes on (SIGCONT).
    Continue,
    /// It is gone at once (SIGKILL).
    Kill,
    /// It drains and ends (SIGTERM).
    Drain,
    /// It is started again, at its old address and as fast as at first.
    Start,
    /// It works so many times slower than before.
    SlowDown {
        /// How many times; at least 1.
        factor: f64,
    },
    /// It works so many times faster than before.
    SpeedUp {
        /// How many times; at least 1.
        factor: f64,
    },
    /// It joins: the balancer is told of it. Until then it stands by.
    Add,
    /// The balancer is told that it is no longer one of the backends. It goes on
    /// running.
    Remove,
}

impl FaultAction {
    /// Its name in scenario files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Continue => "continue",
            Self::Kill => "kill",
            Self::Drain => "drain",
            Self::Start => "start",
            Self::SlowDown { .. } => "slow_down",
            Self::SpeedUp { .. } => "speed_up",
            Self::Add => "add",
            Self::Remove => "remove",
        }
    }

    /// Whether it changes which backends there are to choose from.
    pub(crate) fn is_membership(self) -> bool {
        matches!(self, Self::Add | Self::Remove)
    }

    /// How fast a backend works after this, that worked at `before` and at
    /// `first` when it was started.
    pub fn speed_after(self, before: f64, first: f64) -> f64 {
        match self {
            Self::SlowDown { factor } => before / factor,
            Self::SpeedUp { factor } => before * factor,
            Self::Start => first,
            Self::Stop | Self::Continue | Self::Kill | Self::Drain | Self::Add | Self::Remove => {
                before
            }
        }
    }
}

/// Checks all faults; they come back in order of time. `are_own`: backends are servers
/// of the user's own.
pub(crate) fn check_faults(
    wire: &[FaultWire],
    backends: &[Backend],
    servers: &Servers,
) -> Result<Vec<Fault>, Problem> {
    if let (Some(_), Some(_)) = (wire.first(), servers.running()) {
        let message = "the lab did not start these servers, and does nothing to them; take \
                       `[[fault]]` out, or start them by `backends.command`";
        return Err(Problem::new("fault", message));
    }
    let mut faults = Vec::with_capacity(wire.len());
    for (position, fault) in wire.iter().enumerate() {
        let most = u32::try_from(backends.len()).unwrap_or(u32::MAX) - 1;
        let indices = Bounds { min: 0, max: most };
        let key = format!("fault[{position}]");
        let backend = within(&format!("{key}.backend"), fault.backend, indices, "a backend")?;
        let PercentText(at) = fault.at;
        let action = check_action(&key, fault, &backends[backend as usize], servers.are_own())?;
        faults.push((key, Fault { at, action, backend }));
    }
    faults.sort_by(|(_, a), (_, b)| a.at.total_cmp(&b.at));
    check_states(&faults, backends.len())?;
    check_speeds(&faults, backends)?;
    check_members(&faults, backends.len())?;
    Ok(faults.into_iter().map(|(_, fault)| fault).collect())
}

fn check_action(
    key: &str,
    fault: &FaultWire,
    backend: &Backend,
    are_own: bool,
) -> Result<FaultAction, Problem> {
    let factor_key = format!("{key}.factor");
    let factor = || {
        if are_own {
            let message = "only the lab's own backend can be made slower or faster, and \
                           `backends.command` starts servers of yours";
            return Err(Problem::new(format!("{key}.action"), message));
        }
        let Some(factor) = fault.factor else {
            let message = "this key is missing: say how many times slower or faster";
            return Err(Problem::new(&factor_key, message));
        };
        if backend.service_time == ServiceTime::None {
            let message = format!(
                "service of {} takes no time, which no factor changes; set \
                 `backends.service_time`",
                backend.id
            );
            return Err(Problem::new(&factor_key, message));
        }
        within(&factor_key, factor, bounds::SPEED_FACTOR, "how many times")
    };
    let action = match fault.action {
        FaultActionWire::SlowDown => return Ok(FaultAction::SlowDown { factor: factor()? }),
        FaultActionWire::SpeedUp => return Ok(FaultAction::SpeedUp { factor: factor()? }),
        FaultActionWire::Stop => FaultAction::Stop,
        FaultActionWire::Continue => FaultAction::Continue,
        FaultActionWire::Kill => FaultAction::Kill,
        FaultActionWire::Drain => FaultAction::Drain,
        FaultActionWire::Start => FaultAction::Start,
        FaultActionWire::Add => FaultAction::Add,
        FaultActionWire::Remove => FaultAction::Remove,
    };
    match fault.factor {
        None => Ok(action),
        Some(_) => {
            let message = format!("`{}` has no factor; take it out", action.name());
            Err(Problem::new(factor_key, message))
        }
    }
}

/// What has become of a backend's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Running,
    Stopped,
    Draining,
    Killed,
}

impl State {
    /// What it is after an action that makes sense then; `None` where it makes none.
    fn after(self, action: FaultAction) -> Option<Self> {
        match (action, self) {
            (FaultAction::Stop, Self::Running) => Some(Self::Stopped),
            (FaultAction::Continue, Self::Stopped) => Some(Self::Running),
            (FaultAction::Kill, Self::Running | Self::Stopped | Self::Draining) => {
                Some(Self::Killed)
            }
            (FaultAction::Drain, Self::Running) => Some(Self::Draining),
            (FaultAction::Start, Self::Draining | Self::Killed) => Some(Self::Running),
            (FaultAction::SlowDown { .. } | FaultAction::SpeedUp { .. }, Self::Running) => {
                Some(self)
            }
            // Balancers may list one that is down: that is what some scenarios ask about.
            (FaultAction::Add | FaultAction::Remove, _) => Some(self),
            _ => None,
        }
    }

    /// How one is, and what can be done about it.
    fn words(self) -> &'static str {
        match self {
            Self::Running => "runs at that time",
            Self::Stopped => "is stopped at that time; `continue` it first",
            Self::Draining => "has been told to drain by then; `start` it first",
            Self::Killed => "was killed before; `start` it first",
        }
    }
}

/// Each action has to find its backend in a state in which it does something.
fn check_states(faults: &[(String, Fault)], backends: usize) -> Result<(), Problem> {
    let mut states = vec![State::Running; backends];
    for (key, fault) in faults {
        let state = &mut states[fault.backend as usize];
        let Some(after) = state.after(fault.action) else {
            let (action, backend, words) = (fault.action.name(), fault.backend, state.words());
            let message = format!("`{action}` makes no sense here: backend {backend} {words}");
            return Err(Problem::new(format!("{key}.action"), message));
        };
        *state = after;
    }
    Ok(())
}

/// Factors multiply, and what comes out has to stay within bounds as well.
fn check_speeds(faults: &[(String, Fault)], backends: &[Backend]) -> Result<(), Problem> {
    let mut speeds: Vec<f64> = backends.iter().map(|backend| backend.speed).collect();
    for (key, fault) in faults {
        let index = fault.backend as usize;
        speeds[index] = fault.action.speed_after(speeds[index], backends[index].speed);
        within(&format!("{key}.factor"), speeds[index], bounds::SPEED, "a speed in the end")?;
    }
    Ok(())
}

/// A backend that joins is not there yet, one that goes is, and one is left.
fn check_members(faults: &[(String, Fault)], backends: usize) -> Result<(), Problem> {
    let changes = || faults.iter().filter(|(_, fault)| fault.action.is_membership());
    let mut members = first_members(faults.iter().map(|(_, fault)| fault), backends);
    let problem = |key: &str, message: String| Err(Problem::new(format!("{key}.action"), message));
    if let (false, Some((key, _))) = (members.contains(&true), changes().next()) {
        let message = "every backend joins later, which leaves none at the start".to_owned();
        return problem(key, message);
    }
    for (key, fault) in changes() {
        let index = fault.backend as usize;
        let joins = fault.action == FaultAction::Add;
        if members[index] == joins {
            let state = if joins { "there already" } else { "not there" };
            return problem(key, format!("backend {index} is {state} at that time"));
        }
        members[index] = joins;
        if !members.contains(&true) {
            return problem(key, "this would leave no backend; add another one first".to_owned());
        }
    }
    Ok(())
}

/// Which backends balancers know from the start: all but those whose first change
/// of membership is that they join. `faults` are in order of time.
pub(crate) fn first_members<'a>(
    faults: impl Iterator<Item = &'a Fault>,
    backends: usize,
) -> Vec<bool> {
    let mut firsts: Vec<Option<FaultAction>> = vec![None; backends];
    for fault in faults.filter(|fault| fault.action.is_membership()) {
        firsts[fault.backend as usize].get_or_insert(fault.action);
    }
    firsts.into_iter().map(|first| first != Some(FaultAction::Add)).collect()
}
