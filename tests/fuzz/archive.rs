//! One input, one foreign thing: its first byte says which. Nothing may panic, and nothing outside the tree may be written: Landlock
//! forbids it, so that an attempt comes back as an error of the host and is found.
#![no_main]

use landlock::{ABI, Access, AccessFs, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr};
use libfuzzer_sys::fuzz_target;
use runcell::archive::layer::{Bounds, apply};
use runcell::archive::layout::Layout;
use runcell::archive::listing;
use runcell::archive::platform::Platform;
use runcell::archive::unpack::unpack;
use runcell::model::fault::Fault;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::OnceLock;

const BOUNDS: Bounds = Bounds { bytes: 1 << 20, entries: 1000, depth: 16, path: 1024 };

/// Where trees are made, and all that may be written to besides the fuzzer's own directory.
fn room() -> &'static PathBuf {
    static ROOM: OnceLock<PathBuf> = OnceLock::new();
    ROOM.get_or_init(|| {
        let room = tempfile::tempdir().expect("a directory").keep();
        let all = AccessFs::from_all(ABI::V3);
        let mut rules = Ruleset::default().handle_access(all).and_then(Ruleset::create).expect("Landlock");
        let mut allow = |path: &str, access| {
            let rule = PathBeneath::new(PathFd::new(path).expect(path), access);
            (&mut rules).add_rule(rule).expect(path);
        };
        allow("/", AccessFs::from_read(ABI::V3));
        allow(room.to_str().expect("its name is plain"), all);
        allow(".", all);
        rules.restrict_self().expect("Landlock");
        room
    })
}

/// Right checksums everywhere: mutation would hardly ever find one.
fn sealed(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for block in bytes.chunks_exact_mut(512).filter(|block| block.iter().any(|b| *b != 0)) {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    bytes
}

fn judge(result: Result<impl Sized, Fault>) {
    if let Err(fault) = result {
        assert!(fault.code != "archive:unwritable" && fault.code.starts_with("archive:"), "{fault:?}");
    }
}

fn layer(bytes: &[u8], whole: bool) {
    let dir = tempfile::tempdir_in(room()).expect("a directory");
    let tree = File::open(dir.path()).expect("it is there");
    let mut lines = Vec::new();
    match whole {
        true => judge(unpack(bytes, None, tree.as_fd(), &mut lines, &BOUNDS)),
        false => judge(apply(bytes, tree.as_fd(), &mut lines, &BOUNDS)),
    }
    if lines.is_empty() {
        return;
    }
    let items = listing::read(&lines[..]).collect::<Result<Vec<_>, _>>().expect("what was written is read");
    assert!(!items.is_empty(), "the tree itself is listed");
}

fn layout(bytes: &[u8]) {
    let mut file = tempfile::tempfile_in(room()).expect("a file");
    file.write_all(bytes).expect("memory");
    let platform = Platform { os: "linux".into(), architecture: "amd64".into(), variant: None };
    judge(Layout::open_archive(file).and_then(|layout| match layout {
        Some(layout) => {
            let contents = layout.contents(layout.choose(&platform, None)?)?;
            for source in &contents.layers {
                std::io::copy(&mut layout.layer(source)?, &mut std::io::sink()).ok();
            }
            Ok(())
        }
        None => Ok(()),
    }));
}

fuzz_target!(|data: &[u8]| {
    room();
    let Some((which, bytes)) = data.split_first() else { return };
    match which % 5 {
        0 | 1 => layer(&sealed(bytes), false),
        2 => layer(bytes, true),
        3 => layout(&sealed(bytes)),
        _ => listing::read(bytes).for_each(drop),
    }
});
