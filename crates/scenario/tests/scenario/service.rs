//! `[service]`: a service of the user's own, from text to types and to errors.

use std::time::Duration;

use scenario::{
    Error, Identity, InterfaceSource, RequestSource, Scenario, ScenarioSource, Setting,
};

const LOAD: &str = r#"question = "Does it hold?"
[load]
loop = "open"
connections = 1
rate = "100/s"
duration = "1s"
"#;

fn parse(service: &str) -> Result<ScenarioSource, Error> {
    ScenarioSource::parse("s", "s.toml", &format!("{LOAD}{service}"), &["l7".to_owned()])
}

fn resolve(service: &str) -> Scenario {
    let peers = "[run]\npeers = [\"l7\"]\n";
    parse(&format!("{peers}{service}")).unwrap().resolve(false, &[]).unwrap()
}

#[test]
fn a_service_is_read_with_its_defaults() {
    let service = resolve(
        "[service]\nproto = [\"a/shop.proto\"]\ninclude = [\"a\"]\n\
         [[service.call]]\nmethod = \"shop.Orders/Place\"\n",
    )
    .service
    .unwrap();
    let proto =
        InterfaceSource::Proto { files: vec!["a/shop.proto".into()], include: vec!["a".into()] };
    assert_eq!((service.interface, service.identity, service.data), (proto, None, None));
    let call = &service.calls[0];
    assert_eq!((call.weight, call.status, call.deadline), (1, 0, None));
    assert_eq!(call.request, RequestSource::Json("{}".to_owned()));
    assert_eq!((call.messages, call.responses, call.pause), (None, None, Duration::ZERO));
}

#[test]
fn a_service_is_read_with_all_its_keys() {
    let scenario = resolve(
        "[service]\nreflection = true\ndata = \"users.csv\"\nidentity = { trailer = \"x-by\" }\n\
         [[service.call]]\nmethod = \"Watch\"\nweight = 3\nrequest_file = \"/here/w.jsonl\"\n\
         metadata = { authorization = \"s3cret\" }\ndeadline = \"250ms\"\nmessages = 2\n\
         pause = \"5ms\"\nresponses = 4\n\
         expect = { status = \"NOT_FOUND\", fields = { \"$.a\" = true, \"$.b[0]\" = 1.5 } }\n",
    );
    let service = scenario.service.as_ref().unwrap();
    assert_eq!(service.identity, Some(Identity::Trailer("x-by".to_owned())));
    let call = &service.calls[0];
    assert_eq!((call.weight, call.status), (3, 5));
    assert_eq!(call.deadline, Some(Duration::from_millis(250)));
    assert_eq!((call.messages, call.responses), (Some(2), Some(4)));
    assert_eq!(call.fields[0], ("$.a".to_owned(), true.into()));
    assert_eq!(call.fields[1], ("$.b[0]".to_owned(), 1.5.into()));
    // A record keeps neither folders of this machine nor what may be a secret.
    let record = serde_json::to_string(&scenario).unwrap();
    assert!(record.contains("authorization") && record.contains("w.jsonl"), "{record}");
    assert!(!record.contains("s3cret") && !record.contains("/here"), "{record}");
}

#[test]
fn what_is_wrong_with_a_service_is_told_with_its_line() {
    let call = "[[service.call]]\nmethod = \"A/B\"\n";
    let with = |rest: &str| format!("[service]\nreflection = true\n{call}{rest}\n");
    for (service, told) in [
        ("[service]\n".to_owned(), "s.toml:7: service: the interface is missing"),
        (
            "[service]\nreflection = true\n".to_owned(),
            "s.toml:7: service.call: this key is missing",
        ),
        (format!("[service]\nproto = []\n{call}"), "s.toml:8: service.proto: this list is empty"),
        (
            format!("[service]\nreflection = true\ndescriptor_set = \"a\"\n{call}"),
            "s.toml:7: service: `proto`, `descriptor_set` and `reflection` all give",
        ),
        (
            format!("[service]\nreflection = true\ninclude = [\"a\"]\n{call}"),
            "s.toml:9: service.include: belongs to `service.proto`",
        ),
        (
            format!("[service]\nreflection = true\nidentity = {{ header = \"X-By\" }}\n{call}"),
            "s.toml:9: service.identity: `X-By` is no name of a header in HTTP/2",
        ),
        (
            format!("[service]\nreflection = true\nidentity = {{}}\n{call}"),
            "s.toml:9: service.identity: expected one of",
        ),
        (
            with("weight = 0"),
            "s.toml:11: service.call[0].weight: found 0, expected a weight from 1",
        ),
        (with("deadline = \"0s\""), "s.toml:11: service.call[0].deadline: found 0s"),
        (with("messages = 0"), "s.toml:11: service.call[0].messages: found 0"),
        (
            with("request = \"{}\"\nrequest_file = \"a.json\""),
            "s.toml:12: service.call[0].request_file: `request` and `request_file` both",
        ),
        (
            with("expect = { status = \"NOTFOUND\" }"),
            "service.call[0].expect.status: gRPC has no status `NOTFOUND`; did you mean `NOT_FOUND`?",
        ),
        (with("weigth = 1"), "unknown key `weigth`; did you mean `weight`?"),
    ] {
        let error = parse(&service).unwrap_err().to_string();
        assert!(error.contains(told), "{told}\n{error}");
    }
    for (load, told) in [
        ("payload = \"1KiB\"", "s.toml:7: load.payload: belongs to the lab's echo service"),
        ("call = \"bidi\"", "s.toml:7: load.call: belongs to the lab's echo service"),
        ("client = \"tonic\"", "s.toml:7: load.client: `tonic` calls the lab's echo service only"),
    ] {
        let error = parse(&format!("{load}\n{}", with(""))).unwrap_err().to_string();
        assert!(error.contains(told), "{error}");
    }
}

#[test]
fn what_comes_out_late_is_blamed_on_the_line_or_the_flag() {
    let source = parse(
        "[run]\npeers = [\"l7\"]\n[service]\nreflection = true\n[[service.call]]\nmethod = \"A/B\"\n",
    );
    let source = source.unwrap();
    let error = |settings: &[Setting]| {
        source.error(settings, "service.call[0].method", "no such method".to_owned()).to_string()
    };
    assert_eq!(error(&[]), "s.toml:12: service.call[0].method: no such method");
    let call = Setting::new("service.call", "[{ method = \"A/C\" }]", "--method A/C");
    assert_eq!(error(&[call]), "--method A/C: service.call[0].method: no such method");
}
