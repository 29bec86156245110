//! The admin API: what an operator can see and change of a proxy's backends
//! while it runs. Both proxies serve the same one.
//!
//! | request | what it does |
//! |---|---|
//! | `GET /backends` | all backends with state and counts |
//! | `POST /backends` | adds one: `{"address": "10.0.0.1:80", "weight": 2}` |
//! | `GET /backends/ADDRESS` | one backend |
//! | `PATCH /backends/ADDRESS` | `{"weight": 3}`, `{"state": "draining"}`, `{"state": "active"}`, or both |
//! | `DELETE /backends/ADDRESS` | removes one |
//! | `GET /metrics` | as at `--metrics-listen` |
//!
//! A change is answered with the backend as it is then, or with `{"error":
//! "..."}`. It has no authentication: bind it to loopback, or to a network where
//! only operators are. What other sites' web pages ask for is refused, and so are
//! requests by a name that is not the server's own, see [`crate::http1::host`].

use std::{net::SocketAddr, num::NonZeroU32, sync::Arc};

use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use crate::{
    http1::{self, HttpLimits, Request, Response, host::AllowedHosts},
    metrics::Metrics,
    metrics_endpoint,
    shutdown::Shutdown,
};

/// Most backends that a list may have.
pub(crate) const BACKENDS_MAX: usize = 4_096;

/// A backend, as an operator describes it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct BackendSpec {
    /// Where it listens, as IP address and port; its identity.
    pub address: SocketAddr,
    /// Its share relative to the others'.
    #[serde(default = "one")]
    pub weight: NonZeroU32,
    /// Connections (L4) or calls (L7) it may hold at once; as many as come
    /// when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_in_flight: Option<NonZeroU32>,
    /// The group it belongs to, where the proxy has groups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The zone it is in; empty says the same as leaving it out. Heeded where the proxy is in
    /// a zone too.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "zone")]
    pub zone: Option<String>,
}

fn zone<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let name = Option::<String>::deserialize(deserializer)?;
    Ok(name.filter(|name| !name.is_empty()))
}

fn one() -> NonZeroU32 {
    NonZeroU32::MIN
}

impl BackendSpec {
    /// A backend of weight one, without a cap, a group or a zone.
    pub fn new(address: SocketAddr) -> Self {
        Self { address, weight: one(), max_in_flight: None, group: None, zone: None }
    }
}

/// Whether a backend is given work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BackendState {
    /// It is.
    Active,
    /// An operator drained it: what it has may finish.
    Draining,
    /// Its health check fails.
    Unhealthy,
    /// What it was given failed too often, and it is left out for a while.
    Ejected,
    /// It is not in the part of the backends that this proxy uses.
    Outside,
}

/// A backend, as it is now.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BackendStatus {
    /// What it was described as, with its weight of now.
    #[serde(flatten)]
    pub spec: BackendSpec,
    /// Whether it is given work.
    pub state: BackendState,
    /// Connections (L4) or calls (L7) it holds now.
    pub in_flight: u32,
    /// Connections or calls it was given since it was added.
    pub total: u64,
    /// Those of them that failed on its side.
    pub failures: u64,
    /// Its name, where it is another than its address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Connections to it that are open now, where calls and not connections
    /// are counted above.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections: Option<u32>,
    /// Its latency as the policies see it, in microseconds: a moving average
    /// that rises at once and falls slowly. Absent before it has answered, and
    /// where latency is not looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_ewma_us: Option<f64>,
}

impl BackendStatus {
    /// A backend that has been given nothing.
    pub fn new(spec: BackendSpec, state: BackendState) -> Self {
        Self {
            spec,
            state,
            in_flight: 0,
            total: 0,
            failures: 0,
            name: None,
            connections: None,
            latency_ewma_us: None,
        }
    }
}

/// Why a change was not made. Nothing has changed then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// No backend has this address.
    #[error("there is no backend {0}")]
    Unknown(SocketAddr),
    /// A backend has this address already.
    #[error("backend {0} is there already; change its weight with PATCH")]
    Exists(SocketAddr),
    /// It would leave no backend.
    #[error("this would leave no backend; add another one first")]
    Last,
    /// The proxy can't do it, for the reason given.
    #[error("{0}")]
    Invalid(String),
}

impl ChangeError {
    fn status(&self) -> u16 {
        match self {
            Self::Unknown(_) => 404,
            Self::Exists(_) | Self::Last => 409,
            Self::Invalid(_) => 422,
        }
    }
}

/// What a change of the whole list did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replaced {
    /// Backends that are new.
    pub added: usize,
    /// Backends that are gone.
    pub removed: usize,
    /// Backends that are otherwise described.
    pub changed: usize,
}

/// A proxy's backends, for those who change them while it runs. Calls come
/// from one or more threads at any time, must not block, and either change
/// what they say or give an error and change nothing.
pub trait Backends: Send + Sync {
    /// All of them, in the order in which they were added.
    fn list(&self) -> Vec<BackendStatus>;
    /// Adds one.
    ///
    /// # Errors
    /// [`ChangeError::Exists`] or [`ChangeError::Invalid`].
    fn add(&self, spec: BackendSpec) -> Result<(), ChangeError>;
    /// Removes one; what it holds may finish.
    ///
    /// # Errors
    /// [`ChangeError::Unknown`] or [`ChangeError::Last`].
    fn remove(&self, address: SocketAddr) -> Result<(), ChangeError>;
    /// Gives one no more work, or some again.
    ///
    /// # Errors
    /// [`ChangeError::Unknown`].
    fn set_draining(&self, address: SocketAddr, draining: bool) -> Result<(), ChangeError>;
    /// Gives one another weight.
    ///
    /// # Errors
    /// [`ChangeError::Unknown`] or [`ChangeError::Invalid`].
    fn set_weight(&self, address: SocketAddr, weight: NonZeroU32) -> Result<(), ChangeError>;
    /// Makes the list this one. Backends in both keep what they hold and their
    /// drained state.
    ///
    /// # Errors
    /// [`ChangeError::Last`] for an empty list, or [`ChangeError::Invalid`].
    fn replace(&self, specs: &[BackendSpec]) -> Result<Replaced, ChangeError>;
}

/// Serves the admin API until `shutdown` is terminated: a drain is when one
/// wants to look.
pub(crate) async fn serve_admin(
    listener: TcpListener,
    backends: Arc<dyn Backends>,
    metrics: Metrics,
    allowed: AllowedHosts,
    shutdown: Shutdown,
) {
    let handler = move |request: &Request| respond(&*backends, &metrics, request);
    http1::serve(listener, HttpLimits::default(), allowed, handler, shutdown).await;
}

#[derive(Serialize)]
struct ErrorBody {
    error: String,
}

#[derive(Serialize)]
struct ListBody {
    backends: Vec<BackendStatus>,
}

/// What PATCH takes. The state is one of the two an operator can choose.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Patch {
    weight: Option<NonZeroU32>,
    state: Option<WantedState>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum WantedState {
    Active,
    Draining,
}

pub(crate) fn respond(backends: &dyn Backends, metrics: &Metrics, request: &Request) -> Response {
    if let Some(response) = metrics_endpoint::respond(metrics, request) {
        return response;
    }
    let path = request.path();
    if path == "/backends" {
        return match request.method() {
            "GET" => Response::json(200, &ListBody { backends: backends.list() }),
            "POST" => answer(add(backends, request.body()), backends, 201),
            _ => Response::method_not_allowed("GET, POST"),
        };
    }
    let Some(address) = path.strip_prefix("/backends/") else {
        return error(404, "There are /backends, /backends/ADDRESS and /metrics here.");
    };
    let Ok(address) = address.parse::<SocketAddr>() else {
        return error(404, "A backend is named by its address, as in /backends/127.0.0.1:5001.");
    };
    match request.method() {
        "GET" => answer(Ok(address), backends, 200),
        "PATCH" => answer(patch(backends, address, request.body()), backends, 200),
        "DELETE" => match backends.remove(address) {
            Ok(()) => Response::json(200, &serde_json::json!({ "removed": address })),
            Err(failure) => refused(&failure),
        },
        _ => Response::method_not_allowed("GET, PATCH, DELETE"),
    }
}

fn add(backends: &dyn Backends, body: &[u8]) -> Result<SocketAddr, ChangeError> {
    let spec: BackendSpec = parse(body)?;
    let address = spec.address;
    if backends.list().len() >= BACKENDS_MAX {
        return Err(ChangeError::Invalid(format!("{BACKENDS_MAX} backends are the most")));
    }
    backends.add(spec)?;
    Ok(address)
}

fn patch(
    backends: &dyn Backends,
    address: SocketAddr,
    body: &[u8],
) -> Result<SocketAddr, ChangeError> {
    let patch: Patch = parse(body)?;
    if patch.weight.is_none() && patch.state.is_none() {
        return Err(ChangeError::Invalid("give a weight, a state, or both".to_owned()));
    }
    // The weight first: only it can be refused once the backend is known.
    if let Some(weight) = patch.weight {
        backends.set_weight(address, weight)?;
    }
    if let Some(state) = patch.state {
        backends.set_draining(address, state == WantedState::Draining)?;
    }
    Ok(address)
}

fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, ChangeError> {
    serde_json::from_slice(body).map_err(|error| ChangeError::Invalid(error.to_string()))
}

/// The backend a change was made to, as it is now, or why it was not made.
fn answer(
    changed: Result<SocketAddr, ChangeError>,
    backends: &dyn Backends,
    status: u16,
) -> Response {
    let find = |address| {
        let mut all = backends.list().into_iter();
        // Another request may have removed it meanwhile.
        all.find(|found| found.spec.address == address).ok_or(ChangeError::Unknown(address))
    };
    match changed.and_then(find) {
        Ok(found) => Response::json(status, &found),
        Err(failure) => refused(&failure),
    }
}

fn refused(failure: &ChangeError) -> Response {
    error(failure.status(), &failure.to_string())
}

fn error(status: u16, message: &str) -> Response {
    Response::json(status, &ErrorBody { error: message.to_owned() })
}

#[cfg(test)]
mod tests;
