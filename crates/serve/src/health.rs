//! Active health checks: each backend is asked at an interval whether it is
//! there, and counts as unhealthy after several failures in a row. Both proxies
//! check alike.
//!
//! Each backend has a clock and a task of its own: one that takes its time until
//! the timeout delays no other one's check. Their number is the bound on checks
//! at once.
//!
//! To open a connection and close it is the cheapest question, and a backend that
//! accepts and never answers passes it; the other one is gRPC's own, see
//! [`crate::grpc_health`].

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher as _, RandomState},
    io,
    net::SocketAddr,
    num::NonZeroU32,
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use rustix::io::Errno;
use tokio::{
    io::AsyncWriteExt as _,
    net::TcpStream,
    task::{AbortHandle, JoinSet},
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout},
};

use crate::{Shutdown, duration, grpc_health::is_serving_on, tls::ClientSide};

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

    /// Whether it passes; `None` when it could not be asked, for want of something
    /// that is this process's.
    async fn ask(&self, backends: &dyn Checked, address: SocketAddr) -> Option<bool> {
        let answer = async {
            let mut stream = TcpStream::connect(address).await?;
            stream.write_all(backends.header()).await?;
            match self.check {
                HealthCheck::Connect => Ok(true),
                HealthCheck::Grpc => {
                    is_serving_on(stream, address, &self.service, backends.tls(address)).await
                }
            }
        };
        match timeout(self.timeout, answer).await {
            Ok(Ok(passed)) => Some(passed),
            Ok(Err(error)) if is_shortage(&error) => None,
            Ok(Err(_)) | Err(_) => Some(false),
        }
    }

    fn jitter(&self, address: SocketAddr) -> Duration {
        let longest = self.interval.saturating_mul(self.jitter_percent) / 100;
        // A fresh state hashes with a fresh key.
        let random = RandomState::new().hash_one(address);
        longest.mul_f64((random >> 11) as f64 / (1_u64 << 53) as f64)
    }
}

/// Whether a socket could not be made for want of descriptors or memory.
fn is_shortage(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM))
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

    /// What each connection to a backend begins with, before TLS, such as a PROXY
    /// header that says that the proxy speaks for itself.
    fn header(&self) -> &'static [u8] {
        &[]
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

/// Checks all backends until the server is told to end. Which there are is asked
/// at each interval.
pub async fn watch(backends: Arc<dyn Checked>, config: HealthConfig, mut shutdown: Shutdown) {
    let config = Arc::new(config);
    let mut looks = interval(config.interval);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut tasks = JoinSet::new();
    let mut checks: HashMap<SocketAddr, AbortHandle> = HashMap::new();
    loop {
        tokio::select! {
            () = shutdown.terminated() => return,
            _ = looks.tick() => {}
        }
        let addresses: HashSet<_> = backends.addresses().into_iter().collect();
        checks.retain(|address, check| {
            let stays = addresses.contains(address);
            if !stays {
                check.abort();
            }
            stays
        });
        for address in addresses {
            checks.entry(address).or_insert_with(|| {
                tasks.spawn(check_one(Arc::clone(&backends), Arc::clone(&config), address))
            });
        }
        // Of those that were let go of.
        while tasks.try_join_next().is_some() {}
    }
}

/// Checks one backend, until it is let go of.
async fn check_one(backends: Arc<dyn Checked>, config: Arc<HealthConfig>, address: SocketAddr) {
    let mut streak = Streak::NEW;
    sleep(config.jitter(address)).await;
    loop {
        let begun = Instant::now();
        if let Some(passed) = config.ask(&*backends, address).await {
            streak.note(passed, &config);
            backends.checked(address, passed, streak.is_healthy);
        }
        sleep_until(begun + config.interval + config.jitter(address)).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

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

    /// What was told of one backend.
    fn reported(backends: &Remembers, address: SocketAddr) -> Vec<(bool, bool)> {
        let reported = backends.1.lock().unwrap();
        reported.iter().filter(|one| one.0 == address).map(|one| (one.1, one.2)).collect()
    }

    /// One that accepts connections and says nothing delays nobody: each of the
    /// others is asked again and again, and its verdicts add up.
    #[tokio::test]
    async fn each_backend_is_asked_by_a_clock_of_its_own() {
        let closing = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let hangs = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let unused = tokio::net::TcpSocket::new_v4().unwrap();
        unused.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let addresses = [closing.local_addr(), hangs.local_addr(), unused.local_addr()];
        let [closes, hanging, dead] = addresses.map(Result::unwrap);
        let backends = Arc::new(Remembers(vec![hanging, closes, dead], Mutex::default()));
        let mut config = HealthConfig::every(Duration::from_millis(1), HealthCheck::Grpc);
        config.timeout = Duration::from_secs(3_600);
        config.fall = NonZeroU32::new(3).unwrap();
        let (trigger, shutdown) = Shutdown::channel();
        let checks =
            tokio::spawn(watch(Arc::clone(&backends) as Arc<dyn Checked>, config, shutdown));
        // It answers nobody either, but not by keeping them waiting.
        let refuses = tokio::spawn(async move {
            while let Ok((stream, _)) = closing.accept().await {
                drop(stream);
            }
        });
        let are_known =
            || [closes, dead].iter().all(|address| reported(&backends, *address).len() >= 4);
        let all = async {
            while !are_known() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(Duration::from_secs(20), all).await.expect("verdicts beside one that hangs");
        let falls = [(false, true), (false, true), (false, false), (false, false)];
        assert_eq!(reported(&backends, dead)[..4], falls);
        assert_eq!(reported(&backends, closes)[..4], falls);
        assert!(reported(&backends, hanging).is_empty());
        trigger.terminate();
        checks.await.unwrap();
        refuses.abort();
    }

    #[test]
    fn a_shortage_here_is_no_verdict() {
        for (errno, is_own) in [(Errno::MFILE, true), (Errno::CONNREFUSED, false)] {
            assert_eq!(is_shortage(&io::Error::from(errno)), is_own);
        }
        assert!(!is_shortage(&io::ErrorKind::UnexpectedEof.into()));
    }
}
