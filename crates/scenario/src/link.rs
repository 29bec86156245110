//! Links that take time, checked: which two ends each is between, and what it does to packets.

use std::{sync::Arc, time::Duration};

use measure::record::Network;
use serde::Serialize;

use crate::{
    backends::Backend,
    bounds::{self, time_within, within},
    client::Client,
    error::Problem,
    quantity::{BitRateText, DurationText, PercentText, duration_as_text},
    wire::LinkWire,
    zones::Zones,
};

/// Packets that may wait for a rate, beside those that are under way: as in netem.
const DEFAULT_QUEUE: u32 = 1_000;
/// Packets held where no rate makes any wait: 50 ms of 400,000 packets a second.
const DEFAULT_HELD: u32 = 20_000;
/// Bytes of a full packet.
const FULL_PACKET: u64 = 1_500;

/// All links that are not as fast as the machine; no two between the same ends.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Links(Vec<Link>);

/// A link between two parts of the lab that is not as fast as the machine.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Link {
    /// Its two ends, as [`Ends::names`] writes them.
    #[serde(serialize_with = "names")]
    pub between: Ends,
    /// What it does to packets, the same in each direction.
    #[serde(flatten)]
    pub settings: LinkSettings,
}

/// What a link is between. A backend of its own goes before all of them, and two zones before any
/// two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ends {
    /// The client and the balancer.
    ClientBalancer,
    /// The balancer and each backend, or one of them by its index.
    BalancerBackend(Option<usize>),
    /// The client and each backend, or one of them by its index: a way of their own that leads
    /// by no balancer.
    ClientBackend(Option<usize>),
    /// Any two zones, or two of them by their names, in order: what goes from one to the other
    /// crosses it, beside the links of the parts that it is between.
    Zones(Option<[Arc<str>; 2]>),
}

/// What a link does to packets, in the words of netem (tc-netem(8)).
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct LinkSettings {
    /// How long a packet is under way, one way.
    #[serde(serialize_with = "duration_as_text")]
    pub delay: Duration,
    /// How much less or more that may be.
    #[serde(serialize_with = "duration_as_text")]
    pub jitter: Duration,
    /// The part of the packets that is lost.
    pub loss: f64,
    /// Bits per second in each direction; `None` for as many as can be.
    pub rate: Option<u64>,
    /// Packets held at a time in each direction; more are dropped.
    pub limit: u32,
    /// Whether packets may overtake each other where there is jitter.
    pub reorder: bool,
}

impl Ends {
    /// The border between two zones, by their names.
    pub fn zones(one: &str, other: &str) -> Self {
        let mut names = [Arc::from(one), Arc::from(other)];
        names.sort_unstable();
        Self::Zones(Some(names))
    }

    /// Their names in a file: `client`, `balancer`, `backends`, or a backend's id; `zones`, or
    /// `zones.` and the name of one.
    pub fn names(&self) -> [String; 2] {
        let backend = |index: &Option<usize>| {
            index.map_or_else(|| "backends".to_owned(), |index| format!("b{index}"))
        };
        match self {
            Self::ClientBalancer => ["client".to_owned(), "balancer".to_owned()],
            Self::BalancerBackend(index) => ["balancer".to_owned(), backend(index)],
            Self::ClientBackend(index) => ["client".to_owned(), backend(index)],
            Self::Zones(None) => [ZONES, ZONES].map(str::to_owned),
            Self::Zones(Some(two)) => two.each_ref().map(|name| format!("{ZONES}.{name}")),
        }
    }

    /// Whether it is of one backend, which may differ from the others.
    pub fn is_of_one_backend(&self) -> bool {
        matches!(self, Self::BalancerBackend(Some(_)) | Self::ClientBackend(Some(_)))
    }

    /// Whether it is between zones, and not between the parts in them.
    pub fn are_zones(&self) -> bool {
        matches!(self, Self::Zones(_))
    }

    /// The same between all backends, or any two zones, where it is of one or of two.
    fn of_all(&self) -> Self {
        match self {
            Self::ClientBalancer => Self::ClientBalancer,
            Self::BalancerBackend(_) => Self::BalancerBackend(None),
            Self::ClientBackend(_) => Self::ClientBackend(None),
            Self::Zones(_) => Self::Zones(None),
        }
    }
}

/// What stands for all zones in a file, and begins the name of one.
const ZONES: &str = "zones";

fn names<S: serde::Serializer>(ends: &Ends, serializer: S) -> Result<S::Ok, S::Error> {
    ends.names().serialize(serializer)
}

impl LinkSettings {
    /// Whether it is as fast as the machine after all.
    pub fn is_plain(&self) -> bool {
        self.delay.is_zero() && self.loss == 0.0 && self.rate.is_none()
    }
}

impl Links {
    /// What the link between two parts is set to, a backend by its index, or between two zones;
    /// `None` where nothing is.
    pub fn of(&self, between: &Ends) -> Option<&LinkSettings> {
        let of = |ends: &Ends| self.0.iter().find(|link| link.between == *ends);
        of(between).or_else(|| of(&between.of_all())).map(|link| &link.settings)
    }

    /// Whether client and backends have a way of their own, which leads by no balancer.
    pub fn are_direct(&self) -> bool {
        self.0.iter().any(|link| matches!(link.between, Ends::ClientBackend(_)))
    }

    /// Whether zones are apart, so that it matters in which of them clients and balancers are.
    pub fn are_zoned(&self) -> bool {
        self.0.iter().any(|link| link.between.are_zones())
    }

    /// Each, as the scenario has them.
    pub fn iter(&self) -> impl Iterator<Item = &Link> {
        self.0.iter()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The longest that a packet is under way between client and backend, by the balancer or
    /// not, one way.
    pub(crate) fn longest_way(&self) -> Duration {
        let longest = |of: fn(&Ends) -> bool| {
            let links = self.0.iter().filter(|link| of(&link.between));
            links.map(|link| link.settings.delay + link.settings.jitter).max().unwrap_or_default()
        };
        let to_balancer = longest(|ends| *ends == Ends::ClientBalancer);
        let between_zones = longest(Ends::are_zones);
        let to_backend = longest(|ends| matches!(ends, Ends::BalancerBackend(_)));
        let direct = longest(|ends| matches!(ends, Ends::ClientBackend(_)));
        (to_balancer + between_zones + to_backend).max(direct)
    }
}

/// What links are between.
pub(crate) struct Surroundings<'a> {
    pub(crate) network: Network,
    pub(crate) backends: &'a [Backend],
    pub(crate) zones: Option<&'a Zones>,
    pub(crate) client: Client,
}

/// Checks all links.
pub(crate) fn check_links(wire: &[LinkWire], around: &Surroundings<'_>) -> Result<Links, Problem> {
    if let (Some(_), Network::Loopback) = (wire.first(), around.network) {
        let message = "the loopback is one link for all; add `network = \"namespaces\"` above the \
                       first table, or take `[[link]]` out";
        return Err(Problem::new("link", message));
    }
    let mut links: Vec<Link> = Vec::with_capacity(wire.len());
    for (position, one) in wire.iter().enumerate() {
        let key = format!("link[{position}]");
        let between = check_ends(&format!("{key}.between"), &one.between, around)?;
        if links.iter().any(|earlier| earlier.between == between) {
            let [one, other] = between.names();
            let message = format!("the link between {one} and {other} is set twice");
            return Err(Problem::new(format!("{key}.between"), message));
        }
        links.push(Link { between, settings: check_settings(&key, one)? });
    }
    let links = Links(links);
    if links.are_zoned() && links.are_direct() {
        let direct = |link: &Link| matches!(link.between, Ends::ClientBackend(_));
        let position = links.0.iter().position(direct).unwrap_or(0);
        let message = "this way leads by no balancer, and so from no zone to another; take it out, \
                       or the links between zones";
        return Err(Problem::new(format!("link[{position}].between"), message));
    }
    Ok(links)
}

/// One end of a link.
#[derive(Clone, PartialEq, Eq)]
enum End {
    Client,
    Balancer,
    Backend(Option<usize>),
    Zone(Option<Arc<str>>),
}

fn check_ends(key: &str, names: &[String; 2], around: &Surroundings<'_>) -> Result<Ends, Problem> {
    let end = |position: usize| {
        check_end(&names[position], around)
            .map_err(|message| Problem::new(format!("{key}[{position}]"), message))
    };
    match (end(0)?, end(1)?) {
        (End::Client, End::Balancer) | (End::Balancer, End::Client) => Ok(Ends::ClientBalancer),
        (End::Balancer, End::Backend(index)) | (End::Backend(index), End::Balancer) => {
            Ok(Ends::BalancerBackend(index))
        }
        (End::Client, End::Backend(index)) | (End::Backend(index), End::Client) => {
            Ok(Ends::ClientBackend(index))
        }
        (End::Zone(one), End::Zone(other)) => {
            check_zoned(around).map_err(|message| Problem::new(key, message))?;
            match (one, other) {
                (None, None) => Ok(Ends::Zones(None)),
                (Some(one), Some(other)) if one != other => Ok(Ends::zones(&one, &other)),
                _ => {
                    let [one, other] = names;
                    let message = format!(
                        "there is no link between {one} and {other}; name two zones, or write \
                         `zones` twice for any two"
                    );
                    Err(Problem::new(key, message))
                }
            }
        }
        _ => {
            let [one, other] = names;
            let message = format!(
                "there is no link between {one} and {other}; links are between two of client, \
                 balancer and backends, or between zones"
            );
            Err(Problem::new(key, message))
        }
    }
}

fn check_end(name: &str, around: &Surroundings<'_>) -> Result<End, String> {
    let Surroundings { backends, zones, .. } = around;
    let zone = name.strip_prefix(ZONES).and_then(|rest| {
        if rest.is_empty() { Some(None) } else { rest.strip_prefix('.').map(Some) }
    });
    match (name, zone, zones) {
        ("client", ..) => Ok(End::Client),
        ("balancer", ..) => Ok(End::Balancer),
        ("backends", ..) => Ok(End::Backend(None)),
        (_, Some(_), None) => {
            Err(format!("there are no zones for `{name}`; write a table `[zones]`"))
        }
        (_, Some(None), Some(_)) => Ok(End::Zone(None)),
        (_, Some(Some(zone)), Some(zones)) if zones.names().iter().any(|one| one == zone) => {
            Ok(End::Zone(Some(zone.into())))
        }
        (_, Some(Some(zone)), Some(zones)) => {
            let known = zones.names().join(", ");
            Err(format!("`{zone}` is no zone; expected `{ZONES}.` and one of {known}"))
        }
        (_, None, _) => match backends.iter().position(|backend| backend.id == name) {
            Some(index) => Ok(End::Backend(Some(index))),
            None => {
                let last = backends.len() - 1;
                Err(format!(
                    "`{name}` is no end of a link; expected `client`, `balancer`, `backends`, or \
                     one of them, `b0` to `b{last}`, or `zones`, or one of them, as `zones.a`"
                ))
            }
        },
    }
}

/// Whether parts can be put in zones that are apart.
fn check_zoned(around: &Surroundings<'_>) -> Result<(), String> {
    let zones = around.zones.map_or(0, |zones| zones.names().len());
    let bounds = bounds::LINKED_ZONES;
    if !(bounds.min as usize..=bounds.max as usize).contains(&zones) {
        return Err(format!(
            "found {zones} zones, expected from {} to {} where there are links between them",
            bounds.min, bounds.max
        ));
    }
    match around.client {
        Client::Wire => Ok(()),
        other => Err(format!(
            "connections of `{}` can't be made from the zones of their clients; take \
             `load.client` out, or the links between zones",
            other.name()
        )),
    }
}

fn check_settings(key: &str, wire: &LinkWire) -> Result<LinkSettings, Problem> {
    let LinkWire { between: _, delay, jitter, loss, rate, limit, reorder } = wire;
    if delay.is_none() && jitter.is_none() && loss.is_none() && rate.is_none() {
        let message = "nothing is said of this link; set `delay`, `loss` or `rate`";
        return Err(Problem::new(key, message));
    }
    let of = |name: &str| format!("{key}.{name}");
    let time = |name: &str, text: &Option<DurationText>| {
        let given = text.map_or(Duration::ZERO, |DurationText(time)| time);
        time_within(&of(name), given, bounds::LINK_DELAY, "a time one way")
    };
    let (delay, jitter) = (time("delay", delay)?, time("jitter", jitter)?);
    if jitter > delay {
        let message = format!(
            "{} is more than `delay`, {}, and no packet arrives before it was sent",
            units::duration::format(jitter),
            units::duration::format(delay)
        );
        return Err(Problem::new(of("jitter"), message));
    }
    let loss = loss.map_or(0.0, |PercentText(part)| part);
    let loss = within(&of("loss"), Percent(loss), LOSS, "a part of the packets")?.0;
    let rate = rate.map(|BitRateText(rate)| rate);
    if let Some(rate) = rate {
        within(&of("rate"), BitRateText(rate), RATE, "a rate")?;
    }
    let reorder = reorder.unwrap_or_default();
    if reorder && jitter.is_zero() {
        let message = "packets overtake each other by jitter alone; set `jitter` too";
        return Err(Problem::new(of("reorder"), message));
    }
    if reorder && rate.is_some() {
        let message = "a rate sends one packet after the other; take `rate` or `reorder` out";
        return Err(Problem::new(of("reorder"), message));
    }
    let limit = match limit {
        Some(limit) => within(&of("limit"), *limit, bounds::LINK_LIMIT, "packets")?,
        None => default_limit(delay + jitter, rate),
    };
    Ok(LinkSettings { delay, jitter, loss, rate, limit, reorder })
}

/// A link of a rate holds what is under way and a queue; one without holds what there is.
fn default_limit(longest: Duration, rate: Option<u64>) -> u32 {
    let Some(rate) = rate else { return DEFAULT_HELD };
    let bits = u128::from(rate) * longest.as_nanos() / 1_000_000_000;
    let under_way = u32::try_from(bits / u128::from(8 * FULL_PACKET)).unwrap_or(u32::MAX);
    under_way.saturating_add(DEFAULT_QUEUE).min(bounds::LINK_LIMIT.max)
}

/// A part of a whole that shows as people write it.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
struct Percent(f64);

impl std::fmt::Display for Percent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}%", self.0 * 100.0)
    }
}

const LOSS: bounds::Bounds<Percent> =
    bounds::Bounds { min: Percent(bounds::LINK_LOSS.min), max: Percent(bounds::LINK_LOSS.max) };

const RATE: bounds::Bounds<BitRateText> = bounds::Bounds {
    min: BitRateText(bounds::LINK_RATE.min),
    max: BitRateText(bounds::LINK_RATE.max),
};
