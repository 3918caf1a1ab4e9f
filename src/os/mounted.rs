//! What is mounted, asked of the kernel one by one: listmount(2), statmount(2) (Linux 6.8; options since 6.11).
//!
//! A line of `/proc/self/mountinfo` costs the kernel up to 5 µs, as it spells all of a mount, its file system's options above all; to
//! ask for its kind alone costs 0.6 (Linux 6.18; measured).

use super::sys;
use nix::sys::statfs::{CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC};
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

// What can be asked for (linux/mount.h).
const SB_BASIC: u64 = 1;
const MNT_POINT: u64 = 0x10;
const MNT_OPTS: u64 = 0x80;

// Places in the kernel's answer, struct statmount there. Where a text is stands in the fixed part, counted from the texts' beginning.
const OPTIONS_AT: usize = 4;
const MASK: usize = 8;
const MAGIC: usize = 24;
const POINT_AT: usize = 108;
const TEXTS: usize = 512;

/// A hierarchy of control groups, mounted.
#[derive(Debug, PartialEq, Eq)]
pub struct Hierarchy {
    pub unified: bool,
    pub mount: PathBuf,
    /// Its controllers and name, parted by commas; nothing for the unified one.
    pub options: String,
}

/// The hierarchies of control groups that we see, in the order of the mount table.
///
/// # Errors
/// ENOSYS where the kernel cannot be asked so, EOPNOTSUPP where it tells no options: `/proc/self/mountinfo` tells all of it. ENOENT
/// where a mount has gone meanwhile.
pub fn hierarchies() -> io::Result<Vec<Hierarchy>> {
    let mut found = Vec::new();
    for id in sys::list_mounts()? {
        let magic = Answer(sys::stat_mount(id, SB_BASIC)?).number(MAGIC);
        let is = |kind: nix::sys::statfs::FsType| i64::try_from(magic) == Ok(kind.0);
        let unified = is(CGROUP2_SUPER_MAGIC);
        if !unified && !is(CGROUP_SUPER_MAGIC) {
            continue;
        }
        let answer = Answer(sys::stat_mount(id, MNT_POINT | MNT_OPTS)?);
        // The unified one need not have any options.
        let needed = if unified { MNT_POINT } else { MNT_POINT | MNT_OPTS };
        if answer.number(MASK) & needed != needed {
            return Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP));
        }
        let mount = OsString::from_vec(answer.text(POINT_AT)).into();
        let options = if unified { Vec::new() } else { answer.text(OPTIONS_AT) };
        found.push(Hierarchy { unified, mount, options: String::from_utf8_lossy(&options).into_owned() });
    }
    Ok(found)
}

/// What the kernel wrote; what lies beyond its end reads as zeroes.
struct Answer(Vec<u8>);

impl Answer {
    fn number(&self, at: usize) -> u64 {
        let bytes = self.0.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, u64::from_ne_bytes)
    }

    fn text(&self, at: usize) -> Vec<u8> {
        let place = self.0.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_ne_bytes);
        let text = self.0.get(TEXTS + place as usize..).unwrap_or_default();
        text.iter().take_while(|byte| **byte != 0).copied().collect()
    }
}
