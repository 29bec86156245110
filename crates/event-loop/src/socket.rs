//! Options of sockets, and connecting without waiting.

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

/// A socket that is connecting to `address`, with the options of a connection.
/// It becomes writable when it has connected.
///
/// # Errors
/// When the attempt fails at once: nobody listens there, or a socket can't be
/// had.
pub fn connect(address: SocketAddr, keepalive: Option<Duration>) -> Result<OwnedFd, Errno> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    set_options(&socket, keepalive)?;
    match rustix::net::connect(&socket, &address) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(errno) => Err(errno),
    }
}

/// Small writes leave at once; and, where asked for, the kernel probes a remote
/// after `keepalive` of silence, three times, and then reports it as gone. What
/// a listener is told holds for the connections that it accepts from then on.
pub(crate) fn set_options(socket: impl AsFd, keepalive: Option<Duration>) -> Result<(), Errno> {
    let socket = socket.as_fd();
    sockopt::set_tcp_nodelay(socket, true)?;
    let Some(idle) = keepalive else { return Ok(()) };
    let idle = idle.max(Duration::from_secs(1));
    let between = (idle / 3).max(Duration::from_secs(1));
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, idle)?;
    sockopt::set_tcp_keepintvl(socket, between)?;
    sockopt::set_tcp_keepcnt(socket, 3)
}

/// Makes the coming close a reset: the remote learns at once that the
/// connection was cut or not served, and no port stays in TIME_WAIT.
pub fn reset_on_close(socket: impl AsFd) {
    // A socket that can't be told so is closed the ordinary way.
    let _ = sockopt::set_socket_linger(socket, Some(Duration::ZERO));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_get_their_options() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let plain = connect(address, None).expect("a listener");
        assert_eq!(sockopt::tcp_nodelay(&plain), Ok(true));
        assert_eq!(sockopt::socket_keepalive(&plain), Ok(false));
        let probed = connect(address, Some(Duration::from_secs(30))).expect("a listener");
        assert_eq!(sockopt::socket_keepalive(&probed), Ok(true));
        assert_eq!(sockopt::tcp_keepidle(&probed), Ok(Duration::from_secs(30)));
        assert_eq!(sockopt::tcp_keepintvl(&probed), Ok(Duration::from_secs(10)));
    }
}
