//! Sans-I/O HTTP/2: frames, HPACK, flow control.
