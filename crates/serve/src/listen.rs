//! Opening a listening socket.
//!
//! The sockets are made here and not by tokio, because SO_REUSEPORT has to be
//! set before `bind`, and because a thread-per-core server moves each listener
//! to its thread before a runtime adopts it.

use std::{
    io,
    net::{SocketAddr, TcpListener},
};

use socket2::{Domain, Protocol, Socket, Type};

/// How a listening socket is opened.
#[derive(Clone, Copy, Debug)]
pub struct BindOptions {
    /// Lets several sockets of this user share the port; the kernel spreads
    /// connections over them. For servers with one accept loop a thread.
    pub reuse_port: bool,
    /// Connections the kernel holds until they are accepted. The kernel caps
    /// it at `net.core.somaxconn`.
    pub backlog: i32,
}

impl Default for BindOptions {
    /// No shared port, and a backlog of 4096: a flood of connections at the
    /// start of a trial must not meet SYN retransmissions of a second each.
    fn default() -> Self {
        Self { reuse_port: false, backlog: 4096 }
    }
}

/// Opens a non-blocking listening socket with SO_REUSEADDR, ready for
/// [`tokio::net::TcpListener::from_std`]. Port 0 lets the kernel choose.
///
/// # Errors
/// With the address in the message, and what to do about it.
pub fn bind(address: SocketAddr, options: BindOptions) -> io::Result<TcpListener> {
    open(address, options).map_err(|error| explain(address, &error))
}

/// Opens `count` sockets on one address with SO_REUSEPORT, one for each
/// thread of a server. With port 0 the first socket's port serves them all.
///
/// # Errors
/// As [`bind`].
pub fn bind_many(
    address: SocketAddr,
    count: usize,
    options: BindOptions,
) -> io::Result<Vec<TcpListener>> {
    let options = BindOptions { reuse_port: options.reuse_port || count > 1, ..options };
    let first = bind(address, options)?;
    let actual = first.local_addr()?;
    let mut listeners = vec![first];
    while listeners.len() < count {
        listeners.push(bind(actual, options)?);
    }
    Ok(listeners)
}

fn open(address: SocketAddr, options: BindOptions) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(options.reuse_port)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(options.backlog)?;
    Ok(socket.into())
}

fn explain(address: SocketAddr, error: &io::Error) -> io::Error {
    let advice = match error.kind() {
        io::ErrorKind::AddrInUse => {
            "the port is taken; stop the process that has it, or use port 0 to get a free one"
        }
        io::ErrorKind::AddrNotAvailable => {
            "this machine has no such address; use 127.0.0.1, or 0.0.0.0 for all of its addresses"
        }
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need a privilege; choose a higher port"
        }
        _ => "check the address, and the limits of this process (`ulimit -n`)",
    };
    io::Error::new(error.kind(), format!("cannot listen on {address}: {error}: {advice}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

    #[test]
    fn a_taken_port_is_named_with_advice() {
        let first = bind(ANY, BindOptions::default()).unwrap();
        let address = first.local_addr().unwrap();
        let error = bind(address, BindOptions::default()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        let text = error.to_string();
        assert!(text.contains(&address.to_string()) && text.contains("port 0"), "{text}");
    }

    #[test]
    fn an_address_of_another_machine_is_named_with_advice() {
        let address: SocketAddr = "192.0.2.1:0".parse().unwrap();
        let text = bind(address, BindOptions::default()).unwrap_err().to_string();
        assert!(text.contains("192.0.2.1") && text.contains("127.0.0.1"), "{text}");
    }

    #[test]
    fn many_sockets_share_one_port() {
        let listeners = bind_many(ANY, 3, BindOptions::default()).unwrap();
        let ports: Vec<_> = listeners.iter().map(|l| l.local_addr().unwrap().port()).collect();
        assert!(ports[0] != 0 && ports.iter().all(|port| *port == ports[0]), "{ports:?}");
    }
}
