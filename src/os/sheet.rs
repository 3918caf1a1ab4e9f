//! A file without a name that one process writes and another reads. Its reader seals it first, so that what it looks at is
//! what it passes on, whoever the writer has become.

use super::error::{At, OsResult};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// An empty one.
///
/// # Errors
/// EMFILE and the like of memfd_create(2).
pub fn blank() -> OsResult<File> {
    memfd_create(c"sheet", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING).map(File::from).at("make", "a memfd")
}

/// Lets nobody change it any more, and answers its length.
///
/// # Errors
/// EBUSY where its writer has it mapped.
pub fn seal(sheet: &File) -> io::Result<u64> {
    fcntl(sheet, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK))?;
    Ok(sheet.metadata()?.len())
}

/// Whether it is one line: its last byte ends a line, and no other does.
///
/// # Errors
/// of read.
pub fn is_one_line(sheet: &File, length: u64) -> io::Result<bool> {
    let mut piece = vec![0; length.min(64 * 1024) as usize];
    let mut at = 0;
    while at < length {
        let n = sheet.read_at(&mut piece, at)?;
        let end = piece[..n].iter().position(|b| *b == b'\n').map(|place| at + place as u64 + 1);
        match end {
            Some(end) => return Ok(end == length),
            None if n == 0 => return Ok(false),
            None => at += n as u64,
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_sealed_sheet_stays_as_it_is() {
        let mut sheet = blank().expect("memfd");
        sheet.write_all(b"line\n").expect("write");
        assert_eq!(seal(&sheet).expect("sealed"), 5);
        assert!(sheet.write_all(b"more\n").is_err() && sheet.write_at(b"x", 0).is_err() && sheet.set_len(0).is_err());
        assert!(is_one_line(&sheet, 5).expect("read"));
    }

    #[test]
    fn one_line_is_neither_two_nor_less() {
        let one = |text: &[u8]| {
            let mut sheet = blank().expect("memfd");
            sheet.write_all(text).expect("write");
            is_one_line(&sheet, text.len() as u64).expect("read")
        };
        let long = [vec![b'x'; 200_000], b"\n".to_vec()].concat();
        assert!(one(b"\n") && one(b"a\n") && one(&long));
        assert!(!one(b"") && !one(b"a") && !one(b"a\nb\n") && !one(b"a\n\n") && !one(&[&long[..], b"x"].concat()));
    }
}
