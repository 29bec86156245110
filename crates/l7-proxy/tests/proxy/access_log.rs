//! The access log: one line of JSON for each call that ended, and never a call
//! that waits for it.

use std::path::Path;

use serde_json::Value;
use testkit::{
    await_that,
    lab::{Lab, client, l7_config, start_l7},
    negative::{Case, NegativeServer},
    on_each_data_plane,
    peer::Peer,
    wire::{self, code},
};

use crate::common::{call, echo};

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// Waits for so many lines.
async fn await_lines(path: &Path, count: usize) -> Vec<Value> {
    await_that("lines of the log", || lines(path).len() >= count).await;
    lines(path)
}

#[test]
fn each_call_has_a_line_that_says_what_became_of_it() {
    on_each_data_plane(async |plane| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.json");
        let lab = Lab::start_with(plane, 1, |config| {
            config.access_log.access_log = Some(path.clone());
        });
        let mut calls = client(lab.l7.addr()).await;
        calls.unary(echo(1, vec![1; 1_000])).await.unwrap();
        let mut raw = Peer::client(lab.l7.addr(), &[]).await;
        raw.send(&call(1, &[("grpc-timeout", "never")])).await.unwrap();
        raw.message(1).await;
        let found = await_lines(&path, 2).await;
        let (ok, rejected) = (&found[0], &found[1]);
        assert_eq!(ok["path"], wire::UNARY);
        assert_eq!(ok["backend"], lab.backends[0].addr().to_string());
        assert_eq!((&ok["outcome"], &ok["grpc_status"]), (&"ok".into(), &0.into()));
        assert_eq!((&ok["http_status"], &ok["attempts"]), (&200.into(), &1.into()));
        assert!(ok["remote"].as_str().unwrap().starts_with("127.0.0.1:"));
        for name in ["request_bytes", "response_bytes"] {
            let bytes = ok[name].as_u64().unwrap();
            assert!((1_000..1_100).contains(&bytes), "{name}: {bytes}");
        }
        assert!(ok["duration_us"].as_u64().unwrap() > 0);
        assert!(ok["time_unix_ms"].as_u64().unwrap() > 1_500_000_000_000);
        assert_eq!(
            (&rejected["outcome"], &rejected["grpc_status"]),
            (&"rejected".into(), &13.into())
        );
        assert_eq!((&rejected["backend"], &rejected["attempts"]), (&Value::Null, &0.into()));
    });
}

#[test]
fn calls_that_fail_have_one_too() {
    on_each_data_plane(async |plane| {
        let folder = tempfile::tempdir().unwrap();
        let cases = [
            (Case::CloseBeforeHeaders, "broken", Some(14)),
            (Case::RstAfterHeader, "reset", None),
            (Case::RefuseStreams, "reset", Some(14)),
        ];
        for (case, outcome, status) in cases {
            let path = folder.path().join(format!("{case:?}"));
            let backend = NegativeServer::start(case).await;
            let mut config = l7_config(plane, &[backend.addr()]);
            config.access_log.access_log = Some(path.clone());
            let l7 = start_l7(config);
            let mut raw = Peer::client(l7.addr(), &[]).await;
            raw.send(&call(1, &[])).await.unwrap();
            raw.message(1).await;
            let line = &await_lines(&path, 1).await[0];
            assert_eq!(line["backend"], backend.addr().to_string(), "{case:?}");
            if case != Case::RefuseStreams {
                assert_eq!(line["outcome"], outcome, "{case:?}");
            }
            assert_eq!(line["grpc_status"].as_u64(), status, "{case:?}: {line}");
        }
    });
}

#[test]
fn a_cancelled_call_has_one_and_a_share_of_nothing_none() {
    on_each_data_plane(async |plane| {
        let folder = tempfile::tempdir().unwrap();
        let backend = NegativeServer::start(Case::NeverAnswer).await;
        for (share, expected) in [(0.0, 0), (1.0, 1)] {
            let path = folder.path().join(format!("{share}"));
            let mut config = l7_config(plane, &[backend.addr()]);
            config.access_log.access_log = Some(path.clone());
            config.access_log.access_log_share = share;
            let mut l7 = start_l7(config);
            let before = backend.record().calls();
            let mut raw = Peer::client(l7.addr(), &[]).await;
            raw.send(&call(1, &[])).await.unwrap();
            await_that("the call to arrive", || backend.record().calls() > before).await;
            raw.send(&wire::reset(1, code::CANCEL)).await.unwrap();
            l7.await_metric("l7_calls_total{", |count| count == 1.0).await;
            drop(raw);
            // The log is whole when the proxy has ended.
            l7.trigger().drain();
            l7.ended().await;
            let found = lines(&path);
            assert_eq!(found.len(), expected);
            assert!(found.iter().all(|line| line["outcome"] == "cancelled"), "{found:?}");
        }
    });
}
