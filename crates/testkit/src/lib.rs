//! In-process lab on port 0 and raw HTTP/2 peers for misbehaviour. A dev-dependency only.
