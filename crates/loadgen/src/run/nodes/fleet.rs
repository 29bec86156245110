//! All agents of a run, led through the same steps.

use std::{thread, time::Duration};

use agents::{
    coordinator::{Coordinator, Lost, Node},
    offset::Offset,
    wire::{self, reply, step},
};
use generator::clock::monotonic_ns;
use measure::{calllog::CallLog, fold::Folded, record::Side};

use super::{
    bills::Bills,
    convert::{self, PartMeasured},
    engine::Running,
};
use crate::{
    exit::Failure,
    external::External,
    interrupt,
    run::trial::{Attempt, Measured, TrialProgress, Windows},
};

/// How often nodes are looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Agents that have joined. Nodes are let go of first, which ends them.
pub(super) struct Fleet {
    pub(super) nodes: Vec<Node>,
    running: Option<Running>,
    _coordinator: Coordinator,
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.nodes.clear();
        if let Some(running) = self.running.take() {
            running.stop();
        }
    }
}

/// Why there is nothing to record but that.
pub(super) enum Broken {
    /// A node is lost, or does not keep to the protocol.
    Lost(Lost),
    /// Something could not be started, or ended, on a node.
    Failed {
        side: Side,
        message: String,
    },
    Interrupted,
}

impl From<Lost> for Broken {
    fn from(lost: Lost) -> Self {
        Self::Lost(lost)
    }
}

impl Fleet {
    pub(super) fn new(nodes: Vec<Node>, running: Running, coordinator: Coordinator) -> Self {
        Self { nodes, running: Some(running), _coordinator: coordinator }
    }

    pub(super) fn prepare(&self, prepare: &wire::Prepare) -> Result<Vec<wire::Prepared>, Failure> {
        self.nodes.iter().for_each(|node| node.ask(step::What::Prepare(prepare.clone())));
        let answer = |node: &Node| loop {
            match node.reply().map_err(Failure::lab)? {
                Some(reply::What::Prepared(prepared)) => return Ok(prepared),
                Some(reply::What::Failed(failed)) => {
                    return Err(Failure::lab(format!("on {}: {}", node.name(), failed.message)));
                }
                Some(_) => return Err(Failure::lab(out_of_turn(node))),
                None if interrupt::interrupted() => {
                    return Err(Failure::lab("interrupted while nodes made ready"));
                }
                None => {}
            }
        };
        self.nodes.iter().map(answer).collect()
    }

    /// Has each node take a step.
    pub(super) fn ask(&self, step: impl Fn(usize) -> step::What) {
        self.nodes.iter().enumerate().for_each(|(index, node)| node.ask(step(index)));
    }

    /// Has each node take a step and waits until all have. The first that could not is what
    /// counts, once the others have answered too.
    pub(super) fn all(
        &self,
        step: impl Fn(usize) -> step::What,
    ) -> Result<Vec<reply::What>, Broken> {
        self.ask(step);
        let mut replies = Vec::with_capacity(self.nodes.len());
        let mut broken = None;
        for node in &self.nodes {
            let reply = loop {
                if let Some(reply) = node.reply()? {
                    break reply;
                }
                self.check()?;
                if interrupt::interrupted() {
                    node.stop();
                    broken.get_or_insert(Broken::Interrupted);
                }
            };
            if let reply::What::Failed(failed) = &reply {
                broken.get_or_insert(self.failed(node, failed));
            }
            replies.push(reply);
        }
        broken.map_or(Ok(replies), Err)
    }

    fn failed(&self, node: &Node, failed: &wire::Failed) -> Broken {
        let message = format!("on {}: {}", node.name(), failed.message);
        Broken::Failed { side: convert::side_of_wire(failed), message }
    }

    /// Whether all nodes are there.
    fn check(&self) -> Result<(), Lost> {
        self.nodes.iter().try_for_each(Node::check)
    }

    /// How far each node's clock is from this one.
    pub(super) fn offsets(&self) -> Result<Vec<Offset>, Broken> {
        let offset = |node: &Node| {
            let unknown = || Broken::Lost(node.lost("it did not answer when its clock was asked"));
            node.offset(monotonic_ns)?.ok_or_else(unknown)
        };
        self.nodes.iter().map(offset).collect()
    }

    /// Waits until the load was made, and for what each node measured. `bills` are read
    /// meanwhile.
    pub(super) fn watch(
        &self,
        zero_ns: u64,
        bills: &mut Bills<'_>,
        on_progress: &mut dyn FnMut(TrialProgress),
    ) -> Result<Vec<PartMeasured>, Broken> {
        let mut replies: Vec<Option<reply::What>> = self.nodes.iter().map(|_| None).collect();
        let (mut is_over, mut is_stopped) = (false, false);
        while replies.iter().any(Option::is_none) {
            for (node, reply) in self.nodes.iter().zip(&mut replies) {
                if reply.is_none() {
                    *reply = node.try_reply();
                }
            }
            self.check()?;
            let progress: Vec<_> = self.nodes.iter().map(Node::progress).collect();
            if !is_over && progress.iter().all(|one| one.is_finished) {
                is_over = true;
                self.nodes.iter().for_each(Node::over);
            }
            // A node that has something to say before that can't go on, nor can the others.
            let is_broken = !is_over && replies.iter().any(Option::is_some);
            if !is_stopped && (is_broken || interrupt::interrupted()) {
                is_stopped = true;
                self.nodes.iter().for_each(Node::stop);
            }
            let begun_ns = monotonic_ns().checked_sub(zero_ns);
            if let Some(now_ns) = begun_ns {
                bills.poll(now_ns, is_over || is_stopped);
            }
            let now_ns = begun_ns.unwrap_or(0);
            let ended = progress.iter().map(|one| one.ended).sum();
            on_progress(TrialProgress::Running { elapsed: Duration::from_nanos(now_ns), ended });
            thread::sleep(bills.until(now_ns).unwrap_or(POLL_INTERVAL).min(POLL_INTERVAL));
        }
        bills.poll(monotonic_ns().saturating_sub(zero_ns), true);
        self.parts(replies.into_iter().flatten().collect())
    }

    fn parts(&self, replies: Vec<reply::What>) -> Result<Vec<PartMeasured>, Broken> {
        let mut parts = Vec::with_capacity(replies.len());
        for (node, reply) in self.nodes.iter().zip(replies) {
            match reply {
                reply::What::Measured(measured) => {
                    let part = convert::measured_of_wire(&measured)
                        .map_err(|error| node.lost(error.to_string()))?;
                    parts.push(part);
                }
                reply::What::Failed(failed) => return Err(self.failed(node, &failed)),
                _ => return Err(Broken::Lost(out_of_turn(node))),
            }
        }
        Ok(parts)
    }

    /// The logs of all workers in their order, with one of so many calls.
    pub(super) fn ship(
        &self,
        measured: &[PartMeasured],
        every: u64,
        external: Option<&External>,
    ) -> Result<Vec<CallLog>, Broken> {
        if every > 1 && external.is_some() {
            let message = "there are more calls than are shipped, and of a target they can't be \
                           folded elsewhere; raise --ship-calls, or lower the rate";
            return Err(Broken::Failed { side: Side::Lab, message: message.to_owned() });
        }
        for (node, part) in self.nodes.iter().zip(measured) {
            let calls: Vec<u64> = part.calls.iter().map(|calls| calls.div_ceil(every)).collect();
            node.expect(&calls);
        }
        self.all(|_| step::What::Ship(wire::Ship { every }))?;
        let mut logs = Vec::new();
        for (node, part) in self.nodes.iter().zip(measured) {
            let missing = || node.lost("calls are missing from its logs");
            let own = node.take_logs().ok_or_else(missing)?.into_iter().zip(&part.balancers);
            let own: Vec<CallLog> = own.map(|(log, &balancer)| log.of_balancer(balancer)).collect();
            match external.map(External::discovered) {
                None => logs.extend(own),
                Some(seen) => logs.extend(
                    own.iter().map(|log| convert::renumbered(log, &part.backend_ids, &seen)),
                ),
            }
        }
        Ok(logs)
    }

    /// Has each node fold its own logs over the window that is found in what was shipped of
    /// them, and adds the folds up.
    pub(super) fn fold(
        &self,
        attempt: &Attempt<'_>,
        measured: &Measured,
    ) -> Result<Folded, Broken> {
        let Windows { window, spent, .. } = attempt.windows(measured);
        let fold = wire::Fold {
            spent_start_ns: spent.start_ns,
            start_ns: window.start_ns,
            end_ns: window.end_ns,
        };
        let backends = attempt.trial.scenario.backends.len();
        let mut sum: Option<Folded> = None;
        for (node, reply) in self.nodes.iter().zip(self.all(|_| step::What::Fold(fold))?) {
            let reply::What::Folded(sent) = reply else {
                return Err(Broken::Lost(out_of_turn(node)));
            };
            let part = convert::folded_of_wire(&sent, backends)
                .map_err(|error| node.lost(error.to_string()))?;
            match &mut sum {
                None => sum = Some(part),
                Some(sum) => sum.merge(&part),
            }
        }
        sum.ok_or_else(|| Broken::Failed {
            side: Side::Lab,
            message: "there is no node to fold anything".to_owned(),
        })
    }
}

/// A node that does not keep to the protocol.
pub(super) fn out_of_turn(node: &Node) -> Lost {
    node.lost("it gave an answer out of turn")
}
