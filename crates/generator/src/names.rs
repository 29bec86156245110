//! A name server for one name: what real clients resolve to learn of the backends.
//!
//! It answers questions for IPv4 addresses (RFC 1035) over UDP, with those of the backends
//! there are, each time from another one on, as DNS servers do. Every name is that of the
//! backends, and other kinds of records are empty. Answers must not be kept (a time to live
//! of zero): when to ask again is what clients differ in.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// How often it looks whether it is over.
const LOOK_EVERY: Duration = Duration::from_millis(50);
const HEADER_BYTES: usize = 12;
/// A record of an address and one of the internet, as questions ask for them.
const ADDRESS_OF_INTERNET: [u8; 4] = [0, 1, 0, 1];

/// The name server. It ends when it is dropped.
#[derive(Debug)]
pub struct NameServer {
    listens_at: SocketAddr,
    names: Arc<Names>,
    thread: Option<JoinHandle<()>>,
}

/// What its name stands for.
#[derive(Debug)]
pub struct Names {
    backends: Vec<Ipv4Addr>,
    /// Indices of those that it stands for now.
    members: Mutex<Vec<usize>>,
    is_over: AtomicBool,
}

impl Names {
    /// It stands for these backends from now on.
    pub fn set(&self, members: &[usize]) {
        let mut own = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        members.clone_into(&mut own);
    }

    /// Its addresses, from number `turn` on.
    fn addresses(&self, turn: usize) -> Vec<Ipv4Addr> {
        let members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<Ipv4Addr> = members.iter().map(|&index| self.backends[index]).collect();
        let by = turn % all.len().max(1);
        all.rotate_left(by);
        all
    }
}

impl NameServer {
    /// Starts one for backends at addresses of IPv4; `members` are the indices of those that
    /// the name stands for at first.
    pub fn start(backends: &[SocketAddr], members: &[usize]) -> io::Result<Self> {
        let ipv4 = |address: &SocketAddr| match address.ip() {
            IpAddr::V4(ip) => Ok(ip),
            IpAddr::V6(_) => Err(io::Error::other("a backend's address is none of IPv4")),
        };
        let names = Arc::new(Names {
            backends: backends.iter().map(ipv4).collect::<io::Result<_>>()?,
            members: Mutex::new(members.to_vec()),
            is_over: AtomicBool::new(false),
        });
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.set_read_timeout(Some(LOOK_EVERY))?;
        let listens_at = socket.local_addr()?;
        let thread = thread::Builder::new().name("names".to_owned()).spawn({
            let names = Arc::clone(&names);
            move || serve(&socket, &names)
        })?;
        Ok(Self { listens_at, names, thread: Some(thread) })
    }

    /// Where it is asked.
    pub fn listens_at(&self) -> SocketAddr {
        self.listens_at
    }

    /// What its name stands for, to be changed.
    pub fn names(&self) -> &Arc<Names> {
        &self.names
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.names.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // One that panicked has said so.
            let _ = thread.join();
        }
    }
}

fn serve(socket: &UdpSocket, names: &Names) {
    let mut buffer = [0; 512];
    let mut turn = 0;
    while !names.is_over.load(Ordering::Relaxed) {
        // A question that never came whole is asked again by who wants an answer.
        let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
        if let Some(answer) = answer(&buffer[..length], &names.addresses(turn)) {
            let _ = socket.send_to(&answer, from);
            // Resolvers ask for other kinds of records as well, which take no turn.
            turn += usize::from(answer[7] > 0);
        }
    }
}

/// The answer to a message; `None` where it is no single question.
fn answer(message: &[u8], addresses: &[Ipv4Addr]) -> Option<Vec<u8>> {
    let header = message.get(..HEADER_BYTES)?;
    let is_question = header[2] & 0x80 == 0 && header[4..6] == [0, 1];
    // Labels, each with its length before it, up to one of no length.
    let mut end = HEADER_BYTES;
    while *message.get(end)? != 0 {
        end += usize::from(message[end]) + 1;
    }
    let kind: [u8; 4] = message.get(end + 1..end + 5)?.try_into().ok()?;
    if !is_question {
        return None;
    }
    let addresses = if kind == ADDRESS_OF_INTERNET { addresses } else { &[] };
    let mut answer = Vec::with_capacity(message.len() + 16 * addresses.len());
    answer.extend(&header[..2]);
    // An answer, with authority, recursion as it was desired and to be had, no error.
    answer.extend([0x84 | header[2] & 1, 0x80]);
    let count = u16::try_from(addresses.len()).ok()?;
    answer.extend([[0, 1], count.to_be_bytes(), [0, 0], [0, 0]].concat());
    answer.extend(&message[HEADER_BYTES..end + 5]);
    for address in addresses {
        // The name of the question, which stands behind the header.
        answer.extend([0xc0, HEADER_BYTES as u8]);
        answer.extend(ADDRESS_OF_INTERNET);
        answer.extend([0, 0, 0, 0, 0, 4]);
        answer.extend(address.octets());
    }
    Some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A question for the addresses of `a.test`, as a resolver sends it.
    const QUESTION: &[u8] =
        b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x04test\x00\x00\x01\x00\x01";

    fn asked(server: &NameServer) -> Vec<Ipv4Addr> {
        let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        client.send_to(QUESTION, server.listens_at()).unwrap();
        let mut buffer = [0; 512];
        let length = client.recv(&mut buffer).unwrap();
        assert_eq!(buffer[..2], QUESTION[..2]);
        assert_eq!(buffer[3] & 0x0f, 0, "no error");
        let records = &buffer[QUESTION.len()..length];
        let address = |record: &[u8]| Ipv4Addr::from(*record.last_chunk::<4>().unwrap());
        records.chunks(16).map(address).collect()
    }

    #[test]
    fn a_name_stands_for_the_members_of_now_in_turn() {
        let backends: Vec<SocketAddr> =
            (1..4).map(|last| SocketAddr::from(([127, 0, 1, last], 7))).collect();
        let server = NameServer::start(&backends, &[0, 1]).unwrap();
        let [one, two, three] = [1, 2, 3].map(|last| Ipv4Addr::new(127, 0, 1, last));
        assert_eq!(asked(&server), [one, two]);
        assert_eq!(asked(&server), [two, one]);
        server.names().set(&[0, 1, 2]);
        assert_eq!(asked(&server), [three, one, two]);
    }

    #[test]
    fn what_is_no_question_for_an_address_has_none() {
        let any = [Ipv4Addr::LOCALHOST];
        let mut ipv6 = QUESTION.to_vec();
        ipv6[QUESTION.len() - 3] = 28;
        assert_eq!(answer(&ipv6, &any).unwrap().len(), QUESTION.len());
        for length in 0..QUESTION.len() {
            assert_eq!(answer(&QUESTION[..length], &any), None, "{length}");
        }
        let mut response = QUESTION.to_vec();
        response[2] |= 0x80;
        assert_eq!(answer(&response, &any), None);
    }
}
