//! One generator thread: its connections, its share of the load, its call log.
//!
//! A worker runs on a single-threaded runtime, so a call starts, ends and is
//! recorded without a lock. It sleeps on the alarm until the next call is due,
//! and sends whatever is due whenever it is awake: after the alarm, and after
//! each call that ended.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use measure::calllog::{CallLog, Entry, Outcome};
use tokio::sync::Notify;

use super::{
    client::{self, CallShape, Connection, Destination, Ended, Manner, Sink},
    clock::{Alarm, Clock, Pacer},
    load::Load,
    members::Members,
    slots::{Call, Slots, Waited},
};
use crate::lab::network::Namespace;

/// Most calls sent between two looks at the sockets, so that a generator that
/// is behind still reads responses.
const BURST: usize = 32;
/// How often a worker that waits for something else looks at the stop flag.
const STOP_POLL_NS: u64 = 20_000_000;

/// What one worker has to do.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) client: Manner,
    pub(crate) shape: CallShape,
    /// Where each of its connections goes.
    pub(crate) destinations: Vec<Destination>,
    pub(crate) streams: u32,
    pub(crate) load: Load,
    /// When calls that are still out are given up, after the trial's start.
    pub(crate) give_up_ns: u64,
    /// Calls to set memory aside for.
    pub(crate) expected_calls: usize,
    /// CPUs the thread may run on; empty for any.
    pub(crate) cpus: Vec<u32>,
    /// Network namespace its connections are made in; `None` for the lab's own.
    pub(crate) namespace: Option<Arc<Namespace>>,
    /// How it waits for the next call to be due.
    pub(crate) pacer: Pacer,
}

/// What the workers of a trial share with the thread that watches them.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Calls that ended, for the progress line.
    pub(crate) ended: AtomicU64,
    /// Calls of the measured window begun in a closed loop.
    pub(crate) begun: AtomicU64,
    /// Set to end the trial early.
    pub(crate) stop: AtomicBool,
    /// The backends there are, for clients that connect to them.
    pub(crate) members: Members,
}

impl Shared {
    pub(crate) fn new(workers: usize) -> Self {
        Self {
            ended: AtomicU64::new(0),
            begun: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            members: Members::new(workers),
        }
    }

    /// Calls that ended so far, over all workers.
    pub(crate) fn ended(&self) -> u64 {
        self.ended.load(Ordering::Relaxed)
    }
}

/// The worker. Everything happens on its thread; the cells are for the calls'
/// tasks, which report back while the main loop sleeps. No borrow is held
/// across a call into a connection or the sink.
pub(crate) struct Worker {
    index: usize,
    clock: Cell<Clock>,
    slots: RefCell<Slots>,
    streams: u32,
    under_way: RefCell<Vec<Option<UnderWay>>>,
    log: RefCell<CallLog>,
    connections: RefCell<Vec<Box<dyn Connection>>>,
    load: RefCell<Load>,
    give_up_ns: u64,
    pacer: Pacer,
    shared: Arc<Shared>,
    /// The version of the list of backends that the connections know.
    members_version: Cell<u64>,
    sequence: Cell<u64>,
    /// Messages a call takes, and so sequence numbers.
    sequence_step: u64,
    /// Told when the last call under way ended.
    idle: Notify,
}

#[derive(Clone, Copy, Debug)]
struct UnderWay {
    waited: Waited,
    sent_ns: u64,
}

impl Worker {
    /// Makes the worker and its connections, one after the other, so that a
    /// balancer that deals connections in turn sees them in order. Must run
    /// inside a `LocalSet`.
    pub(crate) async fn connect(
        index: usize,
        plan: Plan,
        shared: Arc<Shared>,
    ) -> Result<Rc<Self>, String> {
        let shape = Rc::new(plan.shape);
        let worker = Rc::new(Self {
            index,
            clock: Cell::new(Clock::starting_at(u64::MAX)),
            slots: RefCell::new(Slots::new(plan.destinations.len(), plan.streams)),
            streams: plan.streams,
            under_way: RefCell::new(vec![None; plan.destinations.len() * plan.streams as usize]),
            log: RefCell::new(CallLog::with_capacity(plan.expected_calls)),
            connections: RefCell::new(Vec::with_capacity(plan.destinations.len())),
            load: RefCell::new(plan.load),
            give_up_ns: plan.give_up_ns,
            pacer: plan.pacer,
            shared,
            members_version: Cell::new(0),
            sequence: Cell::new(0),
            sequence_step: u64::from(shape.messages),
            idle: Notify::new(),
        });
        for destination in plan.destinations {
            let sink = Rc::clone(&worker) as Rc<dyn Sink>;
            let connection =
                client::connect(plan.client.clone(), destination, Rc::clone(&shape), sink).await?;
            worker.connections.borrow_mut().push(connection);
        }
        Ok(worker)
    }

    /// Makes the load, starting at the clock's zero, and returns the log of all
    /// calls. Ends when every call has, at the time to give up, or when told to.
    pub(crate) async fn drive(self: Rc<Self>, clock: Clock) -> std::io::Result<CallLog> {
        self.clock.set(clock);
        let alarm = Alarm::new(clock, self.pacer)?;
        loop {
            self.heed_members();
            let more_due = self.send_due();
            let now_ns = clock.now_ns();
            if now_ns >= self.give_up_ns || self.shared.stop.load(Ordering::Relaxed) {
                break;
            }
            if more_due {
                tokio::task::yield_now().await;
                continue;
            }
            let next_due_ns = self.load.borrow_mut().next_due_ns();
            if next_due_ns.is_none() && self.slots.borrow().is_idle() {
                break;
            }
            let wake_ns = next_due_ns
                .unwrap_or(self.give_up_ns)
                .min(self.give_up_ns)
                .min(now_ns + STOP_POLL_NS);
            tokio::select! {
                result = alarm.at(wake_ns) => result?,
                () = self.idle.notified() => {}
            }
        }
        Ok(self.close())
    }

    /// Tells the connections which backends there are, when that has changed.
    fn heed_members(&self) {
        let members = &self.shared.members;
        let Some((version, list)) = members.news(self.members_version.get()) else { return };
        self.members_version.set(version);
        for connection in self.connections.borrow().iter() {
            connection.set_members(&list);
        }
        members.heed(self.index, version);
    }

    /// Sends what is due; true when a burst's worth was sent and more may be.
    fn send_due(&self) -> bool {
        for _ in 0..BURST {
            let now_ns = self.clock.get().now_ns();
            let arrival = self.load.borrow_mut().take_due(now_ns, &self.shared.begun);
            let Some(arrival) = arrival else { return false };
            let start = self.slots.borrow_mut().arrive(arrival.connection, arrival.due_ns);
            if let Some((call, waited)) = start {
                self.send(call, waited, now_ns);
            }
        }
        true
    }

    fn send(&self, call: Call, waited: Waited, now_ns: u64) {
        let place = self.place(call);
        self.under_way.borrow_mut()[place] = Some(UnderWay { waited, sent_ns: now_ns });
        let sequence = self.sequence.get();
        self.sequence.set(sequence + self.sequence_step);
        self.connections.borrow()[call.connection as usize].start(call, sequence);
    }

    fn place(&self, call: Call) -> usize {
        call.connection as usize * self.streams as usize + call.slot as usize
    }

    /// Lets go of the connections and writes down what never ended.
    fn close(&self) -> CallLog {
        let now_ns = self.clock.get().now_ns();
        // The clients hold the sink, which is this worker: without this the two
        // would keep each other alive.
        self.connections.borrow_mut().clear();
        let mut log = self.log.replace(CallLog::with_capacity(0));
        for under_way in self.under_way.borrow_mut().iter_mut().filter_map(Option::take) {
            log.push(Entry {
                due_ns: under_way.waited.due_ns,
                ready_ns: under_way.waited.ready_ns,
                sent_ns: under_way.sent_ns,
                done_ns: now_ns,
                outcome: Outcome::Unfinished,
            });
        }
        for due_ns in self.slots.borrow_mut().take_waiting() {
            log.push(Entry {
                due_ns,
                ready_ns: now_ns,
                sent_ns: now_ns,
                done_ns: now_ns,
                outcome: Outcome::NotSent,
            });
        }
        log
    }
}

impl Sink for Worker {
    fn ended(&self, call: Call, ended: Ended) {
        let now_ns = self.clock.get().now_ns();
        let place = self.place(call);
        // After `close` a client may still report; then nobody listens.
        let Some(under_way) = self.under_way.borrow_mut()[place].take() else { return };
        self.log.borrow_mut().push(Entry {
            due_ns: under_way.waited.due_ns,
            ready_ns: under_way.waited.ready_ns,
            sent_ns: under_way.sent_ns,
            done_ns: now_ns,
            outcome: outcome(ended),
        });
        self.shared.ended.fetch_add(1, Ordering::Relaxed);
        self.load.borrow_mut().ended(call.connection, now_ns);
        let next = self.slots.borrow_mut().finish(call, now_ns);
        if let Some(waited) = next {
            self.send(call, waited, now_ns);
        }
        self.send_due();
        if self.slots.borrow().is_idle() {
            self.idle.notify_one();
        }
    }
}

fn outcome(ended: Ended) -> Outcome {
    match ended {
        Ended::Served { backend, queued_ns, service_ns } => {
            Outcome::served(backend, queued_ns, service_ns)
        }
        Ended::Failed(kind) => Outcome::Failed(kind),
    }
}
