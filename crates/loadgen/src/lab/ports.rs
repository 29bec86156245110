//! Free ports for processes that take their address on the command line.
//!
//! All ports of a trial are held open together, so that no two of them are the
//! same, and let go just before the processes start. Between the two somebody
//! else may take one: then the process fails to bind, says so, and the lab
//! tries again with other ports (see [`super::Lab`]).

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
};

/// Returns `count` different loopback addresses that were free a moment ago.
pub(crate) fn free_addresses(count: usize) -> io::Result<Vec<SocketAddr>> {
    let held: Vec<TcpListener> = (0..count)
        .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
        .collect::<io::Result<_>>()?;
    held.iter().map(TcpListener::local_addr).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn addresses_differ_and_can_be_bound() {
        let addresses = free_addresses(16).unwrap();
        assert_eq!(addresses.iter().collect::<HashSet<_>>().len(), 16);
        for address in addresses {
            TcpListener::bind(address).unwrap();
        }
    }
}
