//! The tonic echo service with a real queue.
