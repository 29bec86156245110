//! Buffers that connections need only while something waits to be written.

/// Buffers that are empty again, for whoever needs one next.
#[derive(Debug)]
pub struct BufferPool {
    buffers: Vec<Vec<u8>>,
    buffer_bytes_max: usize,
}

/// Buffers kept. Beyond these, memory is given back.
const BUFFERS_MAX: usize = 64;

impl BufferPool {
    /// A pool that gives back the memory of buffers above this size.
    pub const fn new(buffer_bytes_max: usize) -> Self {
        Self { buffers: Vec::new(), buffer_bytes_max }
    }

    /// An empty buffer.
    #[inline]
    pub fn take(&mut self) -> Vec<u8> {
        self.buffers.pop().unwrap_or_default()
    }

    /// Takes a buffer back.
    #[inline]
    pub fn put(&mut self, mut buffer: Vec<u8>) {
        if self.buffers.len() < BUFFERS_MAX && buffer.capacity() <= self.buffer_bytes_max {
            buffer.clear();
            self.buffers.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_come_back_empty_and_large_ones_not_at_all() {
        let mut pool = BufferPool::new(64);
        pool.put(Vec::with_capacity(65));
        assert_eq!(pool.take().capacity(), 0);
        let mut buffer = Vec::with_capacity(64);
        buffer.push(1);
        pool.put(buffer);
        let buffer = pool.take();
        assert!(buffer.is_empty() && buffer.capacity() == 64);
    }
}
