//! Errors of the floors below, as faults with a whose and a remedy.

use crate::model::fault::Fault;
use crate::os::error::OsError;

/// An error of the operating system that no caller could have caused.
pub fn ours(e: &OsError) -> Fault {
    let fault = Fault::ours("os:failed", e.to_string());
    match e.errno() {
        libc::EPERM | libc::EACCES => Fault::host("host:permission", e.to_string())
            .hint("runcell needs root on the host (user namespaces with mapped ids, cgroups); programs never run as root"),
        libc::ENOSPC => {
            Fault::host("host:no_space", e.to_string()).hint("free space where runcell's root lies, or name another with --root")
        }
        libc::EMFILE | libc::ENFILE => fault.hint("raise the limit of open files (ulimit -n)"),
        _ => fault,
    }
}
