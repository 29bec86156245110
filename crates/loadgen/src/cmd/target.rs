//! `--target`: what a run may do to balancers and services that the lab did not start.
//!
//! Others may depend on them, so the load is gentle unless the user asks for more, a run
//! that leaves this machine is agreed to first, and it ends when too many calls fail.

use std::{
    io::{self, IsTerminal as _, Write as _},
    net::SocketAddr,
    path::PathBuf,
};

use measure::format::counted;
use scenario::{Length, Pace, Profile, Scenario, Setting};

use crate::{
    exit::Failure,
    external::{Expected, Target, Targets, TlsOptions},
    lab::{self, meter::Meter},
    run::Request,
    ui::Progress,
};

/// The highest rate that a target is called at unless `--rate` says otherwise.
const GENTLE_RATE: f64 = 100.0;
/// `--rate` for what the scenario says.
pub(super) const AS_SCENARIO: &str = "scenario";

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "What is there already")]
pub(super) struct TargetArgs {
    /// Drive a balancer or a service that is there already, for example one in a cluster,
    /// instead of the scenario's peers: HOST:PORT, or https://HOST:PORT where it speaks TLS,
    /// and with NAME= before it for one of several, which take turns. The lab starts nothing; layerlab's echo-backend has to run behind
    /// it, and is told apart by the id in its answers. At most 100 calls a second are made,
    /// unless --rate says otherwise.
    #[arg(long = "target", value_name = "[NAME=][https://]HOST:PORT", conflicts_with = "peers")]
    targets: Vec<Target>,

    /// The backends behind the targets: how many there are at least, or their ids with
    /// commas. One that serves no call is then shown as well.
    #[arg(long, value_name = "N|ID,...", requires = "targets")]
    backends: Option<Expected>,

    /// Where the CPU time of a target is read: NAME=pid:1234 or NAME=cgroup:/sys/fs/cgroup/x
    /// of this machine, or NAME=prometheus:http://HOST:PORT/metrics, which has
    /// process_cpu_seconds_total. May be given again; a target's are added up.
    #[arg(long = "bill", value_name = "NAME=WHERE", requires = "targets")]
    bills: Vec<String>,

    #[command(flatten)]
    tls: TlsArgs,

    /// Calls that may fail before what the lab did not start is left alone, of at least 20
    /// that ended.
    #[arg(long, value_name = "PERCENT", default_value = "10%")]
    max_errors: String,

    /// Agree to what the run does to other machines, without being asked.
    #[arg(long)]
    yes: bool,
}

/// How targets under TLS are met.
#[derive(Debug, clap::Args)]
pub(super) struct TlsArgs {
    /// The authorities that certificates of targets have to come from, as a PEM file; the
    /// system's unless given.
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    ca: Option<PathBuf>,

    /// The name that certificates of targets have to be for; their host unless given.
    #[arg(long, value_name = "NAME")]
    server_name: Option<String>,

    /// A certificate to show to targets, as a PEM file, with --key.
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,

    /// The key of --cert, as a PEM file.
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,

    /// Take any certificate of a target. The report says so.
    #[arg(long)]
    insecure: bool,
}

impl TlsArgs {
    pub(super) fn options(&self) -> TlsOptions {
        TlsOptions {
            ca: self.ca.clone(),
            server_name: self.server_name.clone(),
            identity: self.cert.clone().zip(self.key.clone()),
            insecure: self.insecure,
        }
    }

    /// The first of these flags that was given.
    fn given(&self) -> Option<&'static str> {
        let flags = [
            ("--ca", self.ca.is_some()),
            ("--server-name", self.server_name.is_some()),
            ("--cert", self.cert.is_some()),
            ("--insecure", self.insecure),
        ];
        flags.into_iter().find(|(_, is_given)| *is_given).map(|(flag, _)| flag)
    }
}

impl TargetArgs {
    /// The targets; `None` where there are none.
    ///
    /// # Errors
    /// When two have one name, or a bill is for none of them.
    pub(super) fn all(&self) -> Result<Option<Targets>, Failure> {
        if self.targets.is_empty() {
            let belongs = |flag| format!("{flag}: it is for a --target, and there is none");
            return self
                .tls
                .given()
                .map_or(Ok(None), |flag| Err(Failure::bad_input(belongs(flag))));
        }
        if let Some(flag) = self.tls.given().filter(|_| !self.targets.iter().any(|one| one.tls)) {
            let target = &self.targets[0].authority;
            return Err(Failure::bad_input(format!(
                "{flag}: it is for a target under TLS, and none is; write it as \
                 --target https://{target}"
            )));
        }
        for (index, target) in self.targets.iter().enumerate() {
            if self.targets[..index].iter().any(|other| other.name == target.name) {
                let name = &target.name;
                return Err(Failure::bad_input(format!(
                    "--target {target}: another one is called `{name}` already; give each a \
                     name, as in --target l4={target}"
                )));
            }
        }
        let bills = self.bills.iter().map(|text| self.bill(text)).collect::<Result<_, _>>()?;
        let (all, expected) = (self.targets.clone(), self.backends.clone());
        Ok(Some(Targets { all, expected, tls: self.tls.options(), bills }))
    }

    fn bill(&self, text: &str) -> Result<(String, Meter), Failure> {
        let failure =
            |what: &dyn std::fmt::Display| Failure::bad_input(format!("--bill {text}: {what}"));
        let Some((name, place)) = text.split_once('=') else {
            return Err(failure(&"expected NAME=WHERE, as in l7=pid:1234"));
        };
        if !self.targets.iter().any(|target| target.name == name) {
            let names: Vec<&str> = self.targets.iter().map(|target| &*target.name).collect();
            return Err(failure(&format!(
                "no target is called `{name}`; there are {}",
                names.join(", ")
            )));
        }
        let meter: Meter = place.parse().map_err(|error| failure(&error))?;
        meter.read().map_err(|error| failure(&format!("nothing can be read there: {error}")))?;
        Ok((name.to_owned(), meter))
    }

    /// The share of calls that may fail.
    ///
    /// # Errors
    /// When it is no percentage.
    pub(super) fn max_errors(&self) -> Result<f64, Failure> {
        units::parse_percent(&self.max_errors)
            .map_err(|error| Failure::bad_input(format!("--max-errors: {error}")))
    }

    /// The flags that say what is driven, as they are recorded.
    pub(super) fn words(&self) -> impl Iterator<Item = String> {
        let flag = |target: &Target| format!("--target {}={target}", target.name);
        let insecure = self.tls.insecure.then(|| "--insecure".to_owned());
        self.targets.iter().map(flag).chain(insecure)
    }

    /// Says what the run does to other machines, and has the user agree.
    ///
    /// # Errors
    /// When he does not, or can't be asked.
    pub(super) fn consent(
        &self,
        request: &Request,
        progress: &mut Progress,
    ) -> Result<(), Failure> {
        let scenario = &request.scenario;
        let called: Vec<&str> = match (&request.targets, scenario.servers.running()) {
            (Some(targets), _) => targets.all.iter().map(|target| &*target.authority).collect(),
            (None, running) => running.into_iter().flatten().map(String::as_str).collect(),
        };
        let mut away = Vec::new();
        for authority in called {
            if !is_here(authority)? {
                away.push(authority);
            }
        }
        if away.is_empty() {
            return Ok(());
        }
        let peers = if request.targets.is_some() { away.len() } else { scenario.peers.len() };
        let what = format!("{} to {}", planned(scenario, peers), away.join(" and "));
        if self.yes {
            progress.note(&format!("the run makes {what}"));
            return Ok(());
        }
        if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
            return Err(Failure::bad_input(format!(
                "the run makes {what}, which is not this machine; add --yes to agree"
            )));
        }
        // Not eprint!, which panics when standard error is closed.
        let _ = write!(io::stderr(), "The run makes {what}. Go on? [y/N] ");
        let _ = io::stderr().flush();
        let mut answer = String::new();
        let answered = io::stdin().read_line(&mut answer).is_ok();
        if answered && matches!(answer.trim(), "y" | "Y" | "yes") {
            Ok(())
        } else {
            Err(Failure::bad_input("nothing was run: you did not agree"))
        }
    }
}

/// Whether calls to `HOST:PORT` stay on this machine.
fn is_here(authority: &str) -> Result<bool, Failure> {
    let addresses = lab::resolve(authority).map_err(|error| {
        Failure::lab(format!("{authority}: its name can't be resolved: {error}"))
    })?;
    Ok(addresses.iter().map(SocketAddr::ip).all(|ip| ip.to_canonical().is_loopback()))
}

/// What trials of so many peers are, in words.
fn planned(scenario: &Scenario, peers: usize) -> String {
    let points = scenario.sweep.as_ref().map_or(1, |sweep| sweep.points.len());
    let trials = peers * points * scenario.repeats as usize;
    let load = &scenario.load;
    let calls = match (load.length, load.pace.mean_rate()) {
        (Length::Calls(calls), _) => Some(calls as f64),
        (Length::Duration(time), Some(rate)) => Some((time + load.warm_up).as_secs_f64() * rate),
        (Length::Duration(_), None) => None,
    };
    // Both go on until something is found out.
    let at_least = scenario.precision.is_some() || load.search.is_some();
    let about = if at_least { "at least" } else { "about" };
    match calls {
        Some(calls) => format!("{about} {:.0} calls", calls * trials as f64),
        None => format!("as many calls as are answered in {}", counted(trials, "trial")),
    }
}

/// What makes the load of a scenario gentle; `None` where it is.
///
/// # Errors
/// When it can't be: such a load takes what the target gives.
pub(super) fn gentle(scenario: &Scenario) -> Result<Option<Setting>, Failure> {
    let sweeps_rate = scenario.sweep.as_ref().is_some_and(|sweep| sweep.key == "load.rate");
    let (Pace::Open { arrivals, profile }, None, false) =
        (&scenario.load.pace, &scenario.load.search, sweeps_rate)
    else {
        return Err(Failure::bad_input(format!(
            "scenario {} makes calls as fast as a target answers, or looks for the rate that it \
             can't; add --rate {AS_SCENARIO} if the target may be driven so",
            scenario.name
        )));
    };
    // The rates of a profile stand beside the one it begins with.
    let highest = match profile {
        Profile::Ramp { to } => to.max(1.0),
        Profile::Steps { factors } => factors.iter().copied().fold(1.0, f64::max),
        Profile::Flat | Profile::Bursts { .. } => 1.0,
    };
    match arrivals.rate() {
        rate if rate * highest <= GENTLE_RATE => Ok(None),
        _ if highest > 1.0 => Err(Failure::bad_input(format!(
            "scenario {} makes more than {GENTLE_RATE} calls a second at its height; add --rate \
             {AS_SCENARIO} if the target may be driven so",
            scenario.name
        ))),
        rate if arrivals.trace().is_some() => {
            let speed = arrivals.trace().map_or(1.0, |(_, speed)| speed) * GENTLE_RATE / rate;
            let origin = format!("{GENTLE_RATE}/s for a --target without --rate");
            Ok(Some(Setting::new("load.speed", &speed.to_string(), origin)))
        }
        _ => {
            let rate = format!("{GENTLE_RATE}/s");
            let origin = format!("{rate} for a --target without --rate");
            Ok(Some(Setting::new("load.rate", &rate, origin)))
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Program {
        #[command(flatten)]
        args: TargetArgs,
        #[arg(long)]
        peers: Option<String>,
    }

    fn parse(flags: &[&str]) -> Result<Option<Targets>, String> {
        let program = Program::try_parse_from([&["loadgen"], flags].concat());
        program.map_err(|error| error.to_string())?.args.all().map_err(|failure| failure.message)
    }

    #[test]
    fn targets_have_names_and_bills_have_targets() {
        assert!(parse(&[]).unwrap().is_none());
        let own = format!("l7=pid:{}", std::process::id());
        let flags = ["--target", "l4=lb:80", "--target", "l7=lb:81", "--bill", &own];
        let targets = parse(&[&flags[..], &["--backends", "3"]].concat()).unwrap().unwrap();
        assert_eq!(targets.all.len(), 2);
        assert_eq!(targets.bills, [("l7".to_owned(), Meter::Process(std::process::id()))]);
        assert_eq!(targets.expected, Some(Expected::Count(3)));
        for (flags, expected) in [
            (&["--target", "lb:80", "--target", "lb:81"][..], "called `target` already"),
            (&["--target", "lb:80", "--bill", "l7=pid:1"], "no target is called `l7`"),
            (&["--target", "lb:80", "--bill", "target=1"], "expected pid:NUMBER"),
            (&["--target", "lb:80", "--bill", "pid:1"], "expected NAME=WHERE"),
            (&["--target", "lb:80", "--bill", "target=pid:4294967295"], "no process 4294967295"),
            (&["--target", "lb"], "HOST:PORT"),
            (&["--bill", "l7=pid:1"], "--target"),
        ] {
            let error = parse(flags).unwrap_err();
            assert!(error.contains(expected), "{flags:?}: {error}");
        }
    }

    fn scenario(load: &str) -> Scenario {
        let text = format!(
            "question = \"Gentle?\"\n[load]\nconnections = 1\n{load}\n[run]\npeers = [\"direct\"]\n\
             repeats = 2\n"
        );
        let source = scenario::ScenarioSource::parse("it", "it.toml", &text, &["direct".into()]);
        source.unwrap().resolve(false, &[]).unwrap()
    }

    #[test]
    fn a_target_is_called_gently_unless_the_user_says_otherwise() {
        let open = |rest: &str| scenario(&format!("loop = \"open\"\nduration = \"9s\"\n{rest}"));
        let rate =
            |scenario: &Scenario| gentle(scenario).unwrap().map(|one| one.origin().to_owned());
        assert_eq!(rate(&open("rate = \"100/s\"")), None);
        let capped = rate(&open("rate = \"5000/s\"")).unwrap();
        assert!(capped.starts_with("100/s for a --target"), "{capped}");
        let ramp = "rate = \"80/s\"\nprofile = { kind = \"ramp\", to = \"300/s\" }";
        assert_eq!(rate(&open(&ramp.replace("300", "90"))), None);
        for unbounded in [
            &*format!("loop = \"open\"\nduration = \"9s\"\n{ramp}"),
            "loop = \"closed\"\nduration = \"9s\"",
            "loop = \"open\"\nduration = \"9s\"\nrate = \"10/s\"\n\
             [load.search]\nslo = [\"p50 < 10ms\"]",
        ] {
            let failure = gentle(&scenario(unbounded)).unwrap_err();
            assert!(failure.message.contains("--rate scenario"), "{}", failure.message);
        }
    }

    #[test]
    fn what_other_machines_are_in_for_is_said_before() {
        let open = scenario("loop = \"open\"\nduration = \"9s\"\nrate = \"50/s\"");
        assert_eq!(planned(&open, 2), "about 2000 calls", "ten seconds, twice, of two");
        let closed = scenario("loop = \"closed\"\nduration = \"9s\"");
        assert_eq!(planned(&closed, 1), "as many calls as are answered in 2 trials");
        let here = |text: &str| is_here(text).unwrap();
        assert!(here("127.0.0.1:80") && here("[::1]:80") && here("[::ffff:127.0.0.1]:80"));
        assert!(!here("192.0.2.1:80"));
    }
}
