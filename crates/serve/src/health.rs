//! Active health checks: each backend is asked at an interval whether it is
//! there, and counts as unhealthy after several failures in a row. Both proxies
//! check alike.
//!
//! To open a connection and close it is the cheapest question, and a backend that
//! accepts and never answers passes it; the other one is gRPC's own, see
//! [`crate::grpc_health`].

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::grpc_health::is_serving;
use crate::tls::ClientSide;
use crate::{Shutdown, duration};

/// Checks at once. Beyond these, backends wait for their turn.
const CHECKS_AT_ONCE: usize = 64;

/// What a backend is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HealthCheck {
    /// Whether a connection can be opened.
    Connect,
    /// `grpc.health.v1.Health/Check`.
    Grpc,
}

impl FromStr for HealthCheck {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "connect" => Ok(Self::Connect),
            "grpc" => Ok(Self::Grpc),
            _ => Err("expected connect or grpc".to_owned()),
        }
    }
}

/// How backends are checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthConfig {
    /// What they are asked.
    pub check: HealthCheck,
    /// The service a gRPC check asks after; empty for the server as a whole.
    pub service: String,
    /// Time between two checks of a backend.
    pub interval: Duration,
    /// Up to so many percent of the interval are added to it by chance, each time
    /// and for each backend anew.
    pub jitter_percent: u32,
    /// How long a check may take.
    pub timeout: Duration,
    /// Failed checks in a row that take a backend out.
    pub fall: NonZeroU32,
    /// Passed checks in a row that bring it back.
    pub rise: NonZeroU32,
}

impl HealthConfig {
    /// The defaults of the flags, at this interval.
    pub fn every(interval: Duration, check: HealthCheck) -> Self {
        Self {
            check,
            service: String::new(),
            interval,
            jitter_percent: 10,
            timeout: Duration::from_secs(1),
            fall: NonZeroU32::MIN.saturating_add(2),
            rise: NonZeroU32::MIN.saturating_add(1),
        }
    }

    async fn ask(&self, address: SocketAddr, tls: Option<ClientSide>) -> bool {
        let answer = async {
            match self.check {
                HealthCheck::Connect => TcpStream::connect(address).await.is_ok(),
                HealthCheck::Grpc => is_serving(address, &self.service, tls).await.unwrap_or(false),
            }
        };
        timeout(self.timeout, answer).await.unwrap_or(false)
    }

    fn jitter(&self, address: SocketAddr) -> Duration {
        let longest = self.interval.saturating_mul(self.jitter_percent) / 100;
        // A fresh state hashes with a fresh key.
        let random = RandomState::new().hash_one(address);
        longest.mul_f64((random >> 11) as f64 / (1_u64 << 53) as f64)
    }
}

/// The flags of health checks.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Health")]
pub struct HealthArgs {
    /// Check each backend at this interval [default: don't].
    #[arg(long, value_name = "DURATION", value_parser = duration::parse_positive)]
    pub health_interval: Option<Duration>,

    /// What is asked: connect, whether a connection can be opened; or grpc,
    /// whether grpc.health.v1.Health/Check says SERVING [default: connect at L4,
    /// grpc at L7].
    #[arg(long, value_name = "CHECK")]
    pub health_check: Option<HealthCheck>,

    /// The service that a grpc check asks after [default: the server as a whole].
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    pub health_service: String,

    /// Up to so many percent are added to each interval by chance, so that
    /// proxies don't ask in step.
    #[arg(long, value_name = "PERCENT", default_value_t = 10,
          value_parser = clap::value_parser!(u32).range(0..=100))]
    pub health_jitter_percent: u32,

    /// How long a check may take.
    #[arg(long, value_name = "DURATION", default_value = "1s",
          value_parser = duration::parse_positive)]
    pub health_timeout: Duration,

    /// Failed checks in a row that take a backend out.
    #[arg(long, value_name = "N", default_value = "3")]
    pub health_fall: NonZeroU32,

    /// Passed checks in a row that bring it back.
    #[arg(long, value_name = "N", default_value = "2")]
    pub health_rise: NonZeroU32,
}

impl HealthArgs {
    /// What the flags ask for, if they ask for checks.
    pub fn config(&self, default: HealthCheck) -> Option<HealthConfig> {
        self.health_interval.map(|interval| HealthConfig {
            check: self.health_check.unwrap_or(default),
            service: self.health_service.clone(),
            interval,
            jitter_percent: self.health_jitter_percent,
            timeout: self.health_timeout,
            fall: self.health_fall,
            rise: self.health_rise,
        })
    }
}

/// Backends that are checked.
pub trait Checked: Send + Sync {
    /// Those there are now.
    fn addresses(&self) -> Vec<SocketAddr>;

    /// One was checked: whether it passed, and what is thought of it now. Called
    /// after each check, for a backend that was replaced by one of the same
    /// address knows nothing of an earlier verdict. Must not block.
    fn checked(&self, address: SocketAddr, passed: bool, is_healthy: bool);

    /// What a call to a backend is secured with; `None` for plain text. Asked
    /// before each check, since certificates may change.
    fn tls(&self, _address: SocketAddr) -> Option<ClientSide> {
        None
    }
}

/// Verdicts in a row of one kind, and what was made of them.
#[derive(Clone, Copy, Debug)]
struct Streak {
    is_healthy: bool,
    against: u32,
}

impl Streak {
    /// Backends count as healthy until they have failed.
    const NEW: Self = Self { is_healthy: true, against: 0 };

    /// Takes a verdict. Whether it changed what is thought of the backend.
    fn note(&mut self, passed: bool, config: &HealthConfig) -> bool {
        self.against = if passed == self.is_healthy { 0 } else { self.against + 1 };
        let needed = if self.is_healthy { config.fall } else { config.rise };
        let has_changed = self.against >= needed.get();
        if has_changed {
            *self = Self { is_healthy: passed, against: 0 };
        }
        has_changed
    }
}

/// Checks all backends until the server is told to end.
pub async fn watch(backends: Arc<dyn Checked>, config: HealthConfig, mut shutdown: Shutdown) {
    let config = Arc::new(config);
    let mut ticks = interval(config.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut streaks = HashMap::new();
    loop {
        tokio::select! {
            () = shutdown.terminated() => return,
            _ = ticks.tick() => {}
        }
        let round = check_all(&*backends, &config, &mut streaks);
        tokio::select! {
            () = shutdown.terminated() => return,
            () = round => {}
        }
    }
}

async fn check_all(
    backends: &dyn Checked,
    config: &Arc<HealthConfig>,
    streaks: &mut HashMap<SocketAddr, Streak>,
) {
    let addresses = backends.addresses();
    streaks.retain(|address, _| addresses.contains(address));
    let places = Arc::new(Semaphore::new(CHECKS_AT_ONCE));
    let mut asked: JoinSet<(SocketAddr, bool)> = JoinSet::new();
    for address in addresses {
        let (config, places) = (Arc::clone(config), Arc::clone(&places));
        let tls = backends.tls(address);
        asked.spawn(async move {
            sleep(config.jitter(address)).await;
            // It is never closed; without a place it would only not be bounded.
            let _place = places.acquire().await;
            (address, config.ask(address, tls).await)
        });
    }
    while let Some(answer) = asked.join_next().await {
        let Ok((address, passed)) = answer else { continue };
        let streak = streaks.entry(address).or_insert(Streak::NEW);
        streak.note(passed, config);
        backends.checked(address, passed, streak.is_healthy);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[test]
    fn verdicts_in_a_row_count_and_single_ones_do_not() {
        let config = HealthConfig::every(Duration::from_secs(1), HealthCheck::Connect);
        let mut streak = Streak::NEW;
        let changes: Vec<_> =
            [false, false, true, false, false, false, false, true, false, true, true]
                .map(|passed| streak.note(passed, &config))
                .into_iter()
                .enumerate()
                .filter(|(_, changed)| *changed)
                .map(|(at, _)| at)
                .collect();
        assert_eq!(changes, [5, 10]);
        assert!(streak.is_healthy);
    }

    #[test]
    fn jitter_stays_within_its_part_of_the_interval() {
        let mut config = HealthConfig::every(Duration::from_secs(1), HealthCheck::Connect);
        let address = "127.0.0.1:1".parse().unwrap();
        let jitters: Vec<_> = (0..100).map(|_| config.jitter(address)).collect();
        assert!(jitters.iter().all(|jitter| *jitter < Duration::from_millis(100)));
        assert!(jitters.iter().any(|jitter| *jitter != jitters[0]));
        config.jitter_percent = 0;
        assert_eq!(config.jitter(address), Duration::ZERO);
    }

    /// Remembers the verdicts it was told.
    struct Remembers(Vec<SocketAddr>, Mutex<Vec<(SocketAddr, bool, bool)>>);

    impl Checked for Remembers {
        fn addresses(&self) -> Vec<SocketAddr> {
            self.0.clone()
        }
        fn checked(&self, address: SocketAddr, passed: bool, is_healthy: bool) {
            self.1.lock().unwrap().push((address, passed, is_healthy));
        }
    }

    #[tokio::test]
    async fn each_backend_is_asked_in_a_round_and_its_verdicts_add_up() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let unused = tokio::net::TcpSocket::new_v4().unwrap();
        unused.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let (well, dead) = (listener.local_addr().unwrap(), unused.local_addr().unwrap());
        let backends = Remembers(vec![well, dead], Mutex::default());
        let mut config = HealthConfig::every(Duration::from_millis(1), HealthCheck::Connect);
        config.fall = NonZeroU32::new(2).unwrap();
        let (config, mut streaks) = (Arc::new(config), HashMap::new());
        for round in 0..3 {
            check_all(&backends, &config, &mut streaks).await;
            let mut told = std::mem::take(&mut *backends.1.lock().unwrap());
            told.sort_by_key(|(address, ..)| *address != well);
            assert_eq!(told, [(well, true, true), (dead, false, round == 0)]);
        }
    }
}
