//! What a peer does wrong or too often: frames on streams that are not there, streams that break,
//! floods, and header blocks without end.

use super::{
    Block, Connection, Drain, Role,
    receive::{Event, protocol},
};
use crate::{
    error::{Error, Reason},
    flood::Flood,
    frame,
};

/// Streams that are not there, and those that break.
impl<T: Copy + Default> Connection<T> {
    #[inline]
    pub(super) fn count(&mut self, what: Flood) -> Result<(), Error> {
        self.floods.count(what, 1, &self.options.floods)
    }

    /// Counts a header list that was over the limits, by what it made us do beyond them.
    #[cold]
    pub(super) fn count_overrun(&mut self) -> Result<(), Error> {
        let weight = 1 + (self.decoder.overrun_bytes() >> 16) as u32;
        self.floods.count(Flood::Reset, weight, &self.options.floods)
    }

    /// Whether nobody has used the stream yet.
    pub(super) fn is_idle(&self, id: u32) -> bool {
        let is_of_client = !id.is_multiple_of(2);
        match self.options.role {
            // Pushes are disabled, so a server's streams are all idle.
            Role::Client => !is_of_client || id >= self.next_stream,
            Role::Server => !is_of_client || id > self.highest_peer_stream,
        }
    }

    /// A frame that needs an open stream came for one that is not.
    ///
    /// # Errors
    /// Where the RFC makes it a connection error, or where there are too many.
    pub(super) fn stray(&mut self, id: u32) -> Result<(), Error> {
        if self.options.role == Role::Server || !self.floods.take_expected() {
            self.count(Flood::Stray)?;
        }
        let is_left_out = matches!(self.drain, Drain::Finished(last) if id > last);
        if is_left_out && !id.is_multiple_of(2) && self.options.role == Role::Server {
            return Ok(());
        }
        if self.is_idle(id) {
            return Err(protocol("frame on an idle stream"));
        }
        // A server may lag behind our resets for long; its calls are worth more than the point.
        if self.options.role == Role::Client || self.remembered.contains(id) {
            return Ok(());
        }
        Err(Error::connection(Reason::STREAM_CLOSED, "frame on a closed stream"))
    }

    /// Resets a stream for a mistake of the peer.
    ///
    /// # Errors
    /// When the stream is idle, or when that was one mistake too many.
    pub(super) fn broken<'a>(
        &mut self,
        id: u32,
        reason: Reason,
        what: &'static str,
    ) -> Result<Option<Event<'a, T>>, Error> {
        // RST_STREAM must not be sent on an idle stream (section 6.4).
        if self.is_idle(id) {
            return Err(Error::connection(reason, what));
        }
        self.count(Flood::Reset)?;
        self.error_resets += 1;
        if self.error_resets > self.options.max_error_resets {
            let what = "too many streams broken by mistakes";
            return Err(Error::connection(Reason::ENHANCE_YOUR_CALM, what));
        }
        let is_held = self.unacknowledged.holds(id);
        let removed = self.streams.find(id).and_then(|key| self.remove(key));
        let Some(user) = removed else { return Ok(None) };
        frame::rst_stream(self.output.bytes_mut(), id, reason);
        self.remembered.note(id);
        Ok((!is_held).then_some(Event::Broken { user, reason }))
    }

    pub(super) fn begin_block(
        &mut self,
        stream: u32,
        fragment: &[u8],
        end_stream: bool,
        depends_on_itself: bool,
    ) -> Result<(), Error> {
        if fragment.len() > self.options.max_block_bytes {
            return Err(block_too_long());
        }
        self.block = Some(Box::new(Block {
            stream,
            end_stream,
            depends_on_itself,
            continuations: 0,
            bytes: fragment.to_vec(),
        }));
        Ok(())
    }

    pub(super) fn continuation<'a>(
        &mut self,
        stream: u32,
        fragment: &[u8],
        end_headers: bool,
    ) -> Result<Option<Event<'a, T>>, Error> {
        let Some(mut block) = self.block.take() else { return Ok(None) };
        block.continuations += 1;
        if block.bytes.len() + fragment.len() > self.options.max_block_bytes
            || block.continuations > self.options.max_continuations
        {
            return Err(block_too_long());
        }
        block.bytes.extend_from_slice(fragment);
        if end_headers {
            return self.block(stream, &block.bytes, block.end_stream, block.depends_on_itself);
        }
        self.block = Some(block);
        Ok(None)
    }
}

#[cold]
const fn block_too_long() -> Error {
    Error::connection(Reason::ENHANCE_YOUR_CALM, "header block too long")
}
