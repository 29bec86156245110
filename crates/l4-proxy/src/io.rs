//! What the connections of one thread share to move bytes: the scratch buffer,
//! a pool of buffers, the pipes, and which data plane to use.

use event_loop::BufferPool;

use crate::{config::DataPlane, pipes::Pipes};

/// Bytes read at once.
const SCRATCH_BYTES: usize = 64 << 10;

/// What the connections of one thread share.
#[derive(Debug)]
pub(crate) struct Io {
    pub(crate) plane: DataPlane,
    pub(crate) scratch: Box<[u8]>,
    /// For what a sink that is full has to wait in.
    pub(crate) buffers: BufferPool,
    pub(crate) pipes: Pipes,
    /// Bytes that were spliced in this turn and not yet counted.
    pub(crate) spliced_bytes: u64,
}

impl Io {
    pub(crate) fn new(plane: DataPlane, pipes: Pipes) -> Self {
        let scratch = vec![0; SCRATCH_BYTES].into_boxed_slice();
        Self { plane, scratch, buffers: BufferPool::new(SCRATCH_BYTES), pipes, spliced_bytes: 0 }
    }
}
