//! Spares the program's beginning from asking the processor what it can do.
//!
//! Theory of operation. Before `main` a static glibc executes CPUID some 75 times: which instructions there are, by which it chooses
//! among its string functions, and how large the caches are, by which these copy more than a mebibyte at once (sysdeps/x86/cpu-features.c,
//! dl-cacheinfo.h). In a virtual machine each is a trap, 2 µs on one and 6 on another, where that was a fifth of a warm run (glibc
//! 2.36; measured with `perf`). Nothing in glibc's interface keeps it from asking. So the one object that asks, libc-start.o,
//! is copied out of libc.a here; in the copy the functions that ask answer at once, what holds for every x86-64: nothing beyond
//! the architecture's own instructions, and caches of a common size. It is linked in the place of the original. What it costs: copies
//! go by 16 bytes and not by 64 at a time. Libraries that know better instructions (SHA-256, inflate) ask for themselves, when they
//! are used.
//!
//! Where the object does not have these functions as they are known here nothing is changed.

use object::read::archive::ArchiveFile;
use object::{Object, ObjectSection, ObjectSymbol, SymbolKind};
use std::path::{Path, PathBuf};
use std::{env, fs, process::Command};

const MEMBER: &str = "libc-start.o";

/// The size of a cache whose name is in edi (sysconf(3)'s numbers) to rax, in bytes; zero stands for "not known", for what nobody
/// uses.
#[rustfmt::skip]
const SIZE: &[u8] = &[
    0xb8, 0x00, 0x80, 0x00, 0x00,       // mov eax, 32 KiB
    0x81, 0xff, 0xbc, 0x00, 0x00, 0x00, // cmp edi, _SC_LEVEL1_DCACHE_SIZE
    0x74, 0x19,                         // je out
    0xc1, 0xe0, 0x05,                   // shl eax, 5: 1 MiB
    0x81, 0xff, 0xbf, 0x00, 0x00, 0x00, // cmp edi, _SC_LEVEL2_CACHE_SIZE
    0x74, 0x0e,                         // je out
    0x01, 0xc0,                         // add eax, eax: 2 MiB, one core's share
    0x81, 0xff, 0xc2, 0x00, 0x00, 0x00, // cmp edi, _SC_LEVEL3_CACHE_SIZE
    0x74, 0x04,                         // je out
    0x31, 0xc0,                         // xor eax, eax
    0x90, 0x90,                         // nop
    0xc3,                               // out: ret
];
/// All that these would find out begins as zero: not there.
const NOTHING: &[u8] = &[0xc3]; // ret
const ANSWERS: [(&str, &[u8]); 7] = [
    ("get_common_indices", NOTHING),
    ("get_extended_indices", NOTHING),
    ("update_active", NOTHING),
    ("handle_intel", SIZE),
    ("handle_amd", SIZE),
    ("handle_zhaoxin", SIZE),
    ("get_common_cache_info", NOTHING), // how many threads share one
];

/// Makes `libspared.a` below `out`. An error is a reason to link the original.
pub(crate) fn spare(out: &Path) -> Result<(), String> {
    let libc = libc()?;
    let bytes = fs::read(&libc).map_err(|e| format!("cannot read {}: {e}", libc.display()))?;
    let mut start = member(&bytes)?;
    for (name, answer) in ANSWERS {
        for (at, bytes) in places(&start, name, answer)? {
            start[at..at + bytes.len()].copy_from_slice(&bytes);
        }
    }
    let object = out.join(MEMBER);
    fs::write(&object, start).map_err(|e| format!("cannot write {}: {e}", object.display()))?;
    let archive = out.join("libspared.a");
    let _ = fs::remove_file(&archive); // of an earlier build: `ar` would add to it
    let made = Command::new("ar").arg("crs").arg(&archive).arg(&object).status();
    if made.is_ok_and(|status| status.success()) { Ok(()) } else { Err("ar does not make an archive".into()) }
}

/// The libc.a that the linker will take.
fn libc() -> Result<PathBuf, String> {
    let linker = env::var("RUSTC_LINKER").unwrap_or_else(|_| "cc".into());
    let told = Command::new(&linker).arg("-print-file-name=libc.a").output();
    let told = told.map_err(|e| format!("cannot ask {linker} for libc.a: {e}"))?;
    Ok(PathBuf::from(String::from_utf8_lossy(&told.stdout).trim()))
}

fn member(archive: &[u8]) -> Result<Vec<u8>, String> {
    let parsed = ArchiveFile::parse(archive).map_err(|e| format!("libc.a: {e}"))?;
    let mut members = parsed.members().filter_map(Result::ok);
    let found = members.find(|m| m.name() == MEMBER.as_bytes()).ok_or(format!("libc.a has no {MEMBER}"))?;
    Ok(found.data(archive).map_err(|e| format!("{MEMBER}: {e}"))?.to_vec())
}

/// Where in the file a function of that name begins to answer, and the bytes: the answer, behind a jump to it if the linker is going to
/// write into the function's first bytes.
fn places(object: &[u8], name: &str, answer: &[u8]) -> Result<Vec<(usize, Vec<u8>)>, String> {
    let unknown = |what: &str| format!("{MEMBER}: {name} {what}");
    let file = object::File::parse(object).map_err(|e| format!("{MEMBER}: {e}"))?;
    // The compiler adds what it has specialized: `handle_intel.constprop.0`.
    let is_it = |full: &str| full == name || full.strip_prefix(name).is_some_and(|rest| rest.starts_with('.'));
    let mut named = file.symbols().filter(|s| s.kind() == SymbolKind::Text && s.name().is_ok_and(is_it));
    let function = named.next().ok_or_else(|| unknown("is not there"))?;
    if named.next().is_some() {
        return Err(unknown("is there more than once"));
    }
    let section =
        function.section_index().and_then(|i| file.section_by_index(i).ok()).ok_or_else(|| unknown("has no section"))?;
    let (begins, _) = section.file_range().ok_or_else(|| unknown("has no bytes"))?;
    let (first, size) = (function.address(), function.size());
    // What the linker writes has 4 or 8 bytes.
    let written: Vec<u64> = section.relocations().map(|(at, _)| at).filter(|at| (first..first + size).contains(at)).collect();
    let free = |from: u64, len: usize| written.iter().all(|at| from + len as u64 <= *at || from >= at + 8);
    let at = |offset: u64| (begins + first + offset) as usize;
    let fits = |from: u64| from + answer.len() as u64 <= size && free(first + from, answer.len());
    if fits(0) {
        return Ok(vec![(at(0), answer.to_vec())]);
    }
    const JUMP: u64 = 2;
    let target = (JUMP..JUMP + 128).find(|from| fits(*from)).filter(|_| free(first, JUMP as usize));
    let target = target.ok_or_else(|| unknown("has no room"))?;
    Ok(vec![(at(0), vec![0xeb, (target - JUMP) as u8]), (at(target), answer.to_vec())])
}
