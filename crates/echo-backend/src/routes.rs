//! Which service a request is for, by its path.
//!
//! A handful of fixed prefixes needs no router; tonic's own is axum, whose
//! matching and boxing would be paid for on every call by the process that
//! shares its cores with what is measured.

use std::{convert::Infallible, sync::Arc};

use echo_proto::{FILE_DESCRIPTOR_SET, v1::echo_server::EchoServer};
use http::{Request, Response, StatusCode, header};
use hyper::body::Incoming;
use tonic::{
    Status,
    body::Body,
    codegen::{BoxFuture, Service},
    server::NamedService,
};
use tonic_health::pb::health_server::HealthServer;
use tonic_reflection::server::Builder as Reflection;

use crate::{
    Error, config::ConnectionConfig, health::HealthService, load::Load, service::EchoService,
};

/// A response of a gRPC service on its way.
pub(crate) type Responding = BoxFuture<Response<Body>, Infallible>;

/// A service that is asked rarely, behind a pointer.
struct Rare {
    name: &'static str,
    respond: Box<dyn Fn(Request<Incoming>) -> Responding + Send + Sync>,
}

/// All services of a backend. Clones are cheap; each connection has one.
#[derive(Clone)]
pub(crate) struct Routes {
    echo: EchoServer<EchoService>,
    load: Option<Arc<Load>>,
    rare: Arc<[Rare]>,
}

impl Routes {
    /// # Errors
    /// When the descriptors of the echo service can't be read for reflection.
    pub(crate) fn new(
        echo: EchoService,
        health: HealthService,
        bounds: &ConnectionConfig,
    ) -> Result<Self, Error> {
        let load = echo.load.clone();
        let echo = EchoServer::new(echo)
            .max_decoding_message_size(bounds.max_message_bytes)
            .max_encoding_message_size(bounds.max_message_bytes);
        let reflection = || {
            Reflection::configure()
                .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        let rare = [
            rare(HealthServer::new(health)),
            rare(reflection().build_v1()?),
            // grpcurl and others still ask for the older name first.
            rare(reflection().build_v1alpha()?),
        ];
        Ok(Self { echo, load, rare: rare.into() })
    }

    /// Answers a request.
    pub(crate) fn respond(&self, request: Request<Incoming>) -> Responding {
        if !is_grpc(&request) {
            return Box::pin(async { Ok(not_grpc()) });
        }
        let service = request.uri().path().strip_prefix('/').and_then(|path| path.split_once('/'));
        match service.map(|(service, _method)| service) {
            Some(name) if name == <EchoServer<EchoService>>::NAME => {
                self.report(self.echo.clone().call(request), false)
            }
            Some(name) if let Some(rare) = self.rare.iter().find(|rare| rare.name == name) => {
                // A health check may be a probe.
                self.report((rare.respond)(request), true)
            }
            _ => Box::pin(async { Ok(Status::unimplemented("no such service here").into_http()) }),
        }
    }
}

impl Routes {
    /// The same answer with what is to be said of the load, if anything.
    fn report(&self, responding: Responding, is_probe: bool) -> Responding {
        let Some(load) = self.load.clone() else { return responding };
        Box::pin(async move {
            let response = responding.await?;
            Ok(response.map(|body| load.reporting(body, is_probe)))
        })
    }
}

fn rare<S>(service: S) -> Rare
where
    S: Service<
            Request<Incoming>,
            Response = Response<Body>,
            Error = Infallible,
            Future = Responding,
        > + NamedService
        + Clone
        + Send
        + Sync
        + 'static,
{
    Rare { name: S::NAME, respond: Box::new(move |request| service.clone().call(request)) }
}

/// `application/grpc`, with or without a subtype (`+proto`).
fn is_grpc(request: &Request<Incoming>) -> bool {
    request
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

/// What a browser or a plain HTTP probe gets.
fn not_grpc() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    response
}
