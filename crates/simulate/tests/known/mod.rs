//! Questions whose answers are known: from formulas, from papers, from arithmetic. The
//! test `known_answers` asks each shortly, the example `truth` asks at length and prints
//! the table.

mod policies;

use balance::{PolicyKind, Subset, Subsetting, Tuning};
use measure::{
    calllog::{Entry, Outcome},
    histogram::{new_histogram, quantile, record},
};
use queueing::{
    Model, Service,
    bins::RandomPlacement,
    choices::FewestOf,
    gim::{Gaps, GiMc},
    mdc::MDc,
    mmc::MMc,
};
use simulate::{
    Arrival, Backend, Distribution, Fleet, Layer, Load, LoadView, Pace, Path, Poisson, Setup, run,
};

/// Mean service time.
const SERVICE_S: f64 = 1e-3;
/// The part of a simulation that is left out, since it begins with nothing in flight.
const SETTLING: f64 = 0.2;

/// One figure whose value is known.
pub(crate) struct Case {
    /// What is simulated.
    pub(crate) name: String,
    /// The figure.
    pub(crate) figure: &'static str,
    /// Who says what it is.
    pub(crate) source: &'static str,
    /// What it is.
    pub(crate) wanted: Wanted,
    /// Whether it takes the full length to settle.
    pub(crate) is_long: bool,
    /// The figure of one simulation, with a part of its full length and a seed.
    pub(crate) simulate: Box<dyn Fn(f64, u64) -> f64 + Send + Sync>,
}

/// What is known of a figure.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wanted {
    /// Its value.
    Value(f64),
    /// That it is above this.
    Above(f64),
    /// That it is below this.
    Below(f64),
}

/// Every case.
pub(crate) fn all() -> Vec<Case> {
    let all = [queues(), bins(), supermarket(), idle(), stale(), subsets(), fan_out()];
    all.into_iter().chain([policies::all()]).flatten().collect()
}

fn setup(count: u32, servers: u32, policy: PolicyKind, service: Service) -> Setup {
    let backend = Backend {
        servers,
        service: Distribution::Of(service),
        speed: 1.0,
        weight: 1,
        is_member: true,
        zone: 0,
    };
    Setup {
        backends: vec![backend; count as usize],
        layer: Layer::L7,
        policy,
        tuning: Tuning::default(),
        fleet: Fleet::ONE,
        zones: None,
        load: Load {
            pace: Pace::Open,
            connections: 1,
            connections_per_client: 1,
            streams: u32::MAX,
            connection_calls: None,
            passes: 1,
            give_up_ns: u64::MAX,
        },
        connection_age_ns: None,
        path: Path::NONE,
        faults: Vec::new(),
    }
}

const EXPONENTIAL: Service = Service::Exponential { mean_s: SERVICE_S };
const CONSTANT: Service = Service::Constant { value_s: SERVICE_S };

/// What is asked of the times in the system.
#[derive(Clone, Copy)]
enum Figure {
    Mean,
    P99,
}

/// A figure of the times in the system, in mean service times, at a load.
fn sojourn(setup: &Setup, load: f64, calls: f64, seed: u64, figure: Figure) -> f64 {
    let servers: u32 = setup.backends.iter().map(|backend| backend.servers).sum();
    let rate = load * f64::from(servers) / SERVICE_S;
    let mut arrivals = Poisson::new(rate, setup.load.connections, calls as u64, seed);
    let from_ns = (SETTLING * calls / rate * 1e9) as u64;
    let (mut sum, mut count, mut times) = (0.0, 0_u64, new_histogram());
    let mut sink = |entry: &Entry, _| {
        if entry.due_ns >= from_ns {
            let sojourn_ns = entry.done_ns - entry.due_ns;
            match figure {
                Figure::Mean => sum += sojourn_ns as f64,
                Figure::P99 => record(&mut times, sojourn_ns),
            }
            count += 1;
        }
    };
    run(setup, &mut arrivals, seed, &mut sink).expect("the setup is right");
    let ns = match figure {
        Figure::Mean => sum / count as f64,
        Figure::P99 => quantile(&times, 0.99).unwrap_or(0) as f64,
    };
    ns / (SERVICE_S * 1e9)
}

/// The queues of `queueing`, mean and p99.
fn queues() -> Vec<Case> {
    let mu = 1.0 / SERVICE_S;
    let of = |backends, servers, policy, service: Service, load, model: Box<dyn Model>| {
        [(Figure::Mean, "mean"), (Figure::P99, "p99")].map(|(figure, name)| {
            let setup = setup(backends, servers, policy, service.clone());
            let wanted = match figure {
                Figure::Mean => model.mean_s(),
                Figure::P99 => model.quantile_s(0.99).expect("the model has quantiles"),
            };
            Case {
                name: format!("{} at load {load}", model.name()),
                figure: name,
                source: "`queueing`",
                wanted: Wanted::Value(wanted / SERVICE_S),
                is_long: false,
                simulate: Box::new(move |part, seed| {
                    sojourn(&setup, load, part * 8e6, seed, figure)
                }),
            }
        })
    };
    let right = "a stable queue";
    let (random, turns) = (PolicyKind::Random, PolicyKind::RoundRobin);
    let mm1 = MMc::single(0.7 * mu, mu).expect(right);
    let mm4 = MMc::new(3.2 * mu, mu, 4).expect(right);
    let md1 = MDc::single(0.7 * mu, SERVICE_S).expect(right);
    let md4 = MDc::new(3.2 * mu, SERVICE_S, 4).expect(right);
    let erlang = |servers| {
        let rate = 0.8 * f64::from(servers) * mu;
        GiMc::new(Gaps::Erlang { stages: 4 }, rate, mu, servers).expect(right)
    };
    [
        of(1, 1, random, EXPONENTIAL, 0.7, Box::new(mm1)),
        of(1, 4, random, EXPONENTIAL, 0.8, Box::new(mm4)),
        of(1, 1, random, CONSTANT, 0.7, Box::new(md1)),
        of(1, 4, random, CONSTANT, 0.8, Box::new(md4)),
        of(4, 1, turns, EXPONENTIAL, 0.8, Box::new(erlang(1))),
        of(4, 3, turns, EXPONENTIAL, 0.8, Box::new(erlang(3))),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// One call on each connection, all at once.
fn one_each(connections: u32) -> impl Iterator<Item = Arrival> {
    (0..connections).map(|connection| Arrival { due_ns: 0, connection })
}

/// Calls of each backend.
fn calls_of(setup: &Setup, arrivals: &mut dyn Iterator<Item = Arrival>, seed: u64) -> Vec<u32> {
    let mut calls = vec![0; setup.backends.len()];
    let mut sink = |entry: &Entry, _| {
        if let Outcome::Served { backend, .. } = entry.outcome {
            calls[usize::from(backend)] += 1;
        }
    };
    run(setup, arrivals, seed, &mut sink).expect("the setup is right");
    calls
}

/// Connections placed by chance.
fn bins() -> Vec<Case> {
    let case = |connections: u32, backends: u32| {
        let placed = RandomPlacement::new(connections, backends).expect("there are some");
        let mut setup = setup(backends, 1, PolicyKind::Random, CONSTANT);
        setup.layer = Layer::L4;
        setup.load.connections = connections;
        Case {
            name: format!("{connections} connections by chance on {backends} backends, L4"),
            figure: "busiest share",
            source: "balls in bins, `queueing`",
            wanted: Wanted::Value(placed.expected_max_share()),
            is_long: false,
            simulate: Box::new(move |part, seed| {
                let rounds = (part * 8_000.0) as u64;
                let share = |round| {
                    let seed = seed << 32 | round;
                    let calls = calls_of(&setup, &mut one_each(connections), seed);
                    f64::from(calls.into_iter().max().unwrap_or(0)) / f64::from(connections)
                };
                (0..rounds).map(share).sum::<f64>() / rounds as f64
            }),
        }
    };
    vec![case(4, 4), case(64, 4), case(300, 60)]
}

/// The shortest of two or three queues drawn by chance, of very many.
fn supermarket() -> Vec<Case> {
    let (two, three) = (PolicyKind::P2c, PolicyKind::P3c);
    let known = [
        (two, 0.5, 1.2657),
        (two, 0.7, 1.6145),
        (two, 0.8, 1.9474),
        (two, 0.9, 2.6141),
        (two, 0.95, 3.3830),
        (two, 0.99, 5.4320),
        (three, 0.9, 2.0279),
        (three, 0.99, 3.8578),
    ];
    known
        .into_iter()
        .map(|(policy, load, mean)| {
            let choices = if policy == two { 2 } else { 3 };
            let model = FewestOf::new(choices, load, 1.0).expect("a stable queue");
            assert!((model.mean_s() / mean - 1.0).abs() < 1e-3, "{load}: {}", model.mean_s());
            Case {
                name: format!("{policy} over many backends at load {load}"),
                figure: "mean",
                source: "Mitzenmacher 2001, table 1",
                wanted: Wanted::Value(mean),
                is_long: load > 0.9,
                simulate: Box::new(move |part, seed| {
                    // Fewer backends make shorter work of it, and a longer queue.
                    let backends = if part < 0.1 { 300 } else { 4_000 };
                    let setup = setup(backends, 1, policy, EXPONENTIAL);
                    sojourn(&setup, load, part * 12e6, seed, Figure::Mean)
                }),
            }
        })
        .collect()
}

/// Backends for each balancer in the join-idle-queue cases.
const BACKENDS_EACH: u32 = 10;

/// The chance that a balancer's idle queue is empty, in the limit of very many balancers: a
/// queue that grows as backends become idle, and shrinks by the calls that come to the
/// balancer and by those that reach its backends from elsewhere by chance.
fn empty_idle_queue(load: f64) -> f64 {
    let each = f64::from(BACKENDS_EACH);
    // The mean length and the chance of none, for these births and strays per backend.
    let queue = |births: f64, strays: f64| {
        let (mut part, mut sum, mut length) = (1.0, 1.0, 0.0);
        for n in (1..2_000).map(f64::from) {
            part *= births / (each * load + n * strays);
            sum += part;
            length += n * part;
        }
        (length / sum, 1.0 / sum)
    };
    // As many births as make as many backends idle as there are at this load.
    let at = |strays: f64| {
        let births = bisect(0.0, each * load + each, |births| {
            let length = queue(births, strays).0;
            length.is_nan() || length > each * (1.0 - load)
        });
        queue(births, strays).1
    };
    // What is sent by chance is what finds the queue empty.
    bisect(0.0, 1.0, |empty| at(load * empty) < empty)
}

/// Where a condition begins to hold.
fn bisect(mut low: f64, mut high: f64, holds: impl Fn(f64) -> bool) -> f64 {
    for _ in 0..50 {
        let middle = f64::midpoint(low, high);
        if holds(middle) { high = middle } else { low = middle }
    }
    f64::midpoint(low, high)
}

/// Join-idle-queue in the limit of very many backends. Calls that find no idle backend go
/// to any by chance; a busy one gets them as M/M/1 does. Lu et al. take the idle queue for
/// M/M/1 too, which it is where no call by chance reaches an idle backend.
fn idle() -> Vec<Case> {
    [
        (0.5, "mean field; by Lu et al. 2011, 1.0909"),
        (0.7, "mean field; by Lu et al. 2011, 1.2121"),
        (0.9, "mean field; by Lu et al. 2011, 1.8182"),
        (0.99, "mean field; by Lu et al. 2011, 10.000"),
    ]
    .into_iter()
    .map(|(load, source)| Case {
        name: format!("join_idle_queue over many backends at load {load}"),
        figure: "mean",
        source,
        wanted: Wanted::Value(1.0 / (1.0 - load * empty_idle_queue(load))),
        is_long: load > 0.9,
        simulate: Box::new(move |part, seed| {
            // Who looks for an idle one among all takes long over more.
            let backends = if part < 0.1 { 300 } else { 500 };
            let mut setup = setup(backends, 1, PolicyKind::JoinIdleQueue, EXPONENTIAL);
            setup.fleet.balancers = backends / BACKENDS_EACH;
            setup.fleet.view = LoadView::IdleReported;
            // Each call comes to a balancer by chance.
            setup.load.connections = setup.fleet.balancers;
            sojourn(&setup, load, part * 12e6, seed, Figure::Mean)
        }),
    })
    .collect()
}

/// A hundred backends at load 0.9 that report their load from time to time.
fn stale() -> Vec<Case> {
    let mean = |policy, age: f64, part: f64, seed| {
        let every_ns = (age * SERVICE_S * 1e9) as u64;
        let mut setup = setup(100, 1, policy, EXPONENTIAL);
        setup.fleet.view = LoadView::Reported { every_ns };
        sojourn(&setup, 0.9, part * 2e6, seed, Figure::Mean)
    };
    let case = |age: f64, one: PolicyKind, other: PolicyKind, wanted| Case {
        name: format!("load reported every {age} service times: {one} over {other}"),
        figure: "ratio of means",
        source: "Mitzenmacher 2000, figure 2; Brooker 2012",
        wanted,
        is_long: false,
        simulate: Box::new(move |part, seed| {
            mean(one, age, part, seed) / mean(other, age, part, seed)
        }),
    };
    let (all, two, random) = (PolicyKind::LeastLoaded, PolicyKind::P2c, PolicyKind::Random);
    vec![
        case(0.1, all, two, Wanted::Below(1.0)),
        case(0.1, two, random, Wanted::Below(1.0)),
        case(5.0, two, random, Wanted::Below(1.0)),
        case(5.0, two, all, Wanted::Below(1.0)),
        case(20.0, all, random, Wanted::Above(1.0)),
        case(20.0, two, all, Wanted::Below(1.0)),
    ]
}

/// Clients that draw a subset of the backends each, by chance.
#[derive(Clone, Copy)]
struct Drawn {
    clients: u32,
    backends: u32,
    size: u32,
    /// Whether the busiest backend is asked about, or the idlest.
    is_max: bool,
}

impl Drawn {
    /// Connections of a backend on average.
    fn mean(self) -> f64 {
        f64::from(self.clients * self.size) / f64::from(self.backends)
    }

    /// The chances that the extreme is at most 0, 1, ... connections, as if each backend
    /// were in the subset of each client with a chance of its own.
    fn cdf(self) -> Vec<f64> {
        let (n, backends) = (f64::from(self.clients), self.backends.cast_signed());
        let chance = f64::from(self.size) / f64::from(self.backends);
        // By logarithms: no client at all is rarer than the smallest number.
        let mut ln_pmf = n * (1.0 - chance).ln();
        let mut cdf = 0.0;
        let upto = |k: u32| {
            cdf = f64::min(cdf + ln_pmf.exp(), 1.0);
            ln_pmf += ((n - f64::from(k)) / f64::from(k + 1) * chance / (1.0 - chance)).ln();
            if self.is_max { cdf.powi(backends) } else { 1.0 - (1.0 - cdf).powi(backends) }
        };
        (0..self.clients).map(upto).collect()
    }

    /// Connections of the extreme on average.
    fn expected(self) -> f64 {
        self.cdf().iter().map(|upto| 1.0 - upto).sum()
    }

    /// Connections of the extreme in so many draws.
    fn extremes(self, rounds: u32, seed: u64) -> impl Iterator<Item = u32> {
        let mut setup = setup(self.backends, 1, PolicyKind::RoundRobin, CONSTANT);
        setup.layer = Layer::Client;
        setup.load.connections = self.clients;
        setup.fleet.subset = Some(Subset { size: self.size, subsetting: Subsetting::Random });
        (0..rounds).map(move |round| {
            setup.fleet.salt = seed << 32 | u64::from(round);
            // As many calls by each client as it has backends: one to each.
            let mut calls = (0..self.size).flat_map(|_| one_each(self.clients));
            let calls = calls_of(&setup, &mut calls, seed).into_iter();
            if self.is_max { calls.max() } else { calls.min() }.unwrap_or(0)
        })
    }

    fn name(self) -> String {
        let Self { clients, backends, size, .. } = self;
        format!("{clients} clients, each with {size} of {backends} backends at random")
    }

    /// How far the extreme is off the mean, on average.
    fn on_average(self, source: &'static str) -> Case {
        let mean = self.mean();
        Case {
            name: self.name(),
            figure: if self.is_max { "busiest over mean" } else { "idlest over mean" },
            source,
            wanted: Wanted::Value(self.expected() / mean),
            is_long: false,
            simulate: Box::new(move |part, seed| {
                let rounds = (part * 200.0).max(6.0) as u32;
                let sum: f64 = self.extremes(rounds, seed).map(f64::from).sum();
                sum / f64::from(rounds) / mean
            }),
        }
    }

    /// How often a draw is at least as uneven as one that was published.
    fn as_uneven_as(self, connections: u32, figure: &'static str, source: &'static str) -> Case {
        let cdf = self.cdf();
        let chance = match self.is_max {
            true => 1.0 - cdf[connections as usize - 1],
            false => cdf[connections as usize],
        };
        Case {
            name: self.name(),
            figure,
            source,
            wanted: Wanted::Value(chance),
            // Of few draws a share says nothing.
            is_long: true,
            simulate: Box::new(move |part, seed| {
                let rounds = (part * 200.0).max(6.0) as u32;
                let is_so = |extreme: &u32| match self.is_max {
                    true => *extreme >= connections,
                    false => *extreme <= connections,
                };
                self.extremes(rounds, seed).filter(is_so).count() as f64 / f64::from(rounds)
            }),
        }
    }
}

/// Random subsets: how many clients are connected to the idlest and busiest backend.
fn subsets() -> Vec<Case> {
    let drawn = |clients, backends, size, is_max| Drawn { clients, backends, size, is_max };
    let (book, a68) = ("SRE book, figure 20-3 (one draw: 63 %, 121 %)", "gRFC A68");
    let tenth = "SRE book, figure 20-5 (one draw: 50 %, 150 %)";
    vec![
        drawn(300, 300, 90, false).on_average(book),
        drawn(300, 300, 90, true).on_average(book),
        drawn(300, 300, 30, false).on_average(tenth),
        drawn(300, 300, 30, true).on_average(tenth),
        drawn(300, 300, 90, true).as_uneven_as(109, "draws of 121 % and more", book),
        drawn(300, 300, 30, false).as_uneven_as(15, "draws of 50 % and less", tenth),
        drawn(300, 300, 30, true).as_uneven_as(45, "draws of 150 % and more", tenth),
        drawn(100, 100, 5, true).on_average(a68),
        drawn(100, 100, 25, true).on_average(a68),
        drawn(100, 10, 5, true).on_average(a68),
        drawn(500, 10, 5, true).on_average(a68),
        drawn(2_000, 10, 5, true).on_average(a68),
    ]
}

/// A hundred calls at a time, of which one in a hundred is slow: how often at least one is.
fn fan_out() -> Vec<Case> {
    const LEAVES: u32 = 100;
    let simulate = |part: f64, seed| {
        let service = Service::Bimodal { common_s: 1e-3, rare_s: 1.0, rare_share: 0.01 };
        let setup = setup(LEAVES, LEAVES, PolicyKind::RoundRobin, service);
        let roots = (part * 200_000.0) as u64;
        let calls = (0..roots).flat_map(|root| {
            (0..LEAVES).map(move |_| Arrival { due_ns: root * 2_000_000_000, connection: 0 })
        });
        let mut last_ns = u64::MAX;
        let mut slow = 0_u64;
        let mut sink = |entry: &Entry, _| {
            if entry.done_ns - entry.due_ns > 500_000_000 && entry.due_ns != last_ns {
                last_ns = entry.due_ns;
                slow += 1;
            }
        };
        run(&setup, &mut calls.into_iter(), seed, &mut sink).expect("the setup is right");
        slow as f64 / roots as f64
    };
    vec![Case {
        name: "100 calls at once, one in 100 slow".to_owned(),
        figure: "fan-outs with a slow one",
        source: "Dean and Barroso 2013",
        wanted: Wanted::Value(1.0 - 0.99_f64.powi(100)),
        is_long: false,
        simulate: Box::new(simulate),
    }]
}
