//! What the connections of one thread share to move bytes: the scratch buffer
//! and a few spare buffers.

/// Bytes read at once. Larger buffers were measured too: see the crate's notes
/// on the data planes.
pub(crate) const SCRATCH_BYTES: usize = 64 << 10;

/// Spare buffers kept for the next sink that is full. Beyond these, memory is
/// given back.
const SPARE_BUFFERS: usize = 64;

/// What the connections of one thread share.
#[derive(Debug)]
pub(crate) struct Io {
    pub(crate) scratch: Box<[u8]>,
    pub(crate) spare: Spare,
}

/// Buffers that a full sink needed and that are empty again.
#[derive(Debug, Default)]
pub(crate) struct Spare {
    buffers: Vec<Vec<u8>>,
}

impl Io {
    pub(crate) fn new() -> Self {
        Self { scratch: vec![0; SCRATCH_BYTES].into_boxed_slice(), spare: Spare::default() }
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
