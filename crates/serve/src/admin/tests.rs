use proptest::prelude::*;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::*;
use crate::{BindOptions, bind, fuzzing::ListOnly};

/// A served API; requests are made one after the other.
struct Api {
    address: SocketAddr,
    _trigger: crate::ShutdownTrigger,
}

impl Api {
    fn start(backends: &Arc<ListOnly>) -> Self {
        let listener = bind("127.0.0.1:0".parse().unwrap(), BindOptions::default()).unwrap();
        let address = listener.local_addr().unwrap();
        let (trigger, shutdown) = Shutdown::channel();
        let listener = TcpListener::from_std(listener).unwrap();
        let backends = Arc::clone(backends) as Arc<dyn Backends>;
        let allowed = AllowedHosts::default();
        tokio::spawn(serve_admin(listener, backends, Metrics::new(), allowed, shutdown));
        Self { address, _trigger: trigger }
    }

    async fn ask(&self, method: &str, path: &str, body: &str) -> (u16, serde_json::Value) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let (host, length) = (self.address, body.len());
        let fields = format!("host: {host}\r\ncontent-length: {length}");
        let head = format!("{method} {path} HTTP/1.1\r\n{fields}\r\n\r\n");
        stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        let status = text.split(' ').nth(1).unwrap().parse().unwrap();
        let (_, body) = text.split_once("\r\n\r\n").unwrap();
        (status, serde_json::from_str(body).unwrap_or(serde_json::Value::Null))
    }
}

#[tokio::test]
async fn backends_are_added_listed_changed_and_removed() {
    let backends = Arc::new(ListOnly::default());
    let api = Api::start(&backends);
    let (status, added) = api.ask("POST", "/backends", r#"{"address": "127.0.0.1:1"}"#).await;
    assert_eq!((status, &added["weight"], &added["state"]), (201, &1.into(), &"active".into()));
    let spec = r#"{"address": "[::1]:2", "weight": 3, "max_in_flight": 9, "group": "api"}"#;
    let (status, added) = api.ask("POST", "/backends", spec).await;
    assert_eq!((status, &added["address"]), (201, &"[::1]:2".into()));
    assert_eq!((&added["max_in_flight"], &added["group"]), (&9.into(), &"api".into()));

    let change = r#"{"weight": 7, "state": "draining"}"#;
    let (status, changed) = api.ask("PATCH", "/backends/[::1]:2", change).await;
    assert_eq!(
        (status, &changed["weight"], &changed["state"]),
        (200, &7.into(), &"draining".into())
    );
    let (_, changed) = api.ask("PATCH", "/backends/[::1]:2", r#"{"state": "active"}"#).await;
    assert_eq!((&changed["weight"], &changed["state"]), (&7.into(), &"active".into()));

    let (status, list) = api.ask("GET", "/backends", "").await;
    assert_eq!((status, list["backends"].as_array().unwrap().len()), (200, 2));
    assert_eq!(list["backends"][0]["in_flight"], 0);
    let (status, _) = api.ask("DELETE", "/backends/127.0.0.1:1", "").await;
    assert_eq!((status, backends.list().len()), (200, 1));
}

#[tokio::test]
async fn refusals_say_why_and_change_nothing() {
    let backends = Arc::new(ListOnly::default());
    backends.add(BackendSpec::new("127.0.0.1:1".parse().unwrap())).unwrap();
    let api = Api::start(&backends);
    let before = backends.list();
    let one = "/backends/127.0.0.1:1";
    for (method, path, body, status, word) in [
        ("POST", "/backends", r#"{"address": "127.0.0.1:1"}"#, 409, "already"),
        ("POST", "/backends", r#"{"address": "localhost:1"}"#, 422, "address"),
        ("POST", "/backends", r#"{"address": "127.0.0.1:2", "weigth": 2}"#, 422, "weigth"),
        ("POST", "/backends", r#"{"address": "127.0.0.1:2", "weight": 0}"#, 422, "zero"),
        ("POST", "/backends", "", 422, "EOF"),
        ("PATCH", one, "{}", 422, "weight"),
        ("PATCH", one, r#"{"weight": 101}"#, 422, "heavy"),
        ("PATCH", one, r#"{"weight": 101, "state": "draining"}"#, 422, "heavy"),
        ("PATCH", one, r#"{"state": "ejected"}"#, 422, "ejected"),
        ("PATCH", "/backends/127.0.0.1:9", r#"{"weight": 1}"#, 404, "127.0.0.1:9"),
        ("DELETE", one, "", 409, "no backend"),
        ("DELETE", "/backends/127.0.0.1:9", "", 404, "127.0.0.1:9"),
        ("GET", "/backends/first", "", 404, "address"),
        ("GET", "/", "", 404, "/backends"),
    ] {
        let (found, answer) = api.ask(method, path, body).await;
        let text = answer["error"].as_str().unwrap_or_default();
        assert_eq!(found, status, "{method} {path} {body}: {text}");
        assert!(text.contains(word), "{method} {path} {body}: {text}");
        assert_eq!(backends.list(), before);
    }
    for path in ["/backends", one, "/metrics"] {
        assert_eq!(api.ask("PUT", path, "").await.0, 405);
    }
    assert_eq!(api.ask("GET", "/metrics", "").await.0, 200);
}

#[tokio::test]
async fn a_list_that_is_full_takes_no_more() {
    let backends = Arc::new(ListOnly::default());
    for port in 1..=BACKENDS_MAX as u16 {
        backends.add(BackendSpec::new(SocketAddr::from(([127, 0, 0, 1], port)))).unwrap();
    }
    let api = Api::start(&backends);
    let (status, _) = api.ask("POST", "/backends", r#"{"address": "127.0.0.1:65535"}"#).await;
    assert_eq!((status, backends.list().len()), (422, BACKENDS_MAX));
}

proptest! {
    #[test]
    fn no_body_upsets_it(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let backends = ListOnly::default();
        backends.add(BackendSpec::new("127.0.0.1:1".parse().unwrap())).unwrap();
        let before = backends.list();
        let added = add(&backends, &body);
        let patched = patch(&backends, "127.0.0.1:1".parse().unwrap(), &body);
        if added.is_err() && patched.is_err() {
            prop_assert_eq!(backends.list(), before);
        }
    }
}
