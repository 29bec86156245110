//! TUN devices (the kernel's `Documentation/networking/tuntap.rst`): what the kernel sends to
//! one is read here, packet by packet, and what is written here it receives.
//!
//! A device lives as long as its descriptor is open, so that none is left when the process ends,
//! whatever ends it.

use std::{
    fs::File,
    io,
    os::fd::{AsFd as _, OwnedFd},
};

use rustix::{
    fs::{Mode, OFlags},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

use crate::{End, Error, unsafe_ioctl};

const DEVICE: &str = "/dev/net/tun";

/// Opens the driver. A device that is made of it is in the network namespace that the calling
/// thread is in now.
pub(crate) fn driver() -> Result<OwnedFd, Error> {
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
    rustix::fs::open(DEVICE, flags, Mode::empty()).map_err(|error| Error::NoTun(error.into()))
}

/// Makes a device in a namespace, which the calling thread is in afterwards.
pub(crate) fn make(end: &End) -> Result<OwnedFd, Error> {
    let cannot = |error: io::Error| Error::Device {
        device: end.device.clone(),
        namespace: end.namespace.clone(),
        error,
    };
    let namespace = File::open(&end.namespace).map_err(cannot)?;
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
        .map_err(|error| cannot(error.into()))?;
    let device = driver()?;
    unsafe_ioctl::make(&device, &end.device, end.index).map_err(cannot)?;
    Ok(device)
}
