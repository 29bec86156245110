//! What the connections of one thread share to move bytes: the scratch buffer,
//! a few spare buffers, the pipes, and which data plane to use.

use crate::config::DataPlane;
use crate::pipes::Pipes;

/// Bytes read at once.
pub(crate) const SCRATCH_BYTES: usize = 64 << 10;

/// Spare buffers kept for the next sink that is full. Beyond these, memory is
/// given back.
const SPARE_BUFFERS: usize = 64;

/// What the connections of one thread share.
#[derive(Debug)]
pub(crate) struct Io {
    pub(crate) plane: DataPlane,
    pub(crate) scratch: Box<[u8]>,
    pub(crate) spare: Spare,
    pub(crate) pipes: Pipes,
    /// Bytes that were spliced in this turn and not yet counted.
    pub(crate) spliced_bytes: u64,
}

/// Buffers that a full sink needed and that are empty again.
#[derive(Debug, Default)]
pub(crate) struct Spare {
    buffers: Vec<Vec<u8>>,
}

impl Io {
    pub(crate) fn new(plane: DataPlane, pipes: Pipes) -> Self {
        let scratch = vec![0; SCRATCH_BYTES].into_boxed_slice();
        Self { plane, scratch, spare: Spare::default(), pipes, spliced_bytes: 0 }
    }
}

impl Spare {
    /// An empty buffer.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        self.buffers.pop().unwrap_or_default()
    }

    /// Takes a buffer back.
    pub(crate) fn give(&mut self, mut buffer: Vec<u8>) {
        if self.buffers.len() < SPARE_BUFFERS && buffer.capacity() <= SCRATCH_BYTES {
            buffer.clear();
            self.buffers.push(buffer);
        }
    }
}
