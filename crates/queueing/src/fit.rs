//! Which model fits a scenario, if any: backends, arrivals, layer and policy to
//! the law of one call's sojourn.
//!
//! The lab's own rules are assumed where a scenario doesn't say. Poisson arrivals
//! are dealt to connections by chance, which leaves each a Poisson stream;
//! constant arrivals are dealt in turn, which leaves each a constant stream. An
//! L4 balancer places a connection for good, an L7 balancer or a client places
//! each call.
//!
//! Left out on purpose: approximations. Where no exact answer is known, for
//! instance of lognormal service with several servers, the answer is a
//! [`NoFit`], because a curve that is drawn as theory has to be one.

use crate::{
    Error, Model, Service,
    bins::TurnPlacement,
    choices::FewestOf,
    gim::{Gaps, GiMc},
    mdc::MDc,
    mg1::MG1,
    mixture::Mixture,
    mmc::MMc,
    shortest::Shortest,
};

/// What theory needs to know of a scenario and a peer.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// Backends.
    pub backends: u32,
    /// Whether all backends have the same speed and weight.
    pub alike: bool,
    /// Servers of each backend: calls it works on at once.
    pub servers: u32,
    /// Service time of a call; `None` when backends answer at once.
    pub service: Option<Service>,
    /// How calls follow each other.
    pub arrivals: Arrivals,
    /// Calls per second over all connections; not read of a closed loop.
    pub rate: f64,
    /// Client connections.
    pub connections: u32,
    /// Where the peer balances.
    pub layer: Layer,
    /// How the peer picks.
    pub policy: Policy,
    /// Balancers that share the connections, where the peer has any.
    pub balancers: u32,
}

/// How calls follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrivals {
    /// Exponential gaps, dealt to connections by chance.
    Poisson,
    /// Equal gaps, dealt to connections in turn.
    Constant,
    /// A rate that changes: ramps, steps, bursts.
    Changing,
    /// Calls wait for each other.
    ClosedLoop,
}

/// Where a peer balances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// Nowhere: connections go to backends in turn.
    None,
    /// Connections are balanced.
    L4,
    /// Calls are balanced, by a proxy.
    L7,
    /// Calls are balanced, by the client.
    Client,
}

/// How a peer picks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Each in turn.
    RoundRobin,
    /// By chance.
    Random,
    /// The fewest in flight of all.
    LeastLoaded,
    /// The fewer in flight of two different ones.
    P2c,
    /// The fewest in flight of three different ones.
    P3c,
    /// Any other.
    Other,
}

/// A model that fits.
#[derive(Debug)]
pub struct Fit {
    /// The law of a call's sojourn in the backends.
    pub model: Box<dyn Model>,
    /// What the model takes for granted and a measurement may not grant, each a
    /// sentence.
    pub caveats: Vec<&'static str>,
}

/// Why no model fits.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum NoFit {
    /// Nothing queues.
    #[error("backends answer at once, so there is no queue to model")]
    NoService,
    /// Latency in a closed loop depends on the client.
    #[error(
        "in a closed loop calls wait for each other, and queueing theory's open models don't hold"
    )]
    ClosedLoop,
    /// No steady state.
    #[error("the rate changes during the trial, so there is no steady state to model")]
    Changing,
    /// Backends differ.
    #[error("the backends differ in speed or weight, and no closed form is known for that")]
    Unlike,
    /// Connections fall where chance has them.
    #[error(
        "connections are placed by chance or by state, so each trial has other loads; see the expected maximum share instead"
    )]
    PlacedByChance,
    /// Constant streams of unequal rates.
    #[error(
        "the connections don't divide evenly, and what constant streams add up to has no closed form"
    )]
    UnevenConstant,
    /// No exact answer is known.
    #[error("no exact answer is known for this service time with these arrivals and servers")]
    NoClosedForm,
    /// Several streams of turns, or several counts.
    #[error(
        "each of several balancers knows only its own calls, and no closed form is known for that; the more there are, the nearer they come to a choice by chance"
    )]
    Fleet,
    /// The policy's choice depends on what no model here has.
    #[error("no closed form is known for this policy")]
    Policy,
    /// There is a model, and it refused the figures.
    #[error(transparent)]
    Figures(#[from] Error),
}

const ONE_COUNTER: &str = "One counter for all connections is assumed. A balancer whose threads \
    count apart hands each backend a less even stream.";
const TRUE_COUNTS: &str = "Whoever picks is assumed to know the true number of calls in flight. \
    Balancers or threads that know only their own calls pick worse.";
const LIMIT: &str = "The limit of many backends is drawn. At a load of 0.85 twenty do about 5 % \
    worse, and a hundred 1 %.";

/// The model of a setting.
///
/// # Errors
/// When none fits, with the reason.
pub fn fit(setting: &Setting) -> Result<Fit, NoFit> {
    let service = setting.service.clone().ok_or(NoFit::NoService)?;
    match setting.arrivals {
        Arrivals::ClosedLoop => return Err(NoFit::ClosedLoop),
        Arrivals::Changing => return Err(NoFit::Changing),
        Arrivals::Poisson | Arrivals::Constant => {}
    }
    if !setting.alike {
        return Err(NoFit::Unlike);
    }
    service.check()?;
    let has_balancers = matches!(setting.layer, Layer::L4 | Layer::L7);
    if has_balancers && setting.balancers > 1 && setting.policy != Policy::Random {
        return Err(NoFit::Fleet);
    }
    match setting.layer {
        Layer::None | Layer::L4 => by_connection(setting, service),
        Layer::L7 | Layer::Client => by_call(setting, service),
    }
}

/// Connections are placed; each brings its share of the calls to one backend.
fn by_connection(setting: &Setting, service: Service) -> Result<Fit, NoFit> {
    let turns = TurnPlacement::new(setting.connections, setting.backends)?;
    let in_turn = setting.layer == Layer::None
        || matches!(setting.policy, Policy::RoundRobin | Policy::LeastLoaded);
    if !in_turn && setting.connections > 1 && setting.backends > 1 {
        return Err(NoFit::PlacedByChance);
    }
    let (connections, used) = (f64::from(setting.connections), f64::from(turns.used));
    if turns.max == turns.min || turns.min == 0 {
        let gaps = match setting.arrivals {
            Arrivals::Constant => Gaps::Constant,
            _ => Gaps::Erlang { stages: 1 },
        };
        let model = one_backend(gaps, setting.rate / used, setting.servers, service)?;
        return Ok(Fit { model, caveats: Vec::new() });
    }
    if setting.arrivals == Arrivals::Constant {
        return Err(NoFit::UnevenConstant);
    }
    let busier = f64::from(setting.connections % setting.backends);
    let parts = [(turns.max, busier), (turns.min, f64::from(setting.backends) - busier)]
        .into_iter()
        .map(|(count, backends)| {
            let share = f64::from(count) / connections;
            let poisson = Gaps::Erlang { stages: 1 };
            let rate = setting.rate * share;
            let model = one_backend(poisson, rate, setting.servers, service.clone())?;
            Ok((share * backends, model))
        })
        .collect::<Result<_, NoFit>>()?;
    Ok(Fit { model: Box::new(Mixture::new(parts)?), caveats: Vec::new() })
}

/// Each call is placed.
fn by_call(setting: &Setting, service: Service) -> Result<Fit, NoFit> {
    let n = f64::from(setting.backends);
    let poisson = setting.arrivals == Arrivals::Poisson;
    let policy = if setting.backends == 1 { Policy::Random } else { setting.policy };
    let (gaps, caveats) = match policy {
        Policy::Random if poisson => (Gaps::Erlang { stages: 1 }, Vec::new()),
        Policy::Random => (Gaps::ThinnedConstant { kept: 1.0 / n }, Vec::new()),
        Policy::RoundRobin if poisson => {
            (Gaps::Erlang { stages: setting.backends }, vec![ONE_COUNTER])
        }
        Policy::RoundRobin => (Gaps::Constant, vec![ONE_COUNTER]),
        Policy::LeastLoaded => return fewest(setting, setting.backends, service),
        Policy::P2c => return fewest(setting, 2, service),
        Policy::P3c => return fewest(setting, setting.backends.min(3), service),
        Policy::Other => return Err(NoFit::Policy),
    };
    let model = one_backend(gaps, setting.rate / n, setting.servers, service)?;
    Ok(Fit { model, caveats })
}

/// The fewest in flight of some choices: exactly if the chain is small, in the
/// limit if there is one.
fn fewest(setting: &Setting, choices: u32, service: Service) -> Result<Fit, NoFit> {
    let Service::Exponential { mean_s } = service else { return Err(NoFit::NoClosedForm) };
    if setting.arrivals != Arrivals::Poisson {
        return Err(NoFit::NoClosedForm);
    }
    let (n, c, rate) = (setting.backends, setting.servers, setting.rate);
    match Shortest::new(n, c, choices, rate, 1.0 / mean_s) {
        Ok(model) => Ok(Fit { model: Box::new(model), caveats: vec![TRUE_COUNTS] }),
        Err(Error::TooLarge { .. }) if choices < n && c == 1 => {
            let model = FewestOf::new(choices, rate / f64::from(n), 1.0 / mean_s)?;
            Ok(Fit { model: Box::new(model), caveats: vec![TRUE_COUNTS, LIMIT] })
        }
        Err(error) => Err(error.into()),
    }
}

/// One backend under a stream of calls.
fn one_backend(
    gaps: Gaps,
    rate: f64,
    servers: u32,
    service: Service,
) -> Result<Box<dyn Model>, NoFit> {
    Ok(match (gaps, service) {
        (Gaps::Erlang { stages: 1 }, Service::Exponential { mean_s }) => {
            Box::new(MMc::new(rate, 1.0 / mean_s, servers)?)
        }
        (gaps, Service::Exponential { mean_s }) => {
            Box::new(GiMc::new(gaps, rate, 1.0 / mean_s, servers)?)
        }
        (Gaps::Erlang { stages }, Service::Constant { value_s }) => {
            Box::new(MDc::in_turn(stages, rate, value_s, servers)?)
        }
        (Gaps::Erlang { stages: 1 }, service) if servers == 1 => Box::new(MG1::new(rate, service)?),
        (Gaps::Constant, Service::Constant { value_s }) => {
            Box::new(NoWait::new(rate, value_s, servers)?)
        }
        _ => return Err(NoFit::NoClosedForm),
    })
}

/// D/D/c: constant gaps, constant service, and a server always free in time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NoWait {
    servers: u32,
    utilisation: f64,
    service_s: f64,
}

impl NoWait {
    /// `arrival_rate` is per second.
    ///
    /// # Errors
    /// When a figure is not positive, or the servers can't keep up.
    pub fn new(arrival_rate: f64, service_s: f64, servers: u32) -> Result<Self, Error> {
        let lambda = crate::model::positive("the arrival rate", arrival_rate)?;
        let service_s = crate::model::positive("the service time", service_s)?;
        let c = crate::model::positive("the number of servers", f64::from(servers))?;
        let utilisation = crate::model::settles(lambda * service_s / c)?;
        Ok(Self { servers, utilisation, service_s })
    }
}

impl Model for NoWait {
    fn name(&self) -> String {
        format!("D/D/{}", self.servers)
    }

    fn utilisation(&self) -> f64 {
        self.utilisation
    }

    fn mean_s(&self) -> f64 {
        self.service_s
    }

    fn tail(&self, t_s: f64) -> Option<f64> {
        Some(f64::from(u8::from(t_s < self.service_s)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPONENTIAL: Service = Service::Exponential { mean_s: 0.004 };
    const CONSTANT: Service = Service::Constant { value_s: 0.004 };
    const LOGNORMAL: Service = Service::Lognormal { mean_s: 0.004, sigma: 1.0 };

    const BASE: Setting = Setting {
        backends: 4,
        alike: true,
        servers: 1,
        service: Some(EXPONENTIAL),
        arrivals: Arrivals::Poisson,
        rate: 700.0,
        connections: 4,
        layer: Layer::L7,
        policy: Policy::RoundRobin,
        balancers: 1,
    };

    fn name(setting: Setting) -> String {
        fit(&setting).unwrap().model.name()
    }

    #[test]
    fn balancers_of_calls_get_the_model_of_their_policy() {
        let of = |policy, service| name(Setting { policy, service: Some(service), ..BASE });
        assert_eq!(of(Policy::RoundRobin, EXPONENTIAL), "E_4/M/1");
        assert_eq!(of(Policy::RoundRobin, CONSTANT), "E_4/D/1");
        assert_eq!(of(Policy::Random, EXPONENTIAL), "M/M/1");
        assert_eq!(of(Policy::Random, CONSTANT), "M/D/1");
        assert_eq!(of(Policy::Random, LOGNORMAL), "M/G/1, lognormal");
        assert_eq!(of(Policy::P2c, EXPONENTIAL), "power of two choices among 4 M/1 queues");
        assert_eq!(of(Policy::LeastLoaded, EXPONENTIAL), "shortest of 4 M/1 queues");
        let servers = Setting { servers: 3, ..BASE };
        assert_eq!(name(servers), "E_4/M/3");
        let many = Setting { backends: 100, rate: 17_500.0, policy: Policy::P2c, ..BASE };
        let found = fit(&many).unwrap();
        assert_eq!(found.model.name(), "power of two choices, limit of many backends");
        assert!(found.caveats.contains(&LIMIT));
    }

    #[test]
    fn constant_arrivals_have_models_of_their_own() {
        let of = |policy, service| {
            name(Setting { policy, service: Some(service), arrivals: Arrivals::Constant, ..BASE })
        };
        assert_eq!(of(Policy::RoundRobin, EXPONENTIAL), "D/M/1");
        assert_eq!(of(Policy::RoundRobin, CONSTANT), "D/D/1");
        assert_eq!(of(Policy::Random, EXPONENTIAL), "Geo/M/1");
    }

    #[test]
    fn balancers_of_connections_load_backends_by_their_connections() {
        let base = Setting { layer: Layer::L4, ..BASE };
        assert_eq!(name(base.clone()), "M/M/1");
        // One connection: one backend has it all, four times what it can take.
        let one = Setting { connections: 1, ..base.clone() };
        assert!(matches!(fit(&one), Err(NoFit::Figures(Error::Overloaded { .. }))));
        let one = Setting { rate: 175.0, ..one.clone() };
        assert!((fit(&one).unwrap().model.utilisation() - 0.7).abs() < 1e-12);
        let uneven = Setting { connections: 5, rate: 500.0, ..base.clone() };
        let model = fit(&uneven).unwrap().model;
        // Two fifths of 500 calls/s on one backend, one fifth on each other.
        let mean = 0.4 / (250.0 - 200.0) + 0.6 / (250.0 - 100.0);
        assert!((model.mean_s() - mean).abs() < 1e-12, "{}", model.mean_s());
        let random = Setting { policy: Policy::Random, ..base.clone() };
        assert_eq!(fit(&random).unwrap_err(), NoFit::PlacedByChance);
        let constant = Setting { arrivals: Arrivals::Constant, ..uneven.clone() };
        assert_eq!(fit(&constant).unwrap_err(), NoFit::UnevenConstant);
        let direct = Setting { layer: Layer::None, policy: Policy::P2c, ..BASE };
        assert_eq!(name(direct), "M/M/1");
    }

    #[test]
    fn several_balancers_are_alike_only_where_they_need_to_know_nothing() {
        let fleet = Setting { balancers: 4, ..BASE };
        for policy in [Policy::RoundRobin, Policy::LeastLoaded, Policy::P2c] {
            assert_eq!(fit(&Setting { policy, ..fleet.clone() }).unwrap_err(), NoFit::Fleet);
        }
        assert_eq!(fit(&Setting { layer: Layer::L4, ..fleet.clone() }).unwrap_err(), NoFit::Fleet);
        assert_eq!(name(Setting { policy: Policy::Random, ..fleet.clone() }), "M/M/1");
        assert_eq!(name(Setting { layer: Layer::None, ..fleet.clone() }), "M/M/1");
    }

    #[test]
    fn what_has_no_exact_answer_has_no_model() {
        let fails = |setting| fit(&setting).unwrap_err();
        assert_eq!(fails(Setting { service: None, ..BASE }), NoFit::NoService);
        assert_eq!(fails(Setting { arrivals: Arrivals::ClosedLoop, ..BASE }), NoFit::ClosedLoop);
        assert_eq!(fails(Setting { arrivals: Arrivals::Changing, ..BASE }), NoFit::Changing);
        assert_eq!(fails(Setting { alike: false, ..BASE }), NoFit::Unlike);
        assert_eq!(fails(Setting { policy: Policy::Other, ..BASE }), NoFit::Policy);
        let lognormal = Setting { service: Some(LOGNORMAL), ..BASE };
        assert_eq!(fails(lognormal.clone()), NoFit::NoClosedForm);
        assert_eq!(
            fails(Setting { policy: Policy::P2c, ..lognormal.clone() }),
            NoFit::NoClosedForm
        );
        let servers = Setting { servers: 2, policy: Policy::Random, ..lognormal.clone() };
        assert_eq!(fails(servers), NoFit::NoClosedForm);
        let overload = Setting { rate: 1_000.0, ..BASE };
        assert!(matches!(fails(overload), NoFit::Figures(Error::Overloaded { .. })));
        for (backends, limit) in [(20, "states"), (100, "backends")] {
            let shortest = Setting { backends, policy: Policy::LeastLoaded, ..BASE };
            assert!(matches!(fails(shortest.clone()), NoFit::Figures(Error::TooLarge { .. })));
            let message = fails(shortest).to_string();
            assert!(message.contains(limit), "{message}");
        }
    }

    #[test]
    fn nonsense_is_an_error_and_no_panic() {
        for backends in [0, 1, u32::MAX] {
            for servers in [0, 1, u32::MAX] {
                for rate in [f64::NAN, -1.0, 0.0, 1e300] {
                    for policy in [Policy::RoundRobin, Policy::P2c, Policy::LeastLoaded] {
                        let setting = Setting { backends, servers, rate, policy, ..BASE };
                        assert!(fit(&setting).is_err(), "{setting:?}");
                        let setting =
                            Setting { layer: Layer::L4, service: Some(CONSTANT), ..setting };
                        assert!(fit(&setting).is_err(), "{setting:?}");
                    }
                }
            }
        }
    }
}
