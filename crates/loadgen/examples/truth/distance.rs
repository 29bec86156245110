//! Links that take time: pings through them, packets that are lost, and what a rate lets
//! through, beside what was asked for.

use measure::{
    figure::Figures,
    record::{LinkEngine, LinksRecord},
};

use crate::{
    Failure, Plan,
    lab::lab,
    table::{Row, Table},
};

/// How far off pings may be, in ms.
const PING_BOUND_MS: f64 = 0.2;
/// Trials with pings, of which the worst counts.
const DELAY_REPEATS: u32 = 9;
/// Bytes of payload in each response over the link with a rate.
const RESPONSE_BYTES: f64 = 65_536.0;
/// What of a full packet is TCP's payload: 1,500 bytes less IP and TCP headers with timestamps.
const PAYLOAD: f64 = 1_448.0 / 1_500.0;
/// Its rate, in bits per second.
const RATE: f64 = 40e6;
/// The part that is lost.
const LOSS: f64 = 0.02;

pub(crate) const NAMES: [&str; 3] = ["distance, delay", "distance, loss", "distance, rate"];

/// Measures those that are wanted.
pub(crate) fn measure(plan: &Plan, table: &mut Table) -> Result<(), Failure> {
    let cases = [delay, loss, rate];
    for (name, case) in NAMES.into_iter().zip(cases) {
        if plan.wants(name) {
            case(plan, table)?;
        }
    }
    Ok(())
}

fn scenario(plan: &Plan, repeats: u32, link: &str, load: &str) -> String {
    format!(
        "question = \"distance\"\nnetwork = \"namespaces\"\n[[link]]\n\
         between = [\"client\", \"balancer\"]\n{link}\n[backends]\ncount = 1\n\
         [load]\n{load}duration = \"{}s\"\nwarm_up = \"500ms\"\n\
         [run]\npeers = [\"l4\"]\nrepeats = {repeats}\n",
        plan.seconds
    )
}

const LIGHT: &str = "loop = \"open\"\nconnections = 8\nrate = 1000\n";

/// Pings on the idle link, and how late packets were under load.
fn delay(plan: &Plan, table: &mut Table) -> Result<(), Failure> {
    let run = lab(&scenario(plan, DELAY_REPEATS, "delay = \"2500us\"", LIGHT))?;
    let trials: Vec<&LinksRecord> =
        run.trials.iter().filter_map(|trial| trial.links.as_ref()).collect();
    let links = || trials.iter().flat_map(|record| &record.links);
    let ms = |ns: u64| ns as f64 / 1e6;
    let is_whole = links().all(|link| link.answered == link.pings);
    let by = match trials.first().ok_or("no trial has links")?.engine {
        LinkEngine::Netem => "netem",
        LinkEngine::Relay => "relay",
    };
    let sorted = |of: fn(&measure::record::LinkRecord) -> u64| {
        let mut all: Vec<u64> = links().map(of).collect();
        all.sort_unstable();
        all
    };
    let ping = [
        ("ping p50", sorted(|link| link.ping_p50_ns)),
        ("ping p99", sorted(|link| link.ping_p99_ns)),
    ];
    for (figure, sorted) in ping {
        let median = ms(sorted[sorted.len() / 2]);
        let worst = ms(sorted[sorted.len() - 1]);
        let off = worst - 5.0;
        table.row(Row {
            case: format!("{} ({by})", NAMES[0]),
            figure: figure.to_owned(),
            known: "5.000 ms".to_owned(),
            measured: format!("{worst:.3} ms, worst of {}; median {median:.3}", sorted.len()),
            off: format!("{off:+.3} ms"),
            bound: format!("{PING_BOUND_MS} ms"),
            is_within: off.abs() <= PING_BOUND_MS && is_whole,
        });
    }
    let late = trials.iter().filter_map(|record| Some((record.late_p50_ns?, record.late_p99_ns?)));
    let (p50, p99) = late.fold((0, 0), |(p50, p99), late| (p50.max(late.0), p99.max(late.1)));
    table.note(&format!(
        "under 1,000 calls/s packets were passed on {:.3} ms late in the median, {:.3} ms at p99",
        ms(p50),
        ms(p99)
    ));
    Ok(())
}

/// The packets that the relay says it lost; netem does not tell.
fn loss(plan: &Plan, table: &mut Table) -> Result<(), Failure> {
    let link = format!("delay = \"2ms\"\nloss = \"{}%\"", LOSS * 100.0);
    let run = lab(&scenario(plan, plan.repeats, &link, LIGHT))?;
    let links = run.trials.iter().filter_map(|trial| trial.links.as_ref());
    let counts = links.flat_map(|record| &record.links).map(|link| (link.packets, link.lost));
    let counts: Option<Vec<(u64, u64)>> = counts.map(|(all, lost)| all.zip(lost)).collect();
    let Some(counts) = counts else {
        table.leave_out(format!("{}: netem does not tell what it lost", NAMES[1]));
        return Ok(());
    };
    let all: u64 = counts.iter().map(|(all, _)| all).sum();
    let lost: u64 = counts.iter().map(|(_, lost)| lost).sum();
    let part = lost as f64 / all.max(1) as f64;
    // Five standard deviations of a binomial part.
    let bound = 5.0 * (LOSS * (1.0 - LOSS) / all.max(1) as f64).sqrt();
    table.row(Row {
        case: NAMES[1].to_owned(),
        figure: "lost".to_owned(),
        known: format!("{:.2} %", LOSS * 100.0),
        measured: format!("{:.2} % of {all} packets", part * 100.0),
        off: format!("{:+.2} %", (part - LOSS) * 100.0),
        bound: format!("{:.2} %", bound * 100.0),
        is_within: (part - LOSS).abs() <= bound,
    });
    Ok(())
}

/// Responses that fill the link: their payload per second, beside the rate less headers.
fn rate(plan: &Plan, table: &mut Table) -> Result<(), Failure> {
    let load = format!(
        "loop = \"closed\"\nconnections = 4\nstreams = 4\nrequest_bytes = 0\n\
         response_bytes = {RESPONSE_BYTES}\n"
    );
    let link = format!("delay = \"1ms\"\nrate = \"{}mbit\"", RATE / 1e6);
    let run = lab(&scenario(plan, plan.repeats, &link, &load))?;
    let figures = run.trials.iter().map(Figures::of_trial);
    let mut bits: Vec<f64> =
        figures.map(|figures| figures.throughput * RESPONSE_BYTES * 8.0).collect();
    bits.sort_by(f64::total_cmp);
    let measured = bits.get(bits.len() / 2).copied().ok_or("no trial was measured")?;
    let known = RATE * PAYLOAD;
    let off = measured / known - 1.0;
    table.row(Row {
        case: NAMES[2].to_owned(),
        figure: "payload".to_owned(),
        known: format!("{:.2} Mbit/s", known / 1e6),
        measured: format!("{:.2} Mbit/s, median of {}", measured / 1e6, bits.len()),
        off: format!("{:+.1} %", off * 100.0),
        bound: "3 %".to_owned(),
        is_within: off.abs() <= 0.03,
    });
    Ok(())
}
