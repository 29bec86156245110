//! A packet capture, read independently of the lab: pcap, TCP in order, and HTTP/2 frames
//! as far as it takes to see where a call begins and ends.

use std::{
    collections::HashMap,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::{Failure, lab::guarded};

/// tcpdump on the loopback device.
pub(crate) struct Capture {
    child: Child,
    file: tempfile::NamedTempFile,
}

impl Capture {
    /// Starts it, and waits until it captures.
    pub(crate) fn start() -> Result<Self, Failure> {
        let file = tempfile::NamedTempFile::new()?;
        let child = guarded("tcpdump")?
            .args(["-i", "lo", "-n", "-q", "-U", "-B", "65536", "--time-stamp-precision=nano"])
            // Run as root, it would give that up and not be allowed to write.
            .args(["-Z", "root", "-w"])
            .arg(file.path())
            .arg("tcp")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let capture = Self { child, file };
        let begun = Instant::now();
        // The head of the file is written when the device is open.
        while capture.file.as_file().metadata()?.len() < FILE_HEAD as u64 {
            if begun.elapsed() > Duration::from_secs(10) {
                return Err("tcpdump does not begin to capture".into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(capture)
    }

    /// Ends it and reads the calls.
    pub(crate) fn end(mut self) -> Result<Vec<Call>, Failure> {
        let pid = self.child.id().to_string();
        Command::new("kill").args(["-INT", &pid]).status()?;
        self.child.wait()?;
        calls(self.file.path())
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A call as it was seen on the wire, in nanoseconds since 1970.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    /// The port of the server.
    pub(crate) port: u16,
    /// The segment with the last byte of the request.
    pub(crate) request_ns: u64,
    /// The segment with the last byte of the response.
    pub(crate) response_ns: u64,
}

/// Bytes before the first packet of a file.
const FILE_HEAD: usize = 24;
/// What a file begins with whose times are in nanoseconds.
const NANOSECONDS: u32 = 0xa1b2_3c4d;
/// What a client sends first (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// One direction of a connection.
#[derive(Default)]
struct Direction {
    next: Option<u32>,
    bytes: Vec<u8>,
    has_preface: bool,
    /// A part is missing: what follows can't be read.
    is_broken: bool,
}

/// Reads the calls of a capture.
fn calls(file: &Path) -> Result<Vec<Call>, Failure> {
    let capture = std::fs::read(file)?;
    let magic = capture.first_chunk::<4>().ok_or("the capture is empty")?;
    if u32::from_le_bytes(*magic) != NANOSECONDS {
        return Err("the capture is not one of nanoseconds".into());
    }
    let mut directions: HashMap<(u16, u16), Direction> = HashMap::new();
    let mut requests: HashMap<(u16, u16, u32), u64> = HashMap::new();
    let mut calls = Vec::new();
    let mut at = FILE_HEAD;
    while let Some(head) = capture.get(at..).and_then(<[u8]>::first_chunk::<16>) {
        let field = |index: usize| {
            u32::from_le_bytes([head[index], head[index + 1], head[index + 2], head[index + 3]])
        };
        let time_ns = u64::from(field(0)) * 1_000_000_000 + u64::from(field(4));
        let length = field(8) as usize;
        let Some(packet) = capture.get(at + 16..at + 16 + length) else { break };
        at += 16 + length;
        let Some(segment) = Segment::parse(packet) else { continue };
        let key = (segment.from, segment.to);
        let direction = directions.entry(key).or_default();
        for (stream, is_client) in direction.take(&segment) {
            if is_client {
                requests.insert((segment.from, segment.to, stream), time_ns);
            } else if let Some(request_ns) = requests.remove(&(segment.to, segment.from, stream)) {
                calls.push(Call { port: segment.from, request_ns, response_ns: time_ns });
            }
        }
    }
    Ok(calls)
}

/// A TCP segment over IPv4 on Ethernet, which loopback says it is.
struct Segment<'a> {
    from: u16,
    to: u16,
    sequence: u32,
    is_first: bool,
    payload: &'a [u8],
}

impl<'a> Segment<'a> {
    fn parse(packet: &'a [u8]) -> Option<Self> {
        let ip = packet.get(14..)?;
        if packet[12..14] != [0x08, 0x00] || *ip.get(9)? != 6 {
            return None;
        }
        let whole = usize::from(u16::from_be_bytes([*ip.get(2)?, *ip.get(3)?]));
        let ip = ip.get(..whole)?;
        let tcp = ip.get(usize::from(ip[0] & 0xf) * 4..)?;
        let port =
            |index: usize| Some(u16::from_be_bytes([*tcp.get(index)?, *tcp.get(index + 1)?]));
        let sequence = tcp.get(4..8)?.first_chunk::<4>().copied().map(u32::from_be_bytes)?;
        let (offset, flags) = (usize::from(*tcp.get(12)? >> 4) * 4, *tcp.get(13)?);
        Some(Self {
            from: port(0)?,
            to: port(2)?,
            sequence,
            is_first: flags & 2 != 0,
            payload: tcp.get(offset..)?,
        })
    }
}

impl Direction {
    /// Takes a segment; returns the streams that end in it, and whether on the client's
    /// side.
    fn take(&mut self, segment: &Segment<'_>) -> Vec<(u32, bool)> {
        if segment.is_first {
            *self = Self { next: Some(segment.sequence.wrapping_add(1)), ..Self::default() };
            return Vec::new();
        }
        // A connection from before the capture.
        let Some(next) = self.next.filter(|_| !self.is_broken) else { return Vec::new() };
        let ahead = segment.sequence.wrapping_sub(next) as i32;
        if ahead > 0 {
            self.is_broken = true;
            return Vec::new();
        }
        // Sent again, all of it or a part.
        let seen = ahead.unsigned_abs() as usize;
        let Some(fresh) = segment.payload.get(seen..) else { return Vec::new() };
        self.next = Some(next.wrapping_add(fresh.len() as u32));
        self.bytes.extend_from_slice(fresh);
        self.frames()
    }

    /// The streams that end with the frames which are whole.
    fn frames(&mut self) -> Vec<(u32, bool)> {
        let mut ended = Vec::new();
        let mut at = 0;
        if !self.has_preface && self.bytes.starts_with(PREFACE) {
            (self.has_preface, at) = (true, PREFACE.len());
        }
        while let Some(head) = self.bytes.get(at..).and_then(<[u8]>::first_chunk::<9>) {
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let Some(frame) = self.bytes.get(at..at + 9 + length) else { break };
            let (kind, flags) = (frame[3], frame[4]);
            // DATA or HEADERS with END_STREAM.
            if kind <= 1 && flags & 1 != 0 {
                let id = u32::from_be_bytes([frame[5] & 0x7f, frame[6], frame[7], frame[8]]);
                ended.push((id, self.has_preface));
            }
            at += 9 + length;
        }
        self.bytes.drain(..at);
        ended
    }
}
