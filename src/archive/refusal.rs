//! Whose fault it is that an archive was not read: mostly the archive's, so the caller's.

use crate::model::fault::Fault;
use crate::os::error::OsError;
use std::fmt::Write;
use std::io;

/// Longer names are cut in messages: an archive decides how long they are.
const SHOWN_MOST: usize = 200;

/// The archive breaks its format, or says what none may say.
pub(super) fn malformed(message: impl Into<String>) -> Fault {
    Fault::caller("archive:malformed", message)
}

/// A format that exists, and that we do not read.
pub(super) fn unsupported(message: impl Into<String>) -> Fault {
    Fault::caller("archive:unsupported", message)
}

/// More than a bound allows.
pub(super) fn too_large(message: impl Into<String>) -> Fault {
    Fault::caller("archive:too_large", message)
}

/// Bytes that are not those their digest or size promises.
pub(super) fn mismatch(message: impl Into<String>) -> Fault {
    Fault::caller("archive:mismatch", message)
}

/// The host refused to store something.
pub(super) fn unwritable(e: &OsError) -> Fault {
    let fault = Fault::host("archive:unwritable", e.to_string());
    match e.errno() {
        libc::ENOSPC | libc::EDQUOT => fault.hint("free space, or inodes, where runcell's root lies"),
        libc::EPERM | libc::EACCES => fault.hint("unpacking needs root: owners, modes and capabilities are kept"),
        _ => fault,
    }
}

/// An error of reading: one of the operating system's is the host's, all else says that the bytes are bad. A fault that
/// travelled through a reader as an error comes out again.
pub(super) fn reading(e: io::Error) -> Fault {
    if e.raw_os_error().is_some() {
        return Fault::host("archive:unreadable", format!("cannot read the archive: {e}"));
    }
    match e.downcast::<Fault>() {
        Ok(fault) => fault,
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
            malformed("the archive is truncated").hint("copy or download it again")
        }
        Err(e) => malformed(format!("the archive is corrupt: {e}")).hint("copy or download it again"),
    }
}

/// Bytes of an archive as one printable word: what is no printable ASCII is escaped, what is long is cut.
pub(super) fn shown(bytes: &[u8]) -> String {
    let mut out = String::from("\"");
    for b in bytes.iter().take(SHOWN_MOST) {
        match b {
            b'"' | b'\\' => out.extend(['\\', char::from(*b)]),
            0x20..=0x7e => out.push(char::from(*b)),
            // Writing into a string cannot fail.
            _ => {
                let _ = write!(out, "\\x{b:02x}");
            }
        }
    }
    out.push_str(if bytes.len() > SHOWN_MOST { "…\"" } else { "\"" });
    out
}
