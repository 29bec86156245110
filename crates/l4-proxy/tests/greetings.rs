//! What a client says before it gets a backend: PROXY headers and TLS hellos,
//! whole, in pieces, and wrong.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::{
    io::Write,
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use common::{Backend, Proxy, Seen, await_that, config, end, expect_bytes, pass, see};
use l4_proxy::{
    BackendConfig, Config, DataPlane,
    config::{HealthCheck, HealthConfig, ProxyVersion},
};

const V1: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.1 40000 443\r\n";
const V2: &[u8] =
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\xc6\x33\x64\x01\x9c\x40\x01\xbb";

fn expecting_headers(target: &Backend) -> Config {
    Config { proxy_protocol_in: true, ..config(DataPlane::Auto, &[target.address]) }
}

const BAD: &str = "l4_connections_ended_total{end=\"bad_greeting\"}";

#[test]
fn a_header_in_two_pieces_cut_anywhere_is_taken_out_of_the_stream() {
    let target = Backend::start();
    let proxy = Proxy::start(expecting_headers(&target));
    for header in [V1, V2] {
        for cut in 0..=header.len() {
            let mut client = proxy.connect();
            client.write_all(&header[..cut]).unwrap();
            if cut < header.len() {
                assert!(target.try_accept().is_none(), "no backend before the header is whole");
            }
            client.write_all(&[&header[cut..], b"what follows"].concat()).unwrap();
            let mut backend = target.accept();
            expect_bytes(&mut backend, b"what follows");
            pass(&mut backend, &mut client, b"an answer");
        }
    }
    assert_eq!(proxy.metric(BAD), 0.0);
}

#[test]
fn a_header_that_ends_early_or_is_wrong_resets_its_client() {
    let target = Backend::start();
    let proxy = Proxy::start(expecting_headers(&target));
    let mut expected = 0.0;
    for header in [V1, V2] {
        for cut in 1..header.len() {
            let mut client = proxy.connect();
            client.write_all(&header[..cut]).unwrap();
            end(&client);
            assert_eq!(see(&mut client, 1), Seen::Reset, "cut at {cut}");
            expected += 1.0;
        }
    }
    let mut too_long = b"PROXY ".to_vec();
    too_long.resize(4_096, b'x');
    let mut too_large = V2.to_vec();
    too_large[14] = 0xff;
    for wrong in [&b"GET / HTTP/1.1\r\n\r\n"[..], &too_long, &too_large] {
        let mut client = proxy.connect();
        client.write_all(wrong).unwrap();
        assert_eq!(see(&mut client, 1), Seen::Reset);
        expected += 1.0;
    }
    proxy.await_metric(BAD, expected);
    assert!(target.try_accept().is_none(), "none of them reached the backend");
    // A probe of the port that says nothing is no fault.
    drop(proxy.connect());
    proxy.await_metric("l4_connections_ended_total{end=\"closed\"}", 1.0);
}

#[test]
fn a_header_that_never_comes_ends_with_its_time() {
    let target = Backend::start();
    let mut config = expecting_headers(&target);
    config.greeting_timeout = Duration::from_millis(500);
    let proxy = Proxy::start(config);
    let mut silent = proxy.connect();
    let mut slow = proxy.connect();
    slow.write_all(&V1[..10]).unwrap();
    assert_eq!(see(&mut silent, 1), Seen::Reset);
    assert_eq!(see(&mut slow, 1), Seen::Reset);
    proxy.await_metric(BAD, 2.0);
}

#[test]
fn a_header_is_sent_in_front_of_everything_else() {
    for (version, begins) in
        [(ProxyVersion::V1, &b"PROXY TCP4 "[..]), (ProxyVersion::V2, &V2[..14])]
    {
        let target = Backend::start();
        let mut config = config(DataPlane::Splice, &[target.address]);
        config.proxy_protocol_out = Some(version);
        let proxy = Proxy::start(config);
        let mut client = proxy.connect();
        client.write_all(b"hello").unwrap();
        let mut backend = target.accept();
        expect_bytes(&mut backend, begins);
        let (from, to) = (client.local_addr().unwrap(), proxy.address);
        match version {
            ProxyVersion::V1 => {
                let rest = format!("{} {} {} {}\r\n", from.ip(), to.ip(), from.port(), to.port());
                expect_bytes(&mut backend, rest.as_bytes());
            }
            ProxyVersion::V2 => {
                expect_bytes(&mut backend, &[0, 12, 127, 0, 0, 1, 127, 0, 0, 1]);
                let ports = [from.port().to_be_bytes(), to.port().to_be_bytes()].concat();
                expect_bytes(&mut backend, &ports);
            }
        }
        expect_bytes(&mut backend, b"hello");
    }
}

/// A backend that expects a header on every connection finds one on those of
/// health checks, which says that the proxy speaks for itself.
#[test]
fn a_health_check_sends_a_header_of_its_own() {
    for (version, header) in [
        (ProxyVersion::V1, &b"PROXY UNKNOWN\r\n"[..]),
        (ProxyVersion::V2, b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"),
    ] {
        for (check, follows) in
            [(HealthCheck::Connect, &b""[..]), (HealthCheck::Grpc, b"PRI * HTTP/2.0\r\n")]
        {
            let target = Backend::start();
            let mut config = config(DataPlane::Auto, &[target.address]);
            config.proxy_protocol_out = Some(version);
            config.health = Some(HealthConfig::every(Duration::from_millis(20), check));
            let _proxy = Proxy::start(config);
            let mut backend = target.accept();
            expect_bytes(&mut backend, &[header, follows].concat());
        }
    }
}

#[test]
fn a_chain_of_proxies_passes_the_first_client_on() {
    let target = Backend::start();
    let mut inner = expecting_headers(&target);
    inner.proxy_protocol_out = Some(ProxyVersion::V1);
    let proxy = Proxy::start(inner);
    let mut client = proxy.connect();
    client.write_all(&[V2, b"hello"].concat()).unwrap();
    let mut backend = target.accept();
    expect_bytes(&mut backend, V1);
    expect_bytes(&mut backend, b"hello");
}

#[test]
fn a_hash_policy_goes_by_the_address_in_the_header() {
    let backends = [(); 4].map(|()| Backend::start());
    let addresses: Vec<SocketAddr> = backends.iter().map(|backend| backend.address).collect();
    let mut config = config(DataPlane::Auto, &addresses);
    config.proxy_protocol_in = true;
    config.policy = balance::PolicyKind::Maglev;
    let proxy = Proxy::start(config);
    let mut arrived_at = |last: u8| {
        let mut client = proxy.connect();
        write!(client, "PROXY TCP4 192.0.2.{last} 192.0.2.1 1 2\r\n").unwrap();
        let mut found = None;
        await_that("the connection at some backend", || {
            found = backends.iter().position(|backend| backend.try_accept().is_some());
            found.is_some()
        });
        found.unwrap()
    };
    let first: Vec<_> = (0..32).map(&mut arrived_at).collect();
    let second: Vec<_> = (0..32).map(&mut arrived_at).collect();
    assert_eq!(first, second);
    assert!((0..4).all(|index| first.contains(&index)), "{first:?}");
}

/// A ClientHello for a name, in records of at most `most` bytes.
fn hello(name: &str, most: usize) -> Vec<u8> {
    let sized = |content: &[u8]| [&(content.len() as u16).to_be_bytes(), content].concat();
    let entry = [&[0][..], &sized(name.as_bytes())].concat();
    let server_name = [&[0, 0][..], &sized(&sized(&entry))].concat();
    // As large as a post-quantum key share makes it.
    let key_share = [&[0, 51][..], &sized(&[7; 1_300])].concat();
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0x13, 0x01, 1, 0]);
    body.extend(sized(&[key_share, server_name].concat()));
    let mut handshake = vec![1, 0];
    handshake.extend(sized(&body));
    handshake.chunks(most).flat_map(|part| [&[22, 3, 1][..], &sized(part)].concat()).collect()
}

/// A proxy with a backend for `*.api.example`, and one for the rest.
fn routing(with_header: bool) -> (Proxy, Backend, Backend) {
    let (rest, api) = (Backend::start(), Backend::start());
    let grouped = BackendConfig { group: Some("api".into()), ..BackendConfig::new(api.address) };
    let config = Config {
        sni: vec!["*.api.example=api".parse().unwrap()],
        proxy_protocol_in: with_header,
        ..Config::new(vec![BackendConfig::new(rest.address), grouped])
    };
    (Proxy::start(config), rest, api)
}

#[test]
fn tls_connections_are_routed_by_name_and_passed_on_untouched() {
    let (proxy, rest, api) = routing(false);
    for (name, target) in
        [("v1.api.example", &api), ("V2.API.example", &api), ("other.example", &rest)]
    {
        for most in [16_000, 100, 7] {
            let hello = hello(name, most);
            let mut client = proxy.connect();
            // In two packets, since the first one is judged by itself.
            client.write_all(&hello[..hello.len() / 2]).unwrap();
            client.write_all(&hello[hello.len() / 2..]).unwrap();
            let mut backend = target.accept();
            expect_bytes(&mut backend, &hello);
            pass(&mut backend, &mut client, b"server hello");
            pass(&mut client, &mut backend, b"finished");
        }
    }
    assert_eq!(proxy.metric(BAD), 0.0);
}

#[test]
fn a_hello_sent_byte_by_byte_arrives_too() {
    let (proxy, _rest, api) = routing(false);
    let hello = hello("slow.api.example", 500);
    let mut client = proxy.connect();
    for byte in &hello {
        client.write_all(&[*byte]).unwrap();
    }
    expect_bytes(&mut api.accept(), &hello);
}

#[test]
fn a_header_and_a_hello_come_in_this_order() {
    let (proxy, _rest, api) = routing(true);
    let hello = hello("v1.api.example", 16_000);
    let mut client = proxy.connect();
    client.write_all(&[V2, &hello].concat()).unwrap();
    expect_bytes(&mut api.accept(), &hello);
}

#[test]
fn what_is_no_hello_is_reset() {
    let (proxy, rest, api) = routing(false);
    let refused = |bytes: &[u8]| {
        let mut client: TcpStream = proxy.connect();
        client.write_all(bytes).unwrap();
        assert_eq!(see(&mut client, 1), Seen::Reset);
    };
    refused(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    let mut wrong = hello("v1.api.example", 16_000);
    // A length of the handshake that nothing could bring.
    wrong[6] = 0xff;
    refused(&wrong);
    assert!(rest.try_accept().is_none() && api.try_accept().is_none());
}

#[test]
fn a_route_to_a_group_that_is_gone_resets() {
    let (proxy, _rest, api) = routing(false);
    proxy.backends().remove(api.address).unwrap();
    let mut client = proxy.connect();
    client.write_all(&hello("v1.api.example", 16_000)).unwrap();
    assert_eq!(see(&mut client, 1), Seen::Reset);
    assert_eq!(proxy.metric("l4_connections_ended_total{end=\"no_backend\"}"), 1.0);
}
