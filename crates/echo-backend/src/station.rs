//! The queue at work: calls arrive from the service's tasks, a timer wakes
//! whoever is done.

use std::{
    io,
    sync::{Mutex, MutexGuard, PoisonError},
};

use rand_distr::{Distribution as _, StandardUniform};
use serve::timer::{Timer, monotonic_ns};
use tokio::sync::oneshot;

use crate::{
    config::{QueueConfig, Speed},
    queue::{Done, Queue, Ticket},
    random::{self, Random},
    service_time::ServiceTime,
};

/// What a call spent at the backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Timing {
    pub(crate) queued_ns: u64,
    pub(crate) service_ns: u64,
}

/// Why a call was not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unserved {
    #[error("the backend's queue is full")]
    Full,
    #[error("the backend is shutting down")]
    Ended,
    #[error("the backend fails a part of its calls, and this is one")]
    Failed,
}

/// One queue with its servers, shared by all connections of a backend.
#[derive(Debug)]
pub(crate) struct Station {
    service_time: ServiceTime,
    failures: f64,
    state: Mutex<State>,
    /// Absent when there is nothing to wait for.
    timer: Option<Timer>,
}

#[derive(Debug)]
struct State {
    queue: Queue<oneshot::Sender<Timing>>,
    random: Random,
    speed: Speed,
    /// What the timer is armed for; `None` when it has fired.
    armed_ns: Option<u64>,
    /// Kept for its capacity.
    done: Vec<Done<oneshot::Sender<Timing>>>,
}

impl Station {
    /// A station bound to the current runtime. `name` is mixed into the seed.
    pub(crate) fn new(config: &QueueConfig, name: &str) -> io::Result<Self> {
        let mut queue = Queue::new(config.concurrency, config.max_waiting);
        queue.set_speed(0, config.speed.factor());
        let timer = match config.service_time {
            ServiceTime::None => None,
            _ => Some(Timer::new()?),
        };
        let state = State {
            queue,
            random: random::named(config.seed, name),
            speed: config.speed,
            armed_ns: None,
            done: Vec::new(),
        };
        let (service_time, failures) = (config.service_time, config.failures);
        Ok(Self { service_time, failures, state: Mutex::new(state), timer })
    }

    /// Waits for a server and for its work. Dropped before it is done, the
    /// call leaves the queue (see [`crate::queue`]).
    pub(crate) async fn serve(&self) -> Result<Timing, Unserved> {
        if self.fails() {
            return Err(Unserved::Failed);
        }
        let Some(timer) = &self.timer else { return Ok(Timing::default()) };
        let (sender, receiver) = oneshot::channel();
        let ticket = {
            let mut state = self.lock();
            let demand_ns = self.service_time.sample(&mut state.random);
            let ticket = state
                .queue
                .arrive(monotonic_ns(), demand_ns, sender)
                .map_err(|_| Unserved::Full)?;
            state.settle(timer).map_err(|_| Unserved::Ended)?;
            ticket
        };
        let mut place = Place { station: self, ticket: Some(ticket) };
        let timing = receiver.await.map_err(|_| Unserved::Ended);
        place.ticket = None;
        timing
    }

    /// Whether the next call is one that fails. Nothing is drawn where none does, so that
    /// service times are those of any other backend with this seed.
    fn fails(&self) -> bool {
        self.failures > 0.0 && {
            let drawn: f64 = StandardUniform.sample(&mut self.lock().random);
            drawn < self.failures
        }
    }

    /// Wakes calls as they are done. Runs as long as the backend does, and
    /// ends only with an error of the timer.
    pub(crate) async fn drive(&self) -> io::Result<()> {
        let Some(timer) = &self.timer else { return std::future::pending().await };
        loop {
            timer.fired().await?;
            let mut state = self.lock();
            state.armed_ns = None;
            state.settle(timer)?;
        }
    }

    /// Changes how fast the servers work, from the next call they take on.
    pub(crate) fn set_speed(&self, speed: Speed) {
        let mut state = self.lock();
        state.queue.set_speed(monotonic_ns(), speed.factor());
        state.speed = speed;
    }

    /// How fast the servers work.
    pub(crate) fn speed(&self) -> Speed {
        self.lock().speed
    }

    /// Calls that wait, and servers at work.
    pub(crate) fn occupancy(&self) -> (usize, usize) {
        let state = self.lock();
        (state.queue.waiting(), state.queue.busy())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Wakes what is done and arms the timer for what comes next.
    fn settle(&mut self, timer: &Timer) -> io::Result<()> {
        self.queue.expire(monotonic_ns(), &mut self.done);
        for done in self.done.drain(..) {
            let timing = Timing { queued_ns: done.queued_ns, service_ns: done.service_ns };
            // A call that was cancelled in service has nobody to tell.
            let _ = done.payload.send(timing);
        }
        // A timer that is armed too early fires for nothing once; arming it
        // anew for every later deadline would cost a system call each.
        if let Some(next_ns) = self.queue.next_deadline()
            && self.armed_ns.is_none_or(|armed_ns| next_ns < armed_ns)
        {
            timer.arm(next_ns)?;
            self.armed_ns = Some(next_ns);
        }
        Ok(())
    }
}

/// A call's place in the queue; dropping it with its ticket cancels the call.
struct Place<'a> {
    station: &'a Station,
    ticket: Option<Ticket>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.station.lock().queue.cancel(ticket);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        num::NonZeroUsize,
        sync::Arc,
        time::{Duration, Instant},
    };

    use super::*;

    fn station(service_time: &str, concurrency: usize, max_waiting: usize) -> Arc<Station> {
        let config = QueueConfig {
            concurrency: NonZeroUsize::new(concurrency).unwrap(),
            service_time: service_time.parse().unwrap(),
            max_waiting,
            ..QueueConfig::default()
        };
        Arc::new(Station::new(&config, "b1").unwrap())
    }

    fn drive(station: &Arc<Station>) {
        let station = Arc::clone(station);
        tokio::spawn(async move { station.drive().await });
    }

    #[tokio::test]
    async fn without_service_time_nothing_is_waited_for() {
        let station = station("none", 1, 0);
        assert_eq!(station.serve().await, Ok(Timing::default()));
    }

    #[tokio::test]
    async fn calls_wait_for_each_other_and_say_so() {
        let station = station("constant:2ms", 1, 100);
        drive(&station);
        let begin = Instant::now();
        let calls: Vec<_> = (0..5)
            .map(|_| {
                let station = Arc::clone(&station);
                tokio::spawn(async move { station.serve().await.unwrap() })
            })
            .collect();
        for (index, call) in (0..).zip(calls) {
            let timing = call.await.unwrap();
            assert!(begin.elapsed() >= Duration::from_millis(2 * (index + 1)));
            assert_eq!(timing.service_ns, 2_000_000);
            assert!(timing.queued_ns <= 2_000_000 * index, "{timing:?} at {index}");
        }
        assert_eq!(station.occupancy(), (0, 0));
    }

    #[tokio::test]
    async fn a_dropped_call_leaves_its_place_and_a_full_queue_refuses() {
        let station = station("constant:1h", 1, 1);
        let in_service = station.serve();
        let waiting = station.serve();
        tokio::pin!(in_service);
        let mut waiting = Box::pin(waiting);
        assert!(futures_util::poll!(in_service.as_mut()).is_pending());
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        assert_eq!(station.occupancy(), (1, 1));
        assert_eq!(station.serve().await, Err(Unserved::Full));
        drop(waiting);
        assert_eq!(station.occupancy(), (0, 1));
    }

    #[tokio::test]
    async fn speed_can_change_while_calls_wait() {
        let station = station("constant:10s", 1, 10);
        drive(&station);
        station.set_speed("10000".parse().unwrap());
        assert_eq!(station.serve().await.unwrap().service_ns, 1_000_000);
        assert_eq!(station.speed().factor(), 10_000.0);
    }
}
