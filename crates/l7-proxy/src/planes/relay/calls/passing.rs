//! What passes through a call: its request, its response, and what is kept for another attempt.

use h2_wire::hpack::HeaderList;

use super::Calls;
use crate::metrics::Outcome;
use crate::planes::relay::call::{Call, Place};
use crate::planes::relay::headers::{self, Took};
use crate::planes::relay::keys::CallKey;

impl Calls {
    /// Bytes of a request have come, of which the client's connection keeps so many
    /// for another attempt. `None` when it was answered before its request had ended.
    #[inline]
    pub(crate) fn on_request_data(
        &mut self,
        key: CallKey,
        payload: &[u8],
        end_stream: bool,
        kept_bytes: &mut usize,
    ) -> Option<&mut Call> {
        let room_bytes = self.limits.replay_room(*kept_bytes, self.kept_bytes);
        let call = self.all.get_mut(key)?;
        let is_passed_on = matches!(call.place(), Some(Place::Stream(..)));
        let request = &mut call.request;
        request.received += payload.len() as u64;
        request.is_ended |= end_stream;
        let bound_bytes = self.limits.replay_buffer_bytes.min(request.kept.len() + room_bytes);
        request.keep(payload, bound_bytes, is_passed_on);
        request.charge([kept_bytes, &mut self.kept_bytes]);
        Some(call)
    }

    /// Trailers of a request have come. Gives where its attempt is, if it has one.
    pub(crate) fn on_request_trailers(
        &mut self,
        key: CallKey,
        list: &HeaderList,
        kept_bytes: &mut usize,
    ) -> Option<Place> {
        // It may have been answered before its request had ended.
        let call = self.all.get_mut(key)?;
        call.request.is_ended = true;
        let place = call.place();
        let is_passed_on = matches!(place, Some(Place::Stream(..)));
        if call.request.is_replayable || !is_passed_on {
            call.request.trailers = Some(Box::new(list.clone()));
            call.request.charge([kept_bytes, &mut self.kept_bytes]);
        }
        place
    }

    /// The request is on a connection: what was kept while it had to wait is not kept on
    /// where there is no room for it.
    #[inline]
    pub(crate) fn on_sent(&mut self, key: CallKey, kept_bytes: &mut usize) {
        let request = &mut self.all.live_mut(key).request;
        if request.charged > 0 && self.limits.replay_room(*kept_bytes, self.kept_bytes) == 0 {
            request.drop_kept();
            request.kept = Vec::new();
            request.charge([kept_bytes, &mut self.kept_bytes]);
        }
    }

    /// The head of a response goes to the client. No other attempt will be made:
    /// what was kept for one is dropped.
    #[inline]
    pub(crate) fn on_response(
        &mut self,
        key: CallKey,
        list: &HeaderList,
        kept_bytes: &mut usize,
        now_ns: u64,
    ) {
        let call = self.all.live_mut(key);
        call.response.has_head = true;
        call.response.status = headers::status(list);
        if let Some(attempt) = &mut call.attempt {
            let latency_ns = now_ns.saturating_sub(attempt.sent_ns);
            attempt.in_flight.observe(now_ns, latency_ns);
        }
        call.request.drop_kept();
        // The memory goes with it where much is held.
        let room_bytes = self.limits.replay_room(*kept_bytes, self.kept_bytes);
        if room_bytes < self.limits.replay_bytes_per_connection / 4 * 3 {
            call.request.kept = Vec::new();
        }
        call.request.charge([kept_bytes, &mut self.kept_bytes]);
    }

    /// A response ends with this header block. Gives how it is counted.
    #[inline]
    pub(crate) fn on_response_end(
        &mut self,
        key: CallKey,
        list: &HeaderList,
        now_ns: u64,
    ) -> Outcome {
        let call = self.all.live_mut(key);
        if self.is_logged {
            call.response.note_status(list);
        }
        if let Some(attempt) = call.attempt.as_ref().filter(|_| self.reads_reports) {
            attempt.note_report(list, now_ns);
        }
        headers::outcome(call.is_grpc, call.response.status, Some(list))
    }

    /// What the backend has taken of the attempt, where answers tell it.
    #[inline]
    pub(crate) fn took(&mut self, key: CallKey, now_ns: u64) -> Option<Took> {
        if !self.limits.name_backends {
            return None;
        }
        let attempt = self.all.live(key).attempt.as_ref()?;
        Some(attempt.took(self.line.as_mut(), now_ns))
    }
}
