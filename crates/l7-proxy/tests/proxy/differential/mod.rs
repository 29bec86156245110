//! The same recorded client bytes into each data plane, and the same out of it
//! on both sides: statuses, headers, bodies, trailers and resets to the client,
//! and the same requests to the backend.
//!
//! | module | what it has |
//! |---|---|
//! | here | how a case is played and compared |
//! | [`bytes`] | how recordings and plans are written down |
//! | [`cases`] | the cases |
//! | [`mixes`] | calls drawn by chance, many on one connection |
//!
//! What may differ is left out of the comparison, and only this: how a body is
//! cut into frames, the order of fields of different names, window updates,
//! what remains of a deadline, and the proxy's own entry in `via`. A case in which
//! the planes are known to differ says how and why ([`Case::hyper`]).

mod bytes;
mod cases;
mod mixes;

use std::{
    collections::HashMap,
    hash::{Hash as _, Hasher as _},
    time::Duration,
};

use l7_proxy::{Config, DataPlane};
use testkit::{
    await_that,
    lab::{l7_config, start_l7},
    peer::{End, Fields},
    replay::{Played, Recording, play},
    script::{Attempt, Plan, ScriptedBackend},
};

/// The bound on a case: below testkit's, whose panic names no case.
const PATIENCE: Duration = Duration::from_secs(20);

/// What goes in, and how it ends.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) recording: Recording,
    pub(crate) plans: HashMap<String, Vec<Plan>>,
    pub(crate) backend_settings: Vec<(u16, u32)>,
    pub(crate) config: Box<dyn Fn(&mut Config)>,
    pub(crate) ends: Ends,
    /// How it ends over the `hyper` plane where that differs, and why it may.
    pub(crate) hyper: Option<(Ends, &'static str)>,
}

/// How each stream ends for the client, and each attempt for the backend, in
/// short: `1 grpc 0, 3 reset 8` and `a whole, b reset 8`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ends {
    pub(crate) client: String,
    pub(crate) backend: String,
}

impl Ends {
    /// Whether this is one of the ends named. Where the backend has sent all of its
    /// response before the proxy finds it malformed, the reset may or may not reach
    /// it before the play is over, and both are written: `a whole or a reset 1`.
    fn allows(&self, ends: &Self) -> bool {
        self.client == ends.client && self.backend.split(" or ").any(|one| one == ends.backend)
    }
}

/// What came out.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    client: Vec<(u32, Vec<Fields>, Body, Option<End>)>,
    backend: Vec<(String, Fields, Body, Option<Fields>)>,
}

/// A body, short enough to be shown: its length and its hash.
type Body = (usize, u64);

fn body(bytes: &[u8]) -> Body {
    let mut hasher = std::hash::DefaultHasher::new();
    bytes.hash(&mut hasher);
    (bytes.len(), hasher.finish())
}

/// Plays a case over one data plane.
async fn outcome(case: &Case, plane: DataPlane) -> (Outcome, Ends) {
    let settings = case.backend_settings.clone();
    let backend = ScriptedBackend::start(case.plans.clone(), settings).await;
    let mut config = l7_config(plane, &[backend.addr()]);
    (case.config)(&mut config);
    let l7 = start_l7(config);
    let played = play(l7.addr(), &case.recording).await;
    let client = client_ends(&played);
    // A backend hears of an end a moment after the client.
    let wanted = wanted_ends(case, plane);
    let holds = || backend_ends(&backend.attempts()) == wanted.backend;
    let patience = Duration::from_secs(2);
    let _ = tokio::time::timeout(patience, await_that("the backend's ends", holds)).await;
    let attempts = backend.attempts();
    let ends = Ends { client, backend: backend_ends(&attempts) };
    let address = backend.addr().to_string();
    let client = played.into_iter().map(|(stream, message)| {
        let heads = message.heads.into_iter().map(|fields| by_name(fields, &address)).collect();
        (stream, heads, body(&message.body), message.end)
    });
    let mut backend: Vec<_> = attempts
        .into_iter()
        .map(|attempt| {
            let trailers = attempt.trailers.map(|fields| by_name(fields, &address));
            (attempt.call, by_name(attempt.fields, &address), body(&attempt.body), trailers)
        })
        .collect();
    // Calls on several connections come in any order.
    backend.sort_by(|one, other| one.0.cmp(&other.0));
    (Outcome { client: client.collect(), backend }, ends)
}

fn wanted_ends(case: &Case, plane: DataPlane) -> &Ends {
    match &case.hyper {
        Some((ends, _)) if plane == DataPlane::Hyper => ends,
        _ => &case.ends,
    }
}

fn end(end: Option<End>) -> String {
    match end {
        Some(End::Whole) => "whole".to_owned(),
        Some(End::Reset(code)) => format!("reset {code}"),
        Some(End::Closed) => "closed".to_owned(),
        None => "open".to_owned(),
    }
}

fn client_ends(played: &Played) -> String {
    let ends = played.iter().map(|(stream, message)| {
        let status = |name| message.trailer(name).unwrap_or("none").to_owned();
        match message.end {
            Some(End::Whole) if message.grpc_status().is_some() => {
                format!("{stream} grpc {}", status("grpc-status"))
            }
            Some(End::Whole) => {
                format!("{stream} http {}", message.head(":status").unwrap_or("none"))
            }
            other => format!("{stream} {}", end(other)),
        }
    });
    ends.collect::<Vec<_>>().join(", ")
}

fn backend_ends(attempts: &[Attempt]) -> String {
    let mut ends: Vec<_> =
        attempts.iter().map(|attempt| format!("{} {}", attempt.call, end(attempt.end))).collect();
    ends.sort();
    ends.join(", ")
}

/// Fields by name, without what differs from run to run. Those of one name keep
/// their order, which has a meaning.
fn by_name(mut fields: Fields, address: &str) -> Fields {
    fields.retain(|(name, value)| name != "via" || !value.contains("l7-proxy-"));
    fields.sort_by(|(one, _), (other, _)| one.cmp(other));
    for (name, value) in &mut fields {
        match name.as_str() {
            "grpc-timeout" => "what remains".clone_into(value),
            // A backend's name, which is its address, occurs in messages, and
            // stands in for an authority that is missing.
            _ => *value = value.replace(address, "the backend"),
        }
    }
    fields
}

/// Plays a case over all data planes, and compares.
pub(crate) fn check(case: &Case) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut first = None;
    for plane in DataPlane::ALL {
        let played =
            runtime.block_on(async { tokio::time::timeout(PATIENCE, outcome(case, plane)).await });
        let (outcome, ends) =
            played.map_err(|_| format!("{}, {plane:?}: it did not end", case.name))?;
        let wanted = wanted_ends(case, plane);
        if !wanted.allows(&ends) {
            let name = &case.name;
            return Err(format!(
                "{name}, {plane:?}: it ended as {ends:?}, not {wanted:?}: {outcome:#?}"
            ));
        }
        let Some((other, expected)) = &first else {
            first = Some((plane, outcome));
            continue;
        };
        if case.hyper.is_none() && *expected != outcome {
            let (name, expected) = (&case.name, format!("{expected:#?}"));
            let differences = differences(&expected, &format!("{outcome:#?}"));
            return Err(format!("{name}: {other:?} and {plane:?} differ:\n{differences}"));
        }
    }
    Ok(())
}

/// The lines that two texts don't share.
fn differences(one: &str, other: &str) -> String {
    let only = |sign: &str, text: &str, rest: &str| {
        let lines = text.lines().filter(|line| !rest.lines().any(|found| found == *line));
        lines.take(20).map(|line| format!("{sign} {line}\n")).collect::<String>()
    };
    only("-", one, other) + &only("+", other, one)
}

#[test]
fn both_data_planes_turn_the_same_bytes_into_the_same() {
    let cases = cases::all();
    assert!(cases.len() >= 48, "{}", cases.len());
    let failed: Vec<_> = cases.iter().filter_map(|case| check(case).err()).collect();
    assert!(failed.is_empty(), "{} cases:\n{}", failed.len(), failed.join("\n"));
}
