//! `loadgen peers`: which peers are there, and how to get the rest.

use crate::{
    exit::{self, Failure},
    peers,
    root::Root,
};

pub(super) fn main() -> Result<u8, Failure> {
    let root = Root::find();
    peers::print_all(&super::library(&root)?, &root)?;
    Ok(exit::FINE)
}
