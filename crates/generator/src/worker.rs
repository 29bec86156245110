//! One generator thread: its connections, its share of the load, its call log.
//!
//! A worker runs on a single-threaded runtime, so a call starts, ends and is
//! recorded without a lock. It sleeps on the alarm until the next call is due,
//! and sends whatever is due whenever it is awake: after the alarm, and after
//! each call that ended.

use std::{
    cell::{Cell, RefCell},
    io,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use measure::calllog::{self, CallLog, Entry, Outcome};
use tokio::sync::Notify;

use super::{
    client::{
        self, ConnectError, ConnectOptions, Connection, Destination, Driver, DriverPlan, Ended,
        OnWire, Shape, Sink,
    },
    clock::{Alarm, Clock, Pacer},
    load::Load,
    members::Members,
    slots::{Call, Slots, Waited},
};

/// Most calls sent between two looks at the sockets, so that a generator that
/// is behind still reads responses.
const BURST: usize = 32;
/// How often a worker that waits for something else looks at the stop flag.
const STOP_POLL_NS: u64 = 20_000_000;

/// Moves the calling thread: to its CPUs, into a network namespace.
pub type Place = Arc<dyn Fn() -> io::Result<()> + Send + Sync>;

/// Who makes the calls of one worker.
pub enum Clients {
    /// Connections of the lab's own, and where each goes.
    Own(ConnectOptions, Vec<Destination>),
    /// A program with so many clients.
    Driven(DriverPlan, usize),
}

impl Clients {
    fn count(&self) -> usize {
        match self {
            Self::Own(_, destinations) => destinations.len(),
            Self::Driven(_, count) => *count,
        }
    }
}

/// Where calls come from, and through; all zero where there is one balancer, or none, and no
/// zone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    /// The balancer that they come to, by its number.
    pub balancer: u16,
    /// The zone of their client, by its number.
    pub zone: u16,
}

/// What one worker has to do.
pub struct Plan {
    /// Who makes the calls.
    pub clients: Clients,
    /// What a call is.
    pub shape: Shape,
    /// Numbers that the messages of a call take.
    pub messages: u64,
    /// Where the calls of each client come from, and through.
    pub origins: Vec<Origin>,
    /// The network devices that connections leave by, by the zones of their clients; empty
    /// where they may leave by any.
    pub devices: Vec<Arc<str>>,
    /// Most calls at once on a connection.
    pub streams: u32,
    /// When calls are due.
    pub load: Load,
    /// When calls that are still out are given up, after the trial's start.
    pub give_up_ns: u64,
    /// Calls to set memory aside for.
    pub expected_calls: usize,
    /// Puts the calling thread where it is to run and its connections are to be made.
    pub place: Place,
    /// How it waits for the next call to be due.
    pub pacer: Pacer,
}

/// What the workers of a trial share with the thread that watches them.
#[derive(Debug)]
pub struct Shared {
    /// Calls that ended, for the progress line.
    pub ended: AtomicU64,
    /// Those of them that failed.
    pub failed: AtomicU64,
    /// Calls of the measured window begun in a closed loop.
    pub begun: AtomicU64,
    /// Set to end the trial early.
    pub stop: AtomicBool,
    /// The backends there are, for clients that connect to them.
    pub members: Members,
}

impl Shared {
    /// For so many threads.
    pub fn new(workers: usize) -> Self {
        Self {
            ended: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            begun: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            members: Members::new(workers),
        }
    }

    /// Calls that ended so far, over all workers.
    pub fn ended(&self) -> u64 {
        self.ended.load(Ordering::Relaxed)
    }

    /// Those of them that failed.
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }
}

/// The worker. Everything happens on its thread; the cells are for the calls'
/// tasks, which report back while the main loop sleeps. No borrow is held
/// across a call into a connection or the sink.
pub struct Worker {
    index: usize,
    clock: Cell<Clock>,
    slots: RefCell<Slots>,
    streams: u32,
    under_way: RefCell<Vec<Option<UnderWay>>>,
    /// One for each origin of calls.
    logs: RefCell<Vec<CallLog>>,
    /// Which of them each client's calls go to.
    log_of: Vec<usize>,
    connections: RefCell<Vec<Box<dyn Connection>>>,
    load: RefCell<Load>,
    give_up_ns: u64,
    pacer: Pacer,
    shared: Arc<Shared>,
    /// The version of the list of backends that the connections know.
    members_version: Cell<u64>,
    messages: u64,
    /// Told when the last call under way ended.
    idle: Notify,
}

#[derive(Clone, Copy, Debug)]
struct UnderWay {
    waited: Waited,
    sent_ns: u64,
}

impl UnderWay {
    fn ended(self, done_ns: u64, on_wire: Option<calllog::OnWire>, outcome: Outcome) -> Entry {
        let Waited { due_ns, ready_ns, .. } = self.waited;
        Entry { due_ns, ready_ns, sent_ns: self.sent_ns, done_ns, on_wire, outcome }
    }
}

impl Worker {
    /// Makes the worker and its connections. Must run inside a `LocalSet`.
    pub async fn connect(
        index: usize,
        plan: Plan,
        shared: Arc<Shared>,
    ) -> Result<Rc<Self>, ConnectError> {
        let count = plan.clients.count();
        let mut origins = plan.origins.clone();
        // What never went out is counted in the first log, and so there is one.
        origins.extend(origins.is_empty().then(Origin::default));
        origins.sort_unstable();
        origins.dedup();
        let expected = plan.expected_calls / origins.len();
        let log = |origin: &Origin| {
            let log = CallLog::with_capacity(expected);
            log.of_balancer(origin.balancer).of_zone(origin.zone)
        };
        let log_of = |origin| origins.binary_search(origin).unwrap_or(0);
        let worker = Rc::new(Self {
            index,
            clock: Cell::new(Clock::starting_at(u64::MAX)),
            slots: RefCell::new(Slots::new(count, plan.streams)),
            streams: plan.streams,
            under_way: RefCell::new(vec![None; count * plan.streams as usize]),
            log_of: plan.origins.iter().map(log_of).collect(),
            logs: RefCell::new(origins.iter().map(log).collect()),
            connections: RefCell::new(Vec::with_capacity(count)),
            load: RefCell::new(plan.load),
            give_up_ns: plan.give_up_ns,
            pacer: plan.pacer,
            shared,
            members_version: Cell::new(0),
            messages: plan.messages,
            idle: Notify::new(),
        });
        let shape = Rc::new(plan.shape);
        worker.make_connections(plan.clients, &shape, &plan.origins, &plan.devices).await?;
        Ok(worker)
    }

    /// One after the other, so that a balancer that deals connections in turn sees them in order.
    async fn make_connections(
        self: &Rc<Self>,
        clients: Clients,
        shape: &Rc<Shape>,
        origins: &[Origin],
        devices: &[Arc<str>],
    ) -> Result<(), ConnectError> {
        let sink = Rc::clone(self) as Rc<dyn Sink>;
        match (clients, &**shape) {
            (Clients::Own(options, destinations), _) => {
                for (number, destination) in destinations.into_iter().enumerate() {
                    let zone = origins.get(number).map_or(0, |origin| origin.zone);
                    let device = devices.get(usize::from(zone)).cloned();
                    let options = ConnectOptions { device, ..options.of_number(number as u64) };
                    let (shape, sink) = (Rc::clone(shape), Rc::clone(&sink));
                    let connection = client::connect(options, destination, shape, sink).await?;
                    self.connections.borrow_mut().push(connection);
                }
            }
            (Clients::Driven(driver, count), Shape::Echo(shape)) => {
                let driver = Driver::start(driver, Arc::clone(shape), sink).await?;
                let clients = (0..).take(count).map(|number| driver.client(number));
                self.connections.borrow_mut().extend(clients);
            }
            // The scenario's check has refused it.
            (Clients::Driven(..), Shape::Service(_)) => {
                return Err(ConnectError::own("real clients call the echo service only"));
            }
        }
        Ok(())
    }

    /// Makes the load, starting at the clock's zero, and returns the logs of all
    /// calls. Ends when every call has, at the time to give up, or when told to.
    pub async fn drive(self: Rc<Self>, clock: Clock) -> std::io::Result<Vec<CallLog>> {
        self.clock.set(clock);
        let alarm = Alarm::new(clock, self.pacer)?;
        // Nothing is sent before its time, not even what is due at zero.
        alarm.at(0).await?;
        loop {
            self.apply_members();
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
    fn apply_members(&self) {
        let members = &self.shared.members;
        let Some((version, list)) = members.news(self.members_version.get()) else { return };
        self.members_version.set(version);
        for connection in self.connections.borrow().iter() {
            connection.set_members(&list);
        }
        members.acknowledge(self.index, version);
    }

    /// Sends what is due; true when a burst's worth was sent and more may be.
    fn send_due(&self) -> bool {
        for _ in 0..BURST {
            let now_ns = self.clock.get().now_ns();
            let arrival = self.load.borrow_mut().take_due(now_ns, &self.shared.begun);
            let Some(arrival) = arrival else { return false };
            let start = self.slots.borrow_mut().arrive(arrival);
            if let Some((call, waited)) = start {
                self.send(call, waited, now_ns);
            }
        }
        true
    }

    fn send(&self, call: Call, waited: Waited, now_ns: u64) {
        let place = self.place(call);
        self.under_way.borrow_mut()[place] = Some(UnderWay { waited, sent_ns: now_ns });
        let sequence = waited.number.wrapping_mul(self.messages);
        self.connections.borrow()[call.connection as usize].start(call, sequence);
    }

    fn place(&self, call: Call) -> usize {
        call.connection as usize * self.streams as usize + call.slot as usize
    }

    fn log(&self, connection: usize, entry: Entry) {
        self.logs.borrow_mut()[self.log_of[connection]].push(entry);
    }

    /// Lets go of the connections and writes down what never ended.
    fn close(&self) -> Vec<CallLog> {
        let now_ns = self.clock.get().now_ns();
        // The clients hold the sink, which is this worker: without this the two
        // would keep each other alive.
        self.connections.borrow_mut().clear();
        let streams = self.streams as usize;
        for (place, under_way) in self.under_way.borrow_mut().iter_mut().enumerate() {
            let Some(under_way) = under_way.take() else { continue };
            self.log(place / streams, under_way.ended(now_ns, None, Outcome::Unfinished));
        }
        let mut logs = self.logs.take();
        // They went through no balancer.
        let mut not_sent = |due_ns, ready_ns| {
            let outcome = Outcome::NotSent;
            let (sent_ns, done_ns) = (now_ns, now_ns);
            logs[0].push(Entry { due_ns, ready_ns, sent_ns, done_ns, on_wire: None, outcome });
        };
        for due_ns in self.slots.borrow_mut().take_waiting() {
            not_sent(due_ns, now_ns);
        }
        // What the generator never got to was due all the same.
        let mut load = self.load.borrow_mut();
        while let Some(arrival) = load.take_due(now_ns, &self.shared.begun) {
            not_sent(arrival.due_ns, arrival.due_ns);
        }
        logs
    }
}

impl Sink for Worker {
    fn ended(&self, call: Call, ended: Ended, on_wire: Option<OnWire>) {
        let clock = self.clock.get();
        let now_ns = clock.now_ns();
        let place = self.place(call);
        // After `close` a client may still report; then nobody listens.
        let Some(under_way) = self.under_way.borrow_mut()[place].take() else { return };
        let on_wire = on_wire.and_then(|seen| {
            calllog::OnWire::new(clock.at_ns(seen.written_ns), clock.at_ns(seen.arrived_ns))
        });
        self.log(call.connection as usize, under_way.ended(now_ns, on_wire, outcome(ended)));
        let failed = u64::from(matches!(ended, Ended::Failed(_)));
        self.shared.failed.fetch_add(failed, Ordering::Relaxed);
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

#[cfg(test)]
mod tests {
    use scenario::CallKind;
    use testkit::lab::EchoBackend;
    use tokio::task::LocalSet;

    use super::*;
    use crate::{
        client::{Backends, CallShape, ClientKind, Lengths, Resolver},
        clock::monotonic_ns,
        load::{Closed, Numbers, Open},
        rate::RateCurve,
        schedule::{Limit, Process, Schedule},
    };

    const SECOND: u64 = 1_000_000_000;

    /// One connection with four streams.
    fn plan(backend: &EchoBackend, load: Load) -> Plan {
        Plan {
            clients: Clients::Own(
                ConnectOptions::plain(ClientKind::Wire),
                vec![Destination::One(Resolver::one(backend.addr()))],
            ),
            shape: Shape::Echo(Arc::new(CallShape {
                kind: CallKind::Unary,
                messages: 1,
                payload: Vec::new(),
                requests: Lengths::Constant(0),
                responses: Lengths::Constant(0),
                deadline: None,
                backends: Backends::Known(vec!["b0".into()]),
            })),
            messages: 1,
            origins: vec![Origin::default()],
            devices: Vec::new(),
            streams: 4,
            load,
            give_up_ns: 6 * SECOND,
            expected_calls: 1_000,
            place: Arc::new(|| Ok(())),
            pacer: Pacer::Timer,
        }
    }

    /// The log of a worker whose trial began some time ago, as that of a process
    /// which was stopped meanwhile.
    async fn log_after(elapsed_ns: u64, load: Load, is_stopped: bool) -> CallLog {
        let backend = EchoBackend::start("b0");
        let work = async {
            let shared = Arc::new(Shared::new(1));
            shared.stop.store(is_stopped, Ordering::Relaxed);
            let worker = Worker::connect(0, plan(&backend, load), shared).await.unwrap();
            worker.drive(Clock::starting_at(monotonic_ns() - elapsed_ns)).await.unwrap()
        };
        LocalSet::new().run_until(work).await.remove(0)
    }

    fn open(end_ns: u64) -> Load {
        let (process, rate) = (Process::Constant, RateCurve::flat(1_000.0));
        Load::Open(Open::new(Schedule::new(process, rate, 1, 0, Limit::Until { end_ns }, 1), 0, 1))
    }

    #[tokio::test]
    async fn what_was_due_is_counted_though_it_never_went_out() {
        let log = log_after(12 * SECOND, open(SECOND), false).await;
        let due: Vec<u64> = log.entries().iter().map(|entry| entry.due_ns / 1_000_000).collect();
        let mut in_order = due.clone();
        in_order.sort_unstable();
        assert_eq!(in_order, (0..1_000).collect::<Vec<_>>());
        let never = log.entries().iter().filter(|entry| entry.outcome == Outcome::NotSent);
        assert!(never.count() >= 1_000 - BURST);
        // In a closed loop each slot owes the one call that it was about to make.
        let limit = Limit::Until { end_ns: SECOND };
        let closed = Load::Closed(Closed::new(1, 4, 0, 0, limit, Numbers { next: 0, step: 1 }, 1));
        assert_eq!(log_after(12 * SECOND, closed, false).await.entries().len(), 4);
    }

    #[tokio::test]
    async fn what_was_not_due_when_it_was_cut_short_is_not_counted() {
        let log = log_after(SECOND / 2, open(3_600 * SECOND), true).await;
        let given_up_ns = log.entries().iter().map(|entry| entry.done_ns).max().unwrap();
        assert!(log.entries().iter().all(|entry| entry.due_ns <= given_up_ns));
        assert_eq!(log.entries().len() as u64, given_up_ns / 1_000_000 + 1);
    }
}
