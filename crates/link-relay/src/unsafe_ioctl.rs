//! How the TUN driver is told which device to make: by two requests that take a pointer, for
//! which there is no safe call.
#![expect(unsafe_code, reason = "ioctl takes a pointer whose type the request decides")]

use std::{io, os::fd::AsFd};

use rustix::ioctl::{Setter, Updater, ioctl, opcode};

/// `struct ifreq`, as far as `TUNSETIFF` reads and writes it.
#[repr(C)]
struct Request {
    name: [u8; 16],
    flags: u16,
    /// The rest of its union.
    rest: [u8; 22],
}

/// From `linux/if_tun.h`: IP packets without anything before them.
const IFF_TUN: u16 = 0x0001;
const IFF_NO_PI: u16 = 0x1000;
const TUN_SET_IFF: u32 = opcode::write::<u32>(b'T', 202);
const TUN_SET_INDEX: u32 = opcode::write::<u32>(b'T', 218);

/// Makes a device of a descriptor of the driver.
pub(crate) fn make(driver: impl AsFd, name: &str, index: u32) -> io::Result<()> {
    let mut request = Request { name: [0; 16], flags: IFF_TUN | IFF_NO_PI, rest: [0; 22] };
    let name = name.as_bytes();
    if name.is_empty() || name.len() >= request.name.len() {
        return Err(io::Error::other("a device's name has 1 to 15 bytes"));
    }
    request.name[..name.len()].copy_from_slice(name);
    // SAFETY: TUNSETIFINDEX reads an unsigned int.
    unsafe { ioctl(&driver, Setter::<TUN_SET_INDEX, u32>::new(index))? };
    // SAFETY: TUNSETIFF reads and writes a struct ifreq, which is 40 bytes long with 64-bit
    // pointers and 32 bytes with others; the request is 40.
    unsafe { ioctl(&driver, Updater::<TUN_SET_IFF, Request>::new(&mut request))? };
    Ok(())
}
