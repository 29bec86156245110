//! One agent as the coordinator sees it.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use measure::calllog::CallLog;
use tokio::{sync::mpsc as queue, time::MissedTickBehavior};
use tonic::{Status, Streaming};

use crate::{
    AGENT_LOST_AFTER, Now, PING_EVERY, calls,
    offset::{self, Exchange, Offset},
    wire::{
        Bye, Calls, FromAgent, Hello, Over, Ping, Pong, Reply, Step, Stop, ToAgent, from_agent,
        reply, step, to_agent,
    },
};

/// Exchanges by which clocks are compared before and after a trial.
const BURST: usize = 16;
/// How long they may take together.
const BURST_TIMEOUT: Duration = Duration::from_millis(500);
/// How often a reply is looked for while something else is looked at too.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Exchanges that are kept.
const KEPT: usize = 4_096;

/// An agent that has joined. Dropping it ends the agent.
#[derive(Debug)]
pub struct Node {
    /// What it is called: its place among the nodes, and its host.
    name: String,
    inbox: Arc<Inbox>,
    replies: mpsc::Receiver<reply::What>,
}

/// What an agent has sent, and the way to it.
#[derive(Debug)]
pub(crate) struct Inbox {
    hello: Hello,
    to_agent: queue::Sender<Result<ToAgent, Status>>,
    replies: mpsc::Sender<reply::What>,
    /// Whether a step waits for its reply.
    is_asked: AtomicBool,
    ended: AtomicU64,
    failed: AtomicU64,
    is_finished: AtomicBool,
    exchanges: Mutex<Vec<Exchange>>,
    logs: Mutex<Logs>,
    lost: Mutex<Option<String>>,
}

/// The call logs that an agent ships: as many calls as it has said, and no more.
#[derive(Debug, Default)]
struct Logs {
    expected: Vec<u64>,
    logs: Vec<CallLog>,
}

/// An agent that is gone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{node} is lost: {reason}")]
pub struct Lost {
    /// Its name.
    pub node: String,
    /// What shows that.
    pub reason: String,
}

/// How far a node is with its part of a trial.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Calls that ended.
    pub ended: u64,
    /// Those of them that failed.
    pub failed: u64,
    /// Whether it makes no more load.
    pub is_finished: bool,
}

impl Node {
    pub(crate) fn new(
        hello: Hello,
        to_agent: queue::Sender<Result<ToAgent, Status>>,
    ) -> (Self, Arc<Inbox>) {
        let (sender, replies) = mpsc::channel();
        let inbox = Arc::new(Inbox {
            hello,
            to_agent,
            replies: sender,
            is_asked: AtomicBool::new(false),
            ended: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            is_finished: AtomicBool::new(false),
            exchanges: Mutex::default(),
            logs: Mutex::default(),
            lost: Mutex::default(),
        });
        (Self { name: inbox.hello.host.clone(), inbox: Arc::clone(&inbox), replies }, inbox)
    }

    /// Who it is.
    pub fn hello(&self) -> &Hello {
        &self.inbox.hello
    }

    /// What it is called: `n1 (host)`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Gives it its place among the nodes.
    pub(super) fn number(&mut self, number: usize) {
        self.name = format!("n{number} ({})", self.hello().host);
    }

    /// This node as one that is lost.
    pub fn lost(&self, reason: impl Into<String>) -> Lost {
        Lost { node: self.name.clone(), reason: reason.into() }
    }

    /// Has the agent take a step; [`Node::reply`] says what came of it.
    pub fn ask(&self, step: step::What) {
        self.inbox.is_asked.store(true, Ordering::Relaxed);
        self.tell(to_agent::What::Step(Step { what: Some(step) }));
    }

    /// What came of the step, once there is an answer.
    ///
    /// # Errors
    /// When the agent is lost.
    pub fn reply(&self) -> Result<Option<reply::What>, Lost> {
        match self.replies.recv_timeout(LOOK_EVERY) {
            Ok(reply) => Ok(Some(reply)),
            Err(_) => self.check().map(|()| None),
        }
    }

    /// What came of the step, where the answer is there already.
    pub fn try_reply(&self) -> Option<reply::What> {
        self.replies.try_recv().ok()
    }

    /// Whether it is still there.
    ///
    /// # Errors
    /// When it is lost.
    pub fn check(&self) -> Result<(), Lost> {
        let reason = locked(&self.inbox.lost).clone();
        reason.map_or(Ok(()), |reason| Err(self.lost(reason)))
    }

    /// Makes ready for a trial.
    pub fn begin(&self) {
        self.inbox.ended.store(0, Ordering::Relaxed);
        self.inbox.failed.store(0, Ordering::Relaxed);
        self.inbox.is_finished.store(false, Ordering::Relaxed);
        *locked(&self.inbox.logs) = Logs::default();
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        Progress {
            ended: self.inbox.ended.load(Ordering::Relaxed),
            failed: self.inbox.failed.load(Ordering::Relaxed),
            is_finished: self.inbox.is_finished.load(Ordering::Relaxed),
        }
    }

    /// Lets the trial end here: no node makes any more load.
    pub fn over(&self) {
        self.tell(to_agent::What::Over(Over {}));
    }

    /// Gives the trial up.
    pub fn stop(&self) {
        self.tell(to_agent::What::Stop(Stop {}));
    }

    /// Compares the clocks; `None` where no answer came in time.
    ///
    /// # Errors
    /// When the agent is lost.
    pub fn offset(&self, now: Now) -> Result<Option<Offset>, Lost> {
        locked(&self.inbox.exchanges).clear();
        let deadline = Instant::now() + BURST_TIMEOUT;
        for count in 0..BURST {
            self.inbox.ping(now());
            while locked(&self.inbox.exchanges).len() <= count && Instant::now() < deadline {
                std::thread::sleep(Duration::from_micros(100));
            }
            self.check()?;
        }
        Ok(offset::best(&self.inbox.exchanges()))
    }

    /// Lets the agent ship logs with so many calls, one for each of its logs.
    pub fn expect(&self, calls: &[u64]) {
        let logs = vec![CallLog::default(); calls.len()];
        *locked(&self.inbox.logs) = Logs { expected: calls.to_vec(), logs };
    }

    /// The logs that it has shipped; `None` where calls are missing.
    pub fn take_logs(&self) -> Option<Vec<CallLog>> {
        let Logs { expected, logs } = std::mem::take(&mut *locked(&self.inbox.logs));
        let is_whole = logs
            .iter()
            .zip(&expected)
            .all(|(log, &expected)| log.entries().len() as u64 == expected);
        is_whole.then_some(logs)
    }

    fn tell(&self, what: to_agent::What) {
        // An agent that takes nothing any more is found lost by the pings.
        let _ = self.inbox.to_agent.try_send(Ok(ToAgent { what: Some(what) }));
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.tell(to_agent::What::Bye(Bye {}));
    }
}

impl Inbox {
    fn ping(&self, sent_ns: u64) {
        let what = Some(to_agent::What::Ping(Ping { sent_ns }));
        let _ = self.to_agent.try_send(Ok(ToAgent { what }));
    }

    fn pong(&self, pong: &Pong, returned_ns: u64) {
        let Pong { sent_ns, received_ns, answered_ns, .. } = *pong;
        self.ended.store(pong.ended, Ordering::Relaxed);
        self.failed.store(pong.failed, Ordering::Relaxed);
        self.is_finished.store(pong.is_finished, Ordering::Relaxed);
        let mut exchanges = locked(&self.exchanges);
        if exchanges.len() < KEPT {
            exchanges.push(Exchange { sent_ns, received_ns, answered_ns, returned_ns });
        }
    }

    fn calls(&self, piece: &Calls) -> Result<(), String> {
        let mut logs = locked(&self.logs);
        let Logs { expected, logs } = &mut *logs;
        let number = piece.log as usize;
        let (Some(log), Some(&expected)) = (logs.get_mut(number), expected.get(number)) else {
            return Err("it sent calls that nobody asked for".to_owned());
        };
        let count = log.entries().len() + piece.due.len();
        if count as u64 > expected {
            return Err("it sent more calls than it had said".to_owned());
        }
        calls::append(log, piece).map_err(|error| format!("it sent {error}"))
    }

    /// Takes in a message.
    pub(crate) fn take(&self, message: FromAgent, now_ns: u64) -> Result<(), String> {
        match message.what {
            Some(from_agent::What::Pong(pong)) => {
                self.pong(&pong, now_ns);
                Ok(())
            }
            Some(from_agent::What::Calls(piece)) => self.calls(&piece),
            Some(from_agent::What::Reply(Reply { what: Some(what) }))
                if self.is_asked.swap(false, Ordering::Relaxed) =>
            {
                // The lab may have let go of the node.
                let _ = self.replies.send(what);
                Ok(())
            }
            _ => Err("it sent a message that has no place there".to_owned()),
        }
    }

    /// Calls that are kept.
    pub(crate) fn kept_calls(&self) -> u64 {
        locked(&self.logs).logs.iter().map(|log| log.entries().len() as u64).sum()
    }

    /// What was heard of its clock.
    pub(crate) fn exchanges(&self) -> Vec<Exchange> {
        locked(&self.exchanges).clone()
    }

    fn lose(&self, reason: String) {
        locked(&self.lost).get_or_insert(reason);
    }
}

/// Reads what an agent sends and asks whether it is there, until it is not.
pub(super) async fn serve(inbox: Arc<Inbox>, mut incoming: Streaming<FromAgent>, now: Now) {
    let mut ticks = tokio::time::interval(PING_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut heard = Instant::now();
    loop {
        tokio::select! {
            message = incoming.message() => {
                heard = Instant::now();
                let now_ns = now();
                let taken = match message {
                    Ok(Some(message)) => inbox.take(message, now_ns),
                    Ok(None) => Err("its connection ended".to_owned()),
                    Err(status) => Err(format!("its connection broke: {}", status.message())),
                };
                if let Err(reason) = taken {
                    return inbox.lose(reason);
                }
            }
            _ = ticks.tick() => {
                if heard.elapsed() > AGENT_LOST_AFTER {
                    let seconds = AGENT_LOST_AFTER.as_secs();
                    return inbox.lose(format!("nothing was heard of it for {seconds} s"));
                }
                inbox.ping(now());
            }
        }
    }
}

/// What a panic elsewhere left behind is whole: nothing here panics while it writes.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use measure::calllog::{Entry, Outcome};

    use super::*;
    use crate::wire::Done;

    fn node() -> (Node, Arc<Inbox>) {
        let (to_agent, _) = queue::channel(4);
        Node::new(Hello { host: "n1".into(), ..Hello::default() }, to_agent)
    }

    fn message(what: from_agent::What) -> FromAgent {
        FromAgent { what: Some(what) }
    }

    fn done() -> FromAgent {
        let what = Some(reply::What::Done(Done {}));
        message(from_agent::What::Reply(Reply { what }))
    }

    #[test]
    fn a_reply_that_nobody_asked_for_is_refused() {
        let (node, inbox) = node();
        assert!(inbox.take(done(), 0).is_err());
        inbox.is_asked.store(true, Ordering::Relaxed);
        inbox.take(done(), 0).unwrap();
        assert!(matches!(node.reply(), Ok(Some(reply::What::Done(_)))));
        assert!(inbox.take(done(), 0).is_err(), "a second reply");
        assert!(inbox.take(FromAgent { what: None }, 0).is_err());
        assert!(inbox.take(message(from_agent::What::Hello(Hello::default())), 0).is_err());
    }

    #[test]
    fn an_agent_ships_what_it_has_said_and_no_more() {
        let (node, inbox) = node();
        let mut log = CallLog::default();
        let outcome = Outcome::served(0, 1, 2);
        let (due_ns, ready_ns, sent_ns, done_ns) = (1, 2, 3, 4);
        log.push(Entry { due_ns, ready_ns, sent_ns, done_ns, on_wire: None, outcome });
        let piece = calls::pieces(1, &log).next().unwrap();
        let ship = || inbox.take(message(from_agent::What::Calls(piece.clone())), 0);
        assert!(ship().is_err(), "nobody asked");
        node.expect(&[0, 1]);
        assert_eq!(node.take_logs().map(|logs| logs.len()), None, "one is missing");
        node.expect(&[0, 1]);
        ship().unwrap();
        assert!(ship().unwrap_err().contains("more calls"));
        let logs = node.take_logs().unwrap();
        assert_eq!(logs[1].entries(), log.entries());
        assert!(logs[0].entries().is_empty());
    }

    #[test]
    fn a_lost_agent_is_named_with_what_shows_it() {
        let (node, inbox) = node();
        assert_eq!(node.check(), Ok(()));
        inbox.lose("its connection ended".into());
        inbox.lose("later".into());
        assert_eq!(node.reply().unwrap_err().to_string(), "n1 is lost: its connection ended");
    }
}
