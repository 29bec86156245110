//! What a backend says of its load: gRPC's backend metrics (ORCA, gRFC A51), in the trailers
//! of each call. Those of health checks say what a probe asks for as well: the calls that are
//! here, and what one takes.
//!
//! Utilization is that of the servers of the queue and not of the CPU, since it is the queue
//! that stands for the work of a service here.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use balance::{LOAD_REPORT_TRAILER, LatencyMeter, LoadMeter, LoadReport};
use http::{HeaderMap, HeaderValue};
use http_body::{Frame, SizeHint};
use serve::timer::monotonic_ns;
use tonic::{Status, body::Body};

use crate::station::{Station, Timing};

/// The load of one backend.
#[derive(Debug)]
pub(crate) struct Load {
    station: Arc<Station>,
    meters: Mutex<(LoadMeter, LatencyMeter)>,
}

impl Load {
    pub(crate) fn new(station: &Arc<Station>, servers: usize) -> Self {
        let servers = u32::try_from(servers).unwrap_or(u32::MAX);
        let meters = (LoadMeter::new(servers, monotonic_ns()), LatencyMeter::default());
        Self { station: Arc::clone(station), meters: Mutex::new(meters) }
    }

    /// Calls that are here.
    pub(crate) fn in_flight(&self) -> u32 {
        let (waiting, served) = self.station.occupancy();
        u32::try_from(waiting + served).unwrap_or(u32::MAX)
    }

    /// A call was served that had found so many others.
    pub(crate) fn served(&self, found: u32, timing: Timing) {
        let (load, latency) = &mut *self.lock();
        load.served(monotonic_ns(), timing.service_ns);
        latency.ended(found, timing.queued_ns + timing.service_ns);
    }

    /// A call failed.
    pub(crate) fn failed(&self) {
        self.lock().0.failed(monotonic_ns());
    }

    fn lock(&self) -> MutexGuard<'_, (LoadMeter, LatencyMeter)> {
        // No code under the lock can leave the meters half changed.
        self.meters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add_to(&self, trailers: &mut HeaderMap, is_probe: bool) {
        let report = match is_probe {
            false => self.lock().0.report(monotonic_ns()),
            true => {
                let in_flight = self.in_flight();
                let (load, latency) = &mut *self.lock();
                let report = load.report(monotonic_ns()).unwrap_or_default();
                Some(LoadReport { probe: Some(latency.probe(in_flight)), ..report })
            }
        };
        // Base64 is always a header value.
        if let Some(Ok(value)) = report.map(|report| HeaderValue::try_from(report.to_trailer())) {
            trailers.insert(LOAD_REPORT_TRAILER, value);
        }
    }

    /// The same answer with a report in its trailers; to a probe, or to another call.
    pub(crate) fn reporting(self: Arc<Self>, body: Body, is_probe: bool) -> Body {
        Body::new(Reporting { body, load: self, is_probe })
    }
}

/// The body of an answer, in whose trailers a report is put.
struct Reporting {
    body: Body,
    load: Arc<Load>,
    is_probe: bool,
}

impl http_body::Body for Reporting {
    type Data = <Body as http_body::Body>::Data;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Status>>> {
        let mut frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &mut frame
            && let Some(trailers) = frame.trailers_mut()
        {
            self.load.add_to(trailers, self.is_probe);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
