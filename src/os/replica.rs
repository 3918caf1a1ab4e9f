//! A copy of a program in memory, which nobody can write to however it is executed.
//!
//! A runtime must not be overwritten by what it starts, through /proc/self/exe (CVE-2019-5736). One that finds itself sealed
//! (memfd_create(2), F_ADD_SEALS) need not see to that itself at each start. And the kernel is asked to hold the copy in huge pages, so that
//! fewer faults bring more of it (runc 1.1.5: 17.5 and 18.7 ms a start, 17.9 and 19.3 ms of cpu time; from a sealed copy in small
//! pages 18.1 and 18.4). To make one takes 28 ms, most of it for the huge pages, and the program's size in memory.

use super::error::{At, OsResult};
use super::{files, sys};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// What runc looks for: all of these (its libcontainer/nsenter/cloned_binary.c; seen in its system calls).
const SEALS: SealFlag =
    SealFlag::F_SEAL_SEAL.union(SealFlag::F_SEAL_SHRINK).union(SealFlag::F_SEAL_GROW).union(SealFlag::F_SEAL_WRITE);
/// Huge pages larger than this waste more than they gain.
const HUGE_MOST: u64 = 4 << 20;

/// An empty one, which may be executed.
///
/// # Errors
/// EMFILE and the like of memfd_create(2); EACCES where nothing in memory may be executed (`vm.memfd_noexec` at 2, Linux 6.3).
pub fn blank() -> OsResult<File> {
    const MFD_EXEC: MFdFlags = MFdFlags::from_bits_retain(0x10); // since Linux 6.3: what was meant by nothing before
    let usual = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let made = match memfd_create(c"replica", usual | MFD_EXEC) {
        Err(Errno::EINVAL) => memfd_create(c"replica", usual),
        made => made,
    };
    made.map(File::from).at("make", "a memfd")
}

/// Makes it a copy of this program.
///
/// # Errors
/// of reading, of memory; ENOEXEC where it is no ELF file: a script's interpreter could not open it any more.
pub fn copy(program: &Path, mut replica: &File) -> OsResult<()> {
    let mut copy = || -> io::Result<()> {
        let mut source = File::open(program)?;
        let mut magic = [0; 4];
        if source.read_exact_at(&mut magic, 0).is_err() || magic != *b"\x7fELF" {
            return Err(io::Error::from_raw_os_error(libc::ENOEXEC));
        }
        let length = io::copy(&mut source, &mut replica)?;
        if let Some(huge) = huge() {
            // Behind its end an ELF file may have whatever it likes.
            let rounded = length.next_multiple_of(huge);
            replica.set_len(rounded)?;
            // Where there is none to be had it is as good, and a little slower.
            let _ = sys::collapse(replica.as_fd(), rounded as usize, huge as usize);
        }
        Ok(())
    };
    copy().at("copy", program)
}

/// Lets nobody change it any more: it [`is_whole`].
///
/// # Errors
/// EBUSY where it is mapped to be written.
pub fn seal(replica: &File) -> io::Result<()> {
    fcntl(replica, FcntlArg::F_ADD_SEALS(SEALS)).map(drop).map_err(io::Error::from)
}

/// Whether it is whole, and stays as it is.
pub fn is_whole(replica: &File) -> bool {
    fcntl(replica, FcntlArg::F_GET_SEALS).is_ok_and(|seals| SealFlag::from_bits_truncate(seals).contains(SEALS))
}

/// The size of the kernel's huge pages, if it has any that are worth it.
fn huge() -> Option<u64> {
    let told = files::text(Path::new("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size")).ok()?;
    told.trim().parse().ok().filter(|size: &u64| size.is_power_of_two() && *size <= HUGE_MOST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_replica_is_the_program_and_stays_so() {
        let program = std::env::current_exe().expect("there is one");
        let replica = blank().expect("memfd");
        assert!(!is_whole(&replica), "nothing is in it yet");
        copy(&program, &replica).expect("copied");
        assert!(!is_whole(&replica), "it could still be changed");
        seal(&replica).expect("nobody has it mapped");
        assert!(is_whole(&replica));
        let original = std::fs::read(&program).expect("read");
        let mut same = vec![0; original.len()];
        replica.read_exact_at(&mut same, 0).expect("read");
        assert!(original == same, "it begins with all of the program");
        let mut rest = vec![1; replica.metadata().expect("stat").len() as usize - original.len()];
        replica.read_exact_at(&mut rest, original.len() as u64).expect("read");
        assert!(rest.iter().all(|b| *b == 0), "and nothing follows");
        assert!((&replica).write_all(b"x").is_err() && replica.set_len(0).is_err());
        assert!(fcntl(&replica, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_FUTURE_WRITE)).is_err(), "not even its seals change");
    }

    #[test]
    fn a_script_has_none() {
        let dir = tempfile::tempdir().expect("tempdir");
        let script = dir.path().join("runtime");
        std::fs::write(&script, "#!/bin/sh\n").expect("written");
        let replica = blank().expect("memfd");
        let told = copy(&script, &replica).expect_err("it is no ELF file");
        assert_eq!(told.source.raw_os_error(), Some(libc::ENOEXEC));
        assert!(!is_whole(&replica));
    }

    #[test]
    fn what_is_no_whole_number_of_huge_pages_is_not_collapsed() {
        let file = blank().expect("memfd");
        file.set_len(3 << 20).expect("grown");
        for length in [0, 4096, 3 << 20] {
            assert!(sys::collapse(file.as_fd(), length, 2 << 20).is_err(), "{length}");
        }
    }
}
