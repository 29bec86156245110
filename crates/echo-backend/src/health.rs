//! The standard health service (`grpc.health.v1`): serving until the drain
//! begins, and not serving from then on.
//!
//! Written against tonic-health's generated trait rather than with its
//! reporter, because the reporter's watches never end, and a watch that never
//! ends keeps a draining connection open until its deadline.

use std::pin::Pin;

use futures_util::{Stream, StreamExt, stream};
use serve::Shutdown;
use tonic::{Request, Response, Status};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus,
    health_server::Health,
};

/// The services asked after: the server as a whole, and the echo service.
const KNOWN: [&str; 2] = ["", "layerlab.echo.v1.Echo"];

/// Health of one backend.
#[derive(Clone, Debug)]
pub(crate) struct HealthService {
    pub(crate) shutdown: Shutdown,
}

type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

#[tonic::async_trait]
impl Health for HealthService {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        if !KNOWN.contains(&request.get_ref().service.as_str()) {
            return Err(Status::not_found("no such service here"));
        }
        Ok(Response::new(answer(self.status())))
    }

    type WatchStream = WatchStream;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<WatchStream>, Status> {
        let known = KNOWN.contains(&request.get_ref().service.as_str());
        let (first, last) = if known {
            (self.status(), ServingStatus::NotServing)
        } else {
            (ServingStatus::ServiceUnknown, ServingStatus::ServiceUnknown)
        };
        let mut shutdown = self.shutdown.clone();
        // One status now, one when the drain begins, then the end.
        let drained = async move {
            shutdown.draining().await;
            Ok(answer(last))
        };
        let statuses = stream::iter([Ok(answer(first))]).chain(stream::once(drained));
        Ok(Response::new(Box::pin(statuses)))
    }
}

impl HealthService {
    fn status(&self) -> ServingStatus {
        if self.shutdown.is_draining() { ServingStatus::NotServing } else { ServingStatus::Serving }
    }
}

fn answer(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(service: &str) -> Request<HealthCheckRequest> {
        Request::new(HealthCheckRequest { service: service.to_owned() })
    }

    #[tokio::test]
    async fn health_follows_the_drain() {
        let (trigger, shutdown) = Shutdown::channel();
        let health = HealthService { shutdown };
        let serving = answer(ServingStatus::Serving);
        let not_serving = answer(ServingStatus::NotServing);
        for service in KNOWN {
            assert_eq!(health.check(request(service)).await.unwrap().into_inner(), serving);
        }
        let error = health.check(request("other")).await.unwrap_err();
        assert_eq!(error.code(), tonic::Code::NotFound);
        let mut watch = health.watch(request("")).await.unwrap().into_inner();
        assert_eq!(watch.next().await.unwrap().unwrap(), serving);
        trigger.drain();
        assert_eq!(watch.next().await.unwrap().unwrap(), not_serving);
        assert!(watch.next().await.is_none(), "a watch must not hold up the drain");
        assert_eq!(health.check(request("")).await.unwrap().into_inner(), not_serving);
    }
}
