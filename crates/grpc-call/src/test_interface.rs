//! Interfaces for this crate's tests.

use std::{fs, path::PathBuf};

use crate::interface::Interface;

/// A service with messages of most kinds.
pub(crate) const SHOP: &str = r#"
syntax = "proto3";
package shop;
import "google/protobuf/timestamp.proto";

service Orders {
  rpc Place(Order) returns (Placed);
  rpc Watch(Order) returns (stream Placed);
  rpc Import(stream Order) returns (Placed);
  rpc Talk(stream Order) returns (stream Placed);
}

enum State { OPEN = 0; PAID = 1; }

message Line { string sku = 1; int32 count = 2; }

message Order {
  string customer = 1;
  repeated Line lines = 2;
  State state = 3;
  google.protobuf.Timestamp placed = 4;
  map<string, Line> extra = 5;
  oneof payment { string card = 6; string invoice = 7; }
  optional Order parent = 8;
}

message Placed {
  string id = 1;
  State state = 2;
  repeated Line lines = 3;
  map<string, string> labels = 4;
  double total = 5;
  string note = 6;
}
"#;

pub(crate) fn shop() -> Interface {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("shop.proto");
    fs::write(&file, SHOP).unwrap();
    Interface::from_protos(&[file], &[]).unwrap()
}

pub(crate) fn echo() -> Interface {
    let folder = tempfile::tempdir().unwrap();
    let file: PathBuf = folder.path().join("echo.bin");
    fs::write(&file, echo_proto::FILE_DESCRIPTOR_SET).unwrap();
    Interface::from_descriptor_set(&file).unwrap()
}
