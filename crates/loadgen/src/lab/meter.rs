//! What reads the CPU time of processes that the lab did not start (`--bill`).

use std::{
    fs, io,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use super::{cost, instructions::Counters, page};

/// How long each step of a scrape may take: it is read at the edges of the window.
const SCRAPE_TIMEOUT: Duration = Duration::from_millis(500);
/// What every Prometheus client library counts of its process.
const CPU_SECONDS: &str = "process_cpu_seconds_total";
const RESIDENT_BYTES: &str = "process_resident_memory_bytes";

/// Where a CPU time is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Meter {
    /// A process of this machine, with its descendants.
    Process(u32),
    /// A control group of this machine, version 1 or 2.
    Cgroup(PathBuf),
    /// A page in Prometheus' text format: `http://HOST:PORT/PATH`.
    Prometheus(String),
}

/// A `--bill` that is none.
#[derive(Debug, thiserror::Error)]
#[error(
    "expected pid:NUMBER, cgroup:FOLDER or prometheus:http://HOST:PORT/metrics, as in \
     l7=pid:1234"
)]
pub(crate) struct MeterError;

impl FromStr for Meter {
    type Err = MeterError;

    fn from_str(text: &str) -> Result<Self, MeterError> {
        match text.split_once(':') {
            Some(("pid", pid)) => pid.parse().map(Self::Process).map_err(|_| MeterError),
            Some(("cgroup", folder)) if folder.starts_with('/') => Ok(Self::Cgroup(folder.into())),
            Some(("prometheus", url)) if url.starts_with("http://") => {
                Ok(Self::Prometheus(url.to_owned()))
            }
            _ => Err(MeterError),
        }
    }
}

impl Meter {
    /// What counts the instructions of a process from now on.
    pub(super) fn counters(&self) -> Option<Counters> {
        match self {
            Self::Process(pid) => Counters::of_tree(*pid),
            Self::Cgroup(_) | Self::Prometheus(_) => None,
        }
    }

    /// What was spent until now.
    ///
    /// # Errors
    /// When nothing can be read there.
    pub(crate) fn read(&self) -> io::Result<cost::Reading> {
        match self {
            Self::Process(pid) => cost::read_tree(*pid).ok_or_else(|| {
                io::Error::new(io::ErrorKind::NotFound, format!("there is no process {pid} here"))
            }),
            Self::Cgroup(folder) => read_cgroup(folder),
            Self::Prometheus(url) => {
                let text = page::get(url, SCRAPE_TIMEOUT)?;
                let missing = || io::Error::other(format!("{url} has no {CPU_SECONDS}"));
                let seconds = value_of(&text, CPU_SECONDS).ok_or_else(missing)?;
                let rss_bytes = value_of(&text, RESIDENT_BYTES).unwrap_or(0.0);
                Ok(cost::Reading::of_cpu((seconds * 1e9) as u64, (0, 0), rss_bytes as u64))
            }
        }
    }
}

/// Version 2 counts microseconds in `cpu.stat` (the kernel's `cgroup-v2.rst`), version 1
/// nanoseconds in `cpuacct.usage` (`cgroup-v1/cpuacct.rst`).
fn read_cgroup(folder: &Path) -> io::Result<cost::Reading> {
    let read = |name: &str| fs::read_to_string(folder.join(name));
    let number = |name: &str| read(name).ok().and_then(|text| text.trim().parse::<u64>().ok());
    let rss_bytes = number("memory.current").or_else(|| number("memory.usage_in_bytes"));
    let rss_bytes = rss_bytes.unwrap_or(0);
    let nothing = || {
        let folder = folder.display();
        io::Error::other(format!("{folder} counts no CPU time: it has no cpu.stat, cpuacct.usage"))
    };
    if let Some(usage_ns) = number("cpuacct.usage") {
        let split = number("cpuacct.usage_user").zip(number("cpuacct.usage_sys"));
        return Ok(cost::Reading::of_cpu(usage_ns, split.unwrap_or((0, 0)), rss_bytes));
    }
    let stat = read("cpu.stat")?;
    let us = |key: &str| -> Option<u64> {
        stat.lines().find_map(|line| line.strip_prefix(key)?.trim().parse().ok())
    };
    let usage_us = us("usage_usec ").ok_or_else(nothing)?;
    let split = us("user_usec ").zip(us("system_usec ")).unwrap_or((0, 0));
    Ok(cost::Reading::of_cpu(usage_us.saturating_mul(1_000), split, rss_bytes))
}

/// The sum of a metric over its labels; `None` without one.
fn value_of(text: &str, metric: &str) -> Option<f64> {
    let values = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(metric)?;
        let rest = match rest.strip_prefix('{') {
            Some(labelled) => labelled.rsplit_once('}')?.1,
            None => rest.strip_prefix(' ')?,
        };
        rest.split_whitespace().next()?.parse::<f64>().ok()
    });
    values.fold(None, |sum, value| Some(sum.unwrap_or(0.0) + value))
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::TcpListener,
        thread,
    };

    use measure::record::ProcessRole;

    use super::*;

    #[test]
    fn a_meter_is_a_process_a_group_or_a_page() {
        assert_eq!("pid:12".parse::<Meter>().unwrap(), Meter::Process(12));
        let group = "cgroup:/sys/fs/cgroup/x".parse::<Meter>().unwrap();
        assert_eq!(group, Meter::Cgroup("/sys/fs/cgroup/x".into()));
        let page = "prometheus:http://lb:9901/metrics".parse::<Meter>().unwrap();
        assert_eq!(page, Meter::Prometheus("http://lb:9901/metrics".into()));
        for bad in ["12", "pid:x", "cgroup:here", "prometheus:lb:9901", "top:1", ""] {
            assert!(bad.parse::<Meter>().is_err(), "{bad}");
        }
        let own = Meter::Process(std::process::id()).read().unwrap();
        let spent = own.since(&cost::Reading::default(), ProcessRole::Proxy, "l7");
        assert!(spent.user_ns + spent.system_ns > 0);
        assert!(Meter::Process(u32::MAX).read().is_err());
    }

    #[test]
    fn groups_of_both_versions_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let meter = Meter::Cgroup(folder.path().to_owned());
        assert!(meter.read().is_err());
        let spent = |meter: &Meter| {
            let reading = meter.read().unwrap();
            let spent = reading.since(&cost::Reading::default(), ProcessRole::Proxy, "l7");
            (spent.user_ns, spent.system_ns)
        };
        let stat = "usage_usec 1000\nuser_usec 750\nsystem_usec 250\n";
        fs::write(folder.path().join("cpu.stat"), stat).unwrap();
        assert_eq!(spent(&meter), (750_000, 250_000));
        fs::write(folder.path().join("cpuacct.usage"), "9000\n").unwrap();
        assert_eq!(spent(&meter), (9_000, 0), "no split is told");
    }

    #[test]
    fn a_page_is_summed_over_its_labels() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let served = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 256];
            let read = stream.read(&mut request).unwrap();
            let text = "# TYPE process_cpu_seconds_total counter\n\
                        process_cpu_seconds_total{cpu=\"0\"} 1.5\n\
                        process_cpu_seconds_total{cpu=\"1\"} 0.25 1700000000\n\
                        process_cpu_seconds_total_other 9\n";
            write!(stream, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{text}").unwrap();
            String::from_utf8_lossy(&request[..read]).into_owned()
        });
        let meter = Meter::Prometheus(format!("http://localhost:{port}/metrics"));
        let reading = meter.read().unwrap();
        let spent = reading.since(&cost::Reading::default(), ProcessRole::Proxy, "l7");
        assert_eq!(spent.user_ns + spent.system_ns, 1_750_000_000);
        assert!(served.join().unwrap().starts_with("GET /metrics HTTP/1.1"));
        assert_eq!(value_of("other 1\n", CPU_SECONDS), None);
    }
}
