//! Filters of system calls (seccomp(2)), for which there is no safe call.
#![expect(unsafe_code, reason = "no crate that is here installs a filter of one's own")]

use std::io;

use libc::{BPF_ABS, BPF_ALU, BPF_K, BPF_LD, BPF_MUL, BPF_RET, BPF_W, sock_filter, sock_fprog};

/// Has each system call of this process, and of the program that it becomes, wait for so many
/// multiplications. The kernel can't know beforehand what they come to, so it makes them all.
///
/// # Errors
/// Where the kernel has no filters, or not such long ones.
pub(crate) fn filter_system_calls(multiplications: u32) -> io::Result<()> {
    let instruction = |code: u32, k| sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let mut filter = vec![instruction(BPF_LD | BPF_W | BPF_ABS, 0)];
    filter.extend((0..multiplications).map(|_| instruction(BPF_ALU | BPF_MUL | BPF_K, 3)));
    filter.push(instruction(BPF_RET | BPF_K, libc::SECCOMP_RET_ALLOW));
    let len = u16::try_from(filter.len()).map_err(io::Error::other)?;
    let program = sock_fprog { len, filter: filter.as_mut_ptr() };
    // SAFETY: this option takes a number and three zeros.
    if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let mode = libc::SECCOMP_MODE_FILTER;
    // SAFETY: the kernel copies the program and its instructions, which outlive the call.
    match unsafe { libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
