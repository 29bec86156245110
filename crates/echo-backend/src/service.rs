//! The echo service itself: what each of the four kinds of call does with the
//! queue. `proto/echo.proto` says what a client may expect.
//!
//! A unary call and a client stream pass the queue once (a client stream when
//! its last request has come); a server stream passes it for every response
//! and a bidi stream for every request, one after the other, as a handler in a
//! real service would. Messages of one stream that wait for their turn wait in
//! the stream and not in the queue.

use std::{pin::Pin, sync::Arc};

use echo_proto::v1::{EchoRequest, EchoResponse, echo_server::Echo};
use futures_util::{Stream, stream};
use h2_wire::grpc::parse_timeout;
use tokio::time::Instant;
use tonic::{Request, Response, Status, Streaming, metadata::MetadataMap};

use crate::{
    counters::{CallGuard, Counters},
    load::Load,
    payload,
    station::{Station, Unserved},
};

/// Room for everything in a response but its payload.
const RESPONSE_OVERHEAD_BYTES: usize = 1024;

/// The service of one backend. Clones are the same backend.
#[derive(Clone, Debug)]
pub(crate) struct EchoService {
    pub(crate) id: Arc<str>,
    pub(crate) station: Arc<Station>,
    pub(crate) counters: Counters,
    pub(crate) max_message_bytes: usize,
    /// What is told of the load; `None` where nothing is.
    pub(crate) load: Option<Arc<Load>>,
}

type ResponseStream = Pin<Box<dyn Stream<Item = Result<EchoResponse, Status>> + Send>>;

#[tonic::async_trait]
impl Echo for EchoService {
    async fn unary(&self, request: Request<EchoRequest>) -> Result<Response<EchoResponse>, Status> {
        let mut call = self.counters.unary.begin();
        let deadline = Deadline::of(request.metadata());
        let response = self.answer(request.into_inner(), deadline).await;
        call.end(response.is_ok());
        response.map(Response::new)
    }

    type ServerStreamStream = ResponseStream;

    async fn server_stream(
        &self,
        request: Request<EchoRequest>,
    ) -> Result<Response<ResponseStream>, Status> {
        let call = self.counters.server_stream.begin();
        let deadline = Deadline::of(request.metadata());
        let request = request.into_inner();
        let left = request.response_count.max(1);
        let state = (self.clone(), call, Some((request, left)));
        let responses = stream::unfold(state, move |(service, mut call, next)| async move {
            let Some((request, left)) = next else {
                call.end(true);
                return None;
            };
            // The last response takes the request with it.
            let (asked, rest) = match left {
                1 => (request, None),
                _ => (request.clone(), Some((request, left - 1))),
            };
            let response = service.answer(asked, deadline).await;
            // After an error tonic reads no further.
            call.end_if_failed(&response);
            Some((response, (service, call, rest)))
        });
        Ok(Response::new(Box::pin(responses)))
    }

    async fn client_stream(
        &self,
        request: Request<Streaming<EchoRequest>>,
    ) -> Result<Response<EchoResponse>, Status> {
        let mut call = self.counters.client_stream.begin();
        let deadline = Deadline::of(request.metadata());
        let response = self.answer_last(request.into_inner(), deadline).await;
        call.end(response.is_ok());
        response.map(Response::new)
    }

    type BidiStream = ResponseStream;

    async fn bidi(
        &self,
        request: Request<Streaming<EchoRequest>>,
    ) -> Result<Response<ResponseStream>, Status> {
        let call = self.counters.bidi.begin();
        let deadline = Deadline::of(request.metadata());
        let state = (self.clone(), call, request.into_inner());
        let responses =
            stream::unfold(state, move |(service, mut call, mut requests)| async move {
                let response = match deadline.within(requests.message()).await {
                    Ok(Some(request)) => service.answer(request, deadline).await,
                    Ok(None) => {
                        call.end(true);
                        return None;
                    }
                    Err(status) => Err(status),
                };
                call.end_if_failed(&response);
                Some((response, (service, call, requests)))
            });
        Ok(Response::new(Box::pin(responses)))
    }
}

impl EchoService {
    /// Serves one request: through the queue, then the echo.
    async fn answer(
        &self,
        request: EchoRequest,
        deadline: Deadline,
    ) -> Result<EchoResponse, Status> {
        let response_bytes = self.checked_size(request.response_bytes)?;
        let found = self.load.as_ref().map_or(0, |load| load.in_flight());
        let served = deadline
            .within(async {
                self.station.serve().await.map_err(|reason| match reason {
                    Unserved::Full => Status::resource_exhausted(reason.to_string()),
                    Unserved::Ended => Status::unavailable(reason.to_string()),
                    Unserved::Failed => Status::internal(reason.to_string()),
                })
            })
            .await;
        match (&self.load, &served) {
            (Some(load), Ok(timing)) => load.served(found, *timing),
            (Some(load), Err(_)) => load.failed(),
            (None, _) => {}
        }
        let timing = served?;
        Ok(EchoResponse {
            sequence: request.sequence,
            payload: payload::resize(request.payload, response_bytes),
            backend: self.id.as_ref().to_owned(),
            queued_ns: timing.queued_ns,
            service_ns: timing.service_ns,
        })
    }

    async fn answer_last(
        &self,
        mut requests: Streaming<EchoRequest>,
        deadline: Deadline,
    ) -> Result<EchoResponse, Status> {
        let mut last = None;
        while let Some(request) = deadline.within(requests.message()).await? {
            last = Some(request);
        }
        let last =
            last.ok_or_else(|| Status::invalid_argument("a client stream needs a request"))?;
        self.answer(last, deadline).await
    }

    /// Refuses a size that could not be sent, before memory is taken for it.
    fn checked_size(&self, response_bytes: u32) -> Result<usize, Status> {
        let wanted = usize::try_from(response_bytes).unwrap_or(usize::MAX);
        let most = self.max_message_bytes.saturating_sub(RESPONSE_OVERHEAD_BYTES);
        if wanted > most {
            return Err(Status::invalid_argument(format!(
                "response_bytes is {wanted}, and this backend sends at most {most}"
            )));
        }
        Ok(wanted)
    }
}

impl CallGuard {
    fn end_if_failed(&mut self, response: &Result<EchoResponse, Status>) {
        if response.is_err() {
            self.end(false);
        }
    }
}

/// When the caller stops waiting, if it said so: a caller behind a proxy may give up without
/// its proxy telling, and a call that nobody waits for must not hold a place in the queue.
#[derive(Clone, Copy, Debug)]
struct Deadline(Option<Instant>);

impl Deadline {
    fn of(metadata: &MetadataMap) -> Self {
        // tonic heeds it in a transport of its own, which this backend does not use. One that
        // can't be read counts as none, as the reference implementations have it.
        let header = metadata.get("grpc-timeout");
        let timeout = header.and_then(|header| parse_timeout(header.as_bytes()));
        Self(timeout.and_then(|timeout| Instant::now().checked_add(timeout)))
    }

    async fn within<T>(self, work: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
        match self.0 {
            None => work.await,
            Some(at) => tokio::time::timeout_at(at, work)
                .await
                .unwrap_or_else(|_| Err(Status::deadline_exceeded("the call's time ran out"))),
        }
    }
}
