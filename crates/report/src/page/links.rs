//! Links that take time: what they were set to, and what came out.

use analysis::model::Model;
use measure::{
    format,
    record::{LinkEngine, LinkRecord, LinkSetup, LinksRecord},
};

/// What each link does, and what does it; nothing where no link takes time.
pub(super) fn setup(model: &Model<'_>) -> Option<String> {
    let links = &model.run.links;
    let all: Vec<String> = links.iter().map(describe).collect();
    let by = match records(model).next().map(|record| record.engine) {
        Some(LinkEngine::Netem) => ", by netem",
        Some(LinkEngine::Relay) => {
            ", by a relay between TUN devices. The kernel's work on arriving packets is then billed to \
             the relay and not to their receiver, so compare CPU times only with runs over the same \
             links"
        }
        None => "",
    };
    let direct = match links
        .iter()
        .any(|link| link.between[0] == "client" && is_backend(&link.between[1]))
    {
        true => " Client and backends have links of their own that bypass the balancer.",
        false => "",
    };
    (!all.is_empty()).then(|| format!("{}; in each direction{by}.{direct}", all.join("; ")))
}

/// What pings took before the trials, and how late the relay was during them.
pub(super) fn measured(model: &Model<'_>) -> Option<String> {
    let pings = model.run.links.iter().filter_map(|setup| pings(model, setup));
    let mut sentences: Vec<String> = pings.collect();
    let late = |of: fn(&LinksRecord) -> Option<u64>| records(model).filter_map(of).max();
    if let (Some(p50), Some(p99)) = (late(|one| one.late_p50_ns), late(|one| one.late_p99_ns)) {
        sentences.push(format!(
            "In the worst trial, the relay forwarded packets {} late in the median and {} late at the \
             99th percentile.",
            format::duration(p50 as f64),
            format::duration(p99 as f64)
        ));
    }
    let counted = |of: fn(&LinkRecord) -> Option<u64>| -> u64 {
        records(model).flat_map(|record| &record.links).filter_map(of).sum()
    };
    let (packets, lost) = (counted(|link| link.packets), counted(|link| link.lost));
    let dropped = counted(|link| link.dropped);
    if lost + dropped > 0 {
        sentences.push(format!(
            "Of {} packets, {} were lost at random and {} dropped because a link was full.",
            format::count(packets),
            format::count(lost),
            format::count(dropped)
        ));
    }
    (!sentences.is_empty()).then(|| sentences.join(" "))
}

fn records<'a>(model: &'a Model<'_>) -> impl Iterator<Item = &'a LinksRecord> {
    let peers = model.peers.iter().flat_map(|peer| &peer.trials);
    peers.filter_map(|trial| trial.record.links.as_ref())
}

fn describe(link: &LinkSetup) -> String {
    let mut does = vec![format!("{} one way", format::duration(link.delay_ns as f64))];
    if link.jitter_ns > 0 {
        let order = if link.reorder { ", which can reorder packets" } else { "" };
        let jitter = format::duration(link.jitter_ns as f64);
        does.push(format!("± {jitter} of jitter{order}"));
    }
    if link.loss > 0.0 {
        does.push(format!("{} loss", format::share(link.loss)));
    }
    if let Some(bits) = link.rate_bits {
        let limit = format::count(u64::from(link.limit));
        does.push(format!("{} with a queue of at most {limit} packets", rate(bits)));
    }
    format!("{}: {}", ends(&link.between, " – "), does.join(", "))
}

/// The two ends of a link, as a reader calls them.
fn ends(between: &[String; 2], joined_by: &str) -> String {
    let name = |name: &String| match name.strip_prefix("zones.") {
        Some(zone) => format!("zone {zone}"),
        None => name.clone(),
    };
    match between.each_ref().map(String::as_str) {
        ["zones", "zones"] => "any two zones".to_owned(),
        _ => between.each_ref().map(name).join(joined_by),
    }
}

fn rate(bits: u64) -> String {
    let units = [(1_000_000_000, "Gbit/s"), (1_000_000, "Mbit/s"), (1_000, "kbit/s")];
    let found = units.into_iter().find(|(unit, _)| bits >= *unit);
    let (unit, name) = found.unwrap_or((1, "bit/s"));
    format!("{} {name}", format::tick(bits as f64 / unit as f64))
}

/// Of all trials, each link of that kind.
fn pings(model: &Model<'_>, setup: &LinkSetup) -> Option<String> {
    let is_of = |record: &&LinkRecord| {
        let is_own = |link: &LinkSetup| link.between == record.between;
        let is_of_all = match setup.between.each_ref().map(String::as_str) {
            ["zones", "zones"] => record.between[0].starts_with("zones."),
            [first, "backends"] => first == record.between[0] && is_backend(&record.between[1]),
            _ => false,
        };
        is_own(setup) || is_of_all && !model.run.links.iter().any(is_own)
    };
    let all: Vec<&LinkRecord> =
        records(model).flat_map(|record| &record.links).filter(is_of).collect();
    let asked = all.first()?.asked_ns;
    let answered = all.iter().filter(|link| link.answered > 0);
    let mut middles: Vec<u64> = answered.map(|link| link.ping_p50_ns).collect();
    middles.sort_unstable();
    let largest = all.iter().map(|link| link.ping_p99_ns).max().unwrap_or_default();
    let between = ends(&setup.between, " and ");
    let asked = format::duration(asked as f64);
    let Some(middle) = middles.get(middles.len() / 2) else {
        return Some(format!("No ping between {between} was answered."));
    };
    Some(format!(
        "Pings between {between} before the trials should have taken {asked} there and back: they \
         took {} in the median, and at most {} at the 99th percentile.",
        format::duration(*middle as f64),
        format::duration(largest as f64)
    ))
}

fn is_backend(name: &str) -> bool {
    !matches!(name, "client" | "balancer")
}
