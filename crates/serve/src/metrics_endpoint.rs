//! `GET /metrics`, on the bounded HTTP server of [`crate::http1`].

use tokio::net::TcpListener;

use crate::{
    http1::{self, HttpLimits, Request, Response, host::AllowedHosts},
    metrics::Metrics,
    shutdown::Shutdown,
};

/// The content type of the text format.
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Serves `GET /metrics` until `shutdown` is terminated: a drain is just when
/// one wants to look.
pub async fn serve_metrics(
    listener: TcpListener,
    metrics: Metrics,
    allowed: AllowedHosts,
    shutdown: Shutdown,
) {
    let handler = move |request: &Request| {
        respond(&metrics, request)
            .unwrap_or_else(|| Response::text(404, "There is only /metrics here.\n"))
    };
    http1::serve(listener, HttpLimits::default(), allowed, handler, shutdown).await;
}

/// The answer, if the request is for `/metrics`; for servers that have other
/// paths too.
pub fn respond(metrics: &Metrics, request: &Request) -> Option<Response> {
    if request.path() != "/metrics" {
        return None;
    }
    Some(match request.method() {
        "GET" => Response::new(200, CONTENT_TYPE, metrics.expose().into_bytes()),
        _ => Response::method_not_allowed("GET"),
    })
}
