//! Calls on a small shop, and what can be wrong with them.

use std::fs;

use echo_proto::v1::EchoRequest;
use prost::Message as _;

use super::*;
use crate::{
    message::{self, MOST_MESSAGE_BYTES},
    test_interface::{SHOP, echo, shop},
};

fn spec(method: &str, json: &str) -> CallSpec {
    CallSpec {
        method: method.to_owned(),
        weight: 1,
        body: Body::Json(json.to_owned()),
        metadata: Vec::new(),
        deadline: None,
        messages: None,
        pause: Duration::ZERO,
        responses: None,
        status: 0,
        fields: Vec::new(),
    }
}

fn sources() -> Sources {
    let mut last = 0;
    let random = move || {
        last += 1;
        last
    };
    let variable = |name: &str| (name == "TOKEN").then(|| "s3cret".to_owned());
    Sources { variable: Box::new(variable), random: Box::new(random) }
}

fn counter() -> impl FnMut() -> u64 {
    let mut last = 0;
    move || {
        last += 1;
        last - 1
    }
}

fn make(interface: &Interface, specs: &[CallSpec]) -> Result<Calls, String> {
    let made = Calls::make(interface, specs, None, sources(), counter(), &[], 100);
    made.map_err(|error| format!("{}: {error}", error.key))
}

fn sequences(calls: &Calls, count: u64) -> Vec<u64> {
    let read = |number| {
        let message = &calls.get(number).messages[0][message::PREFIX_LEN..];
        EchoRequest::decode(message).unwrap().sequence
    };
    (0..count).map(read).collect()
}

#[test]
fn a_constant_request_is_made_once() {
    let mut constant = spec("Unary", r#"{"sequence": 7}"#);
    constant.metadata = vec![("authorization".to_owned(), "Bearer {{ env('TOKEN') }}".to_owned())];
    constant.deadline = Some(Duration::from_millis(250));
    let calls = make(&echo(), &[constant]).unwrap();
    assert_eq!((calls.len(), calls.heads().len()), (1, 1));
    let head = &calls.heads()[calls.get(5).head as usize];
    assert_eq!(head.path, "/layerlab.echo.v1.Echo/Unary");
    let expected = [("authorization", "Bearer s3cret"), ("grpc-timeout", "250000u")];
    assert_eq!(head.metadata, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    assert!(head.is_shared);
}

#[test]
fn templates_and_mixes_make_calls_that_differ() {
    let calls = make(&echo(), &[spec("Unary", r#"{"sequence": {{ seq() }}}"#)]).unwrap();
    assert_eq!(sequences(&calls, 102)[98..], [98, 99, 0, 1]);
    let mut rare = spec("Unary", r#"{"sequence": 1}"#);
    let mut often = spec("ServerStream", r#"{"sequence": 2}"#);
    (rare.weight, often.weight) = (1, 3);
    let calls = make(&echo(), &[rare, often]).unwrap();
    assert_eq!(sequences(&calls, 8), [1, 2, 2, 2, 1, 2, 2, 2]);
    assert_eq!(calls.prepared.len(), 2, "each is encoded once");
    assert_eq!(calls.rules(calls.get(1)).kind, Kind::ServerStream);
    let mut metadata = spec("Unary", "{}");
    metadata.metadata = vec![("x-id".to_owned(), "{{ uuid() }}".to_owned())];
    let calls = make(&echo(), &[metadata]).unwrap();
    assert_eq!((calls.len(), calls.heads().len()), (100, 100));
    assert!(!calls.heads()[0].is_shared);
}

#[test]
fn calls_that_were_recorded_are_made_in_their_order_and_size() {
    let sized = |method: &str, sequence: u32| {
        let text = format!(
            "{{\"sequence\": {sequence}, \"payload\": \"{{{{ text(request_bytes()) }}}}\"}}"
        );
        spec(method, &text)
    };
    let specs = [sized("Unary", 1), sized("ServerStream", 2)];
    let (unary, stream) = ("layerlab.echo.v1.Echo/Unary", "layerlab.echo.v1.Echo/ServerStream");
    let recorded = [(stream, 40), (unary, 8), (unary, 400), (stream, 4)];
    let recorded = recorded
        .map(|(method, bytes)| Recorded { method: Some(method), request_bytes: Some(bytes) });
    let made = Calls::make(&echo(), &specs, None, sources(), counter(), &recorded, 4).unwrap();
    assert_eq!(sequences(&made, 4), [2, 1, 1, 2]);
    let payload = |number| {
        let message = &made.get(number).messages[0][message::PREFIX_LEN..];
        EchoRequest::decode(message).unwrap().payload.len()
    };
    // Base64 in JSON: four letters are three bytes.
    assert_eq!([0, 1, 2, 3].map(payload), [30, 6, 300, 3]);
}

#[test]
fn the_lines_of_a_file_are_taken_in_turn() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("calls.jsonl");
    fs::write(&file, "{\"sequence\": 1}\n\n{\"sequence\": 2}\n{\"sequence\": 3}\n").unwrap();
    let mut unary = spec("Unary", "");
    unary.body = Body::File(file.clone());
    let calls = make(&echo(), &[unary.clone()]).unwrap();
    assert_eq!(sequences(&calls, 5), [1, 2, 3, 1, 2]);
    let mut stream = CallSpec { method: "ClientStream".to_owned(), ..unary };
    assert_eq!(make(&echo(), &[stream.clone()]).unwrap().get(0).messages.len(), 3);
    stream.messages = Some(2);
    assert_eq!(sequences(&make(&echo(), &[stream]).unwrap(), 4), [1, 3, 2, 1]);
}

#[test]
fn an_encoded_request_is_sent_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("call.bin");
    let request = EchoRequest { sequence: 9, ..EchoRequest::default() };
    fs::write(&file, request.encode_to_vec()).unwrap();
    let call = CallSpec { body: Body::File(file.clone()), ..spec("Unary", "") };
    assert_eq!(sequences(&make(&echo(), std::slice::from_ref(&call)).unwrap(), 1), [9]);
    fs::write(&file, b"\xff").unwrap();
    assert!(make(&echo(), &[call]).unwrap_err().contains("no encoded"));
}

#[test]
fn columns_are_those_of_the_call_s_row() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("users.csv");
    fs::write(&file, "id,name\n5,ann\n6,bob\n").unwrap();
    let call = [spec("Unary", r#"{"sequence": {{ column("id") }}}"#)];
    let make = |data: &Path| Calls::make(&echo(), &call, Some(data), sources(), counter(), &[], 10);
    assert_eq!(sequences(&make(&file).unwrap(), 3), [5, 6, 5]);
    fs::write(&file, "id,name\n").unwrap();
    let error = make(&file).unwrap_err();
    assert_eq!(error.key, "data");
    assert!(error.to_string().contains("at least one line of values"), "{error}");
}

#[test]
fn what_is_wrong_is_told_with_its_setting() {
    let with = |change: fn(&mut CallSpec)| {
        let mut changed = spec("Place", "{}");
        change(&mut changed);
        make(&shop(), &[changed]).unwrap_err()
    };
    let cases: [(&str, String); 12] = [
        (
            "call[0].method: no method is called `shop.Orders/Plac`; did you mean \
             `shop.Orders/Place`?; known are `shop.Orders/Place`, ",
            with(|spec| spec.method = "shop.Orders/Plac".to_owned()),
        ),
        (
            "call[0].request: the request of `shop.Orders/Place` is not right: `custmer`",
            with(|spec| spec.body = Body::Json(r#"{"custmer": ""}"#.to_owned())),
        ),
        (
            "call[0].request: the template can't be rendered: the environment variable TOKE",
            with(|spec| spec.body = Body::Json("{{ env('TOKE') }}".to_owned())),
        ),
        (
            "call[0].request_file: cannot read missing.json",
            with(|spec| spec.body = Body::File("missing.json".into())),
        ),
        (
            "call[0].metadata: metadata `X-Id`: names are in lower case",
            with(|spec| spec.metadata = vec![("X-Id".to_owned(), String::new())]),
        ),
        (
            "call[0].metadata: metadata `te`",
            with(|spec| spec.metadata = vec![("te".to_owned(), "gzip".to_owned())]),
        ),
        (
            "call[0].metadata: metadata `a-bin`: a name in `-bin` takes base64",
            with(|spec| spec.metadata = vec![("a-bin".to_owned(), "%".to_owned())]),
        ),
        (
            "call[0].messages: `shop.Orders/Place` is unary: it takes one request",
            with(|spec| spec.messages = Some(2)),
        ),
        (
            "call[0].pause: `shop.Orders/Place` is unary",
            with(|spec| spec.pause = Duration::from_millis(1)),
        ),
        (
            "call[0].responses: `shop.Orders/Import` is client streaming: it gives one",
            with(|spec| {
                spec.method = "Import".to_owned();
                spec.responses = Some(2);
            }),
        ),
        (
            "call[0].expect: `$.idd`: shop.Placed has no field `idd`; did you mean `id`?",
            with(|spec| spec.fields = vec![("$.idd".to_owned(), "x".into())]),
        ),
        (
            "call[0].request: the request of `shop.Orders/Place` has 8388",
            with(|spec| {
                let text = "x".repeat(MOST_MESSAGE_BYTES);
                spec.body = Body::Json(format!(r#"{{"customer": "{text}"}}"#));
            }),
        ),
    ];
    for (start, error) in cases {
        assert!(error.starts_with(start), "{error}");
    }
    let mut secret = spec("Place", r#"{"state": "{{ env('TOKEN') }}"}"#);
    secret.weight = 1;
    let error = make(&shop(), &[secret]).unwrap_err();
    assert!(error.contains("***") && !error.contains("s3cret"), "{error}");
}

#[test]
fn a_proto_that_does_not_compile_is_told_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("shop.proto");
    let error = |text: &str| {
        fs::write(&file, text).unwrap();
        Interface::from_protos(std::slice::from_ref(&file), &[]).unwrap_err().to_string()
    };
    let broken = error(&SHOP.replace("string sku = 1;", "strin sku = 1;"));
    assert!(broken.starts_with("shop.proto:15:"), "{broken}");
    let broken = error(&SHOP.replace("string sku = 1;", "string sku 1;"));
    assert!(broken.starts_with("shop.proto:15:"), "{broken}");
    let broken = error("syntax = \"proto3\";\nimport \"missing.proto\";\n");
    assert!(broken.starts_with("shop.proto:2:") && broken.contains("missing.proto"), "{broken}");
    let missing = Interface::from_protos(&[folder.path().join("no.proto")], &[]).unwrap_err();
    assert!(missing.to_string().starts_with("cannot read"), "{missing}");
    fs::write(&file, "no descriptor set").unwrap();
    let set = Interface::from_descriptor_set(&file).unwrap_err();
    assert!(set.to_string().contains("is no descriptor set"), "{set}");
}
