//! Bases: root filesystems made by the host's own tools. A recipe is the operator's word, so they run with our rights.

use super::{faults, program};
use crate::model::base::{Base, Busybox, Mmdebstrap};
use crate::model::fault::Fault;
use crate::model::reference::Digest;
use crate::os::error::{At, OsResult};
use crate::os::files;
use crate::os::process::{self, End};
use sha2::{Digest as _, Sha256};
use std::path::{Path, PathBuf};

const BUSYBOX: &str = "/bin/busybox";
const MMDEBSTRAP: &str = "/usr/bin/mmdebstrap";
/// A whole distribution over a slow line.
const PATIENCE_NS: u64 = 3600 * 1_000_000_000;
const BUSYBOX_MOST: u64 = 64 << 20;

fn busybox(asked: &Busybox) -> PathBuf {
    asked.path.as_ref().map_or_else(|| PathBuf::from(BUSYBOX), |path| path.as_path().to_owned())
}

/// The digest of the host's file that goes into a base.
///
/// # Errors
/// exit 3 where it is not there, or not static.
pub fn tool(base: &Base) -> Result<Option<Digest>, Fault> {
    let Base::Busybox(asked) = base else { return Ok(None) };
    let path = busybox(asked);
    let missing = |why: String| {
        Fault::host("base:busybox", why)
            .at("base.busybox")
            .hint("apt-get install busybox-static, or name a static busybox by path")
    };
    let bytes = files::read_some(&path, BUSYBOX_MOST).map_err(|e| missing(e.to_string()))?;
    match is_static(&bytes) {
        true => Ok(Some(Digest::of_sha256(Sha256::digest(&bytes).into()))),
        false => Err(missing(format!("{} is no static 64-bit program", path.display()))),
    }
}

/// Whether this is a 64-bit ELF program that asks for no interpreter (elf(5)).
fn is_static(elf: &[u8]) -> bool {
    const INTERPRETER: u32 = 3;
    let number = |at: usize, length: usize| -> Option<u64> {
        let bytes = elf.get(at..at.checked_add(length)?)?;
        Some(bytes.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b)))
    };
    let asks = || -> Option<bool> {
        let (first, size, count) = (number(0x20, 8)?, number(0x36, 2)?, number(0x38, 2)?);
        let kinds = (0..count).map(|n| number(usize::try_from(first + n * size).ok()?, 4));
        Some(kinds.collect::<Option<Vec<u64>>>()?.contains(&u64::from(INTERPRETER)))
    };
    elf.starts_with(b"\x7fELF\x02\x01") && asks() == Some(false)
}

/// Makes a base in a directory that does not exist yet; `bench` takes the tool's log.
///
/// # Errors
/// exit 3 where the tool is missing or fails.
pub fn make(base: &Base, bench: &Path, tree: &Path) -> Result<(), Fault> {
    files::dir(tree, 0o755).map_err(|e| faults::ours(&e))?;
    match base {
        Base::Busybox(asked) => boxed(&busybox(asked), tree),
        Base::Mmdebstrap(asked) => bootstrapped(asked, bench, tree),
    }
}

/// One program, its links, and the few files that programs ask for.
fn boxed(busybox: &Path, tree: &Path) -> Result<(), Fault> {
    let failed = |why: String| Fault::host("base:busybox", why).at("base.busybox");
    let (said, fine) = process::output(busybox, &["--list".to_owned()], PATIENCE_NS).map_err(|e| failed(e.to_string()))?;
    if !fine {
        return Err(failed(format!("{} --list fails", busybox.display())));
    }
    let lay = || -> OsResult<()> {
        for (dir, mode) in [("bin", 0o755), ("etc", 0o755), ("root", 0o700), ("home", 0o755), ("var", 0o755), ("tmp", 0o1777)] {
            files::dir(&tree.join(dir), mode)?;
        }
        let program = files::read_some(busybox, BUSYBOX_MOST)?;
        files::create(&tree.join("bin/busybox"), &program, 0o755)?;
        for applet in String::from_utf8_lossy(&said).lines().filter(|name| *name != "busybox" && !name.contains('/')) {
            let link = tree.join("bin").join(applet);
            std::os::unix::fs::symlink("busybox", &link).at("make the symlink", &link)?;
        }
        // The places where scripts look for their interpreters.
        files::dir(&tree.join("usr"), 0o755)?;
        let link = tree.join("usr/bin");
        std::os::unix::fs::symlink("../bin", &link).at("make the symlink", &link)?;
        files::create(&tree.join("etc/passwd"), b"root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/sandbox:/bin/sh\n", 0o644)?;
        files::create(&tree.join("etc/group"), b"root:x:0:\nuser:x:1000:\n", 0o644)
    };
    lay().map_err(|e| faults::ours(&e))
}

fn bootstrapped(asked: &Mmdebstrap, bench: &Path, tree: &Path) -> Result<(), Fault> {
    let tool = Path::new(MMDEBSTRAP);
    if !tool.exists() {
        return Err(Fault::host("base:mmdebstrap", "there is no mmdebstrap on this host")
            .at("base.mmdebstrap")
            .hint("apt-get install mmdebstrap"));
    }
    let args = arguments(asked, &tree.to_string_lossy());
    let place = bench.join("log");
    let failed = |why: String| {
        let end = program::last_words(&place);
        Fault::host("base:mmdebstrap", format!("mmdebstrap {why}: {end}"))
            .at("base.mmdebstrap")
            .hint("name a mirror that serves the suite, and packages that it has")
    };
    match program::run(tool, &args, &place, bench, PATIENCE_NS).map_err(|e| faults::ours(&e))? {
        Some(End::Well) => Ok(()),
        Some(_) => Err(failed("fails".into())),
        None => Err(failed("was stopped".into())),
    }
}

/// As mmdebstrap(1) wants them. Its /dev stays empty: a cell has its own.
fn arguments(asked: &Mmdebstrap, target: &str) -> Vec<String> {
    let Mmdebstrap { suite, variant, include, components, mirror, exclude } = asked;
    let list = |words: &[crate::model::base::Word]| words.iter().map(|word| word.as_str()).collect::<Vec<_>>().join(",");
    let mut args: Vec<String> = ["--quiet", "--mode=root", "--format=directory", "--skip=output/dev"].map(str::to_owned).to_vec();
    args.push(format!("--variant={}", variant.as_str()));
    if !include.is_empty() {
        args.push(format!("--include={}", list(include)));
    }
    if !components.is_empty() {
        args.push(format!("--components={}", list(components)));
    }
    args.extend(exclude.iter().map(|pattern| format!("--dpkgopt=path-exclude={}", pattern.as_str())));
    args.extend([suite.as_str().to_owned(), target.to_owned()]);
    args.extend(mirror.iter().map(|mirror| mirror.as_str().to_owned()));
    args
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::recipe::{self, Origin};

    #[test]
    fn static_programs_are_told_from_others() {
        let ours = std::fs::read("/proc/self/exe").expect("our own");
        let shell = std::fs::read("/bin/sh").expect("there");
        assert_eq!(is_static(&shell), !String::from_utf8_lossy(&shell).contains("/ld-linux"));
        assert!(!is_static(&ours[..40]) && !is_static(b"#!/bin/sh\n") && !is_static(b""));
    }

    #[test]
    fn a_recipes_words_are_arguments_and_never_options() {
        let text = "[base.mmdebstrap]\nsuite = 'bookworm'\nvariant = 'apt'\ninclude = ['a', 'b']\ncomponents = ['main']\n\
                    mirror = 'http://x/y'\nexclude = ['/usr/share/doc/*']\n";
        let Origin::Base(Base::Mmdebstrap(asked)) = recipe::read(text).expect("a recipe").origin else { panic!("a base") };
        let args = arguments(&asked, "/t");
        for arg in ["--variant=apt", "--include=a,b", "--components=main", "--dpkgopt=path-exclude=/usr/share/doc/*"] {
            assert!(args.contains(&arg.to_owned()), "{args:?}");
        }
        assert_eq!(args[args.len() - 3..], ["bookworm", "/t", "http://x/y"]);
    }
}
