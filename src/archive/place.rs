//! Where in a tree an entry's name leads: beneath it, or nowhere. And what names of whiteouts mean (OCI image-spec, layer.md).

use super::refusal::{malformed, shown, too_large};
use crate::model::fault::Fault;

/// The longest name of one file, in bytes (NAME_MAX).
const COMPONENT_MOST: usize = 255;
const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Names that AUFS used for itself, of which only the one above has a meaning for others.
const AUFS: &[u8] = b".wh..wh.";

/// How long and deep names may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reach {
    pub(super) depth: usize,
    pub(super) length: usize,
}

/// What an entry is about. Paths have no slash at either end, no empty component, no `.` and no `..`; the empty one is the root.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    Thing(Vec<u8>),
    /// The thing of lower layers at that place is gone.
    Whiteout(Vec<u8>),
    /// All that lower layers have in that directory is gone.
    Opaque(Vec<u8>),
    /// Left over from AUFS.
    Nothing,
}

/// What an entry of that name is about.
///
/// # Errors
/// as `path`; `archive:malformed` also for a whiteout of nothing, and for what lies below one.
pub(super) fn meaning(name: &[u8], reach: Reach) -> Result<Meaning, Fault> {
    let path = path(name, reach)?;
    let (parent, last) = split(&path);
    if last == OPAQUE && !components(parent).any(|c| c.starts_with(WHITEOUT)) {
        return Ok(Meaning::Opaque(parent.to_vec()));
    }
    if components(&path).any(|c| c.starts_with(AUFS)) {
        return Ok(Meaning::Nothing);
    }
    if components(parent).any(|c| c.starts_with(WHITEOUT)) {
        return Err(malformed(format!("entry {} lies below a whiteout", shown(name))));
    }
    match last.strip_prefix(WHITEOUT) {
        None => Ok(Meaning::Thing(path)),
        Some(b"" | b"." | b"..") => Err(malformed(format!("entry {} is a whiteout of nothing", shown(name)))),
        Some(gone) => Ok(Meaning::Whiteout(join(parent, gone))),
    }
}

/// The path that a name spells, taken as relative to the root of the tree as all tools do.
///
/// # Errors
/// `archive:malformed` for an empty name, NUL, `..`; `archive:too_large` for what is longer or deeper than its bound.
pub(super) fn path(name: &[u8], reach: Reach) -> Result<Vec<u8>, Fault> {
    let bad = |why: &str| malformed(format!("entry {} {why}", shown(name)));
    let long = |why: String| too_large(format!("entry {} {why}", shown(name)));
    if name.is_empty() {
        return Err(malformed("an entry has no name"));
    }
    if name.contains(&0) {
        return Err(bad("has NUL in its name"));
    }
    let mut out = Vec::with_capacity(name.len());
    for (n, component) in components(name).enumerate() {
        if component == b".." {
            return Err(bad("leads out of its directory by \"..\""));
        }
        if component.len() > COMPONENT_MOST {
            return Err(long(format!("has a component of more than {COMPONENT_MOST} bytes")));
        }
        if n >= reach.depth {
            return Err(long(format!("is more than {} directories deep", reach.depth)));
        }
        if n > 0 {
            out.push(b'/');
        }
        out.extend_from_slice(component);
    }
    if out.len() > reach.length { Err(long(format!("is longer than {} bytes", reach.length))) } else { Ok(out) }
}

pub(super) fn components(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|b| *b == b'/').filter(|c| !c.is_empty() && *c != b".")
}

/// The directory that a path lies in, and its last component.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

pub(super) fn join(parent: &[u8], name: &[u8]) -> Vec<u8> {
    if parent.is_empty() { name.to_vec() } else { [parent, b"/", name].concat() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REACH: Reach = Reach { depth: 4, length: 300 };

    #[test]
    fn names_lead_beneath_or_nowhere() {
        for (name, leads) in [
            (&b"a"[..], &b"a"[..]),
            (b"./a/./b/", b"a/b"),
            (b"//a//b", b"a/b"),
            (b"/", b""),
            (b"./", b""),
            (b"a/..b/...", b"a/..b/..."),
            (b"\xff\n", b"\xff\n"),
            (b"a/b/c/d", b"a/b/c/d"),
        ] {
            assert_eq!(path(name, REACH), Ok(leads.to_vec()), "{}", shown(name));
        }
        let (long, longer) = ([b'x'; 256], [[b'x'; 200], [b'/'; 200]].concat());
        assert!(path(&longer, REACH).is_ok());
        for (name, code) in [
            (&b""[..], "archive:malformed"),
            (b"..", "archive:malformed"),
            (b"a/../b", "archive:malformed"),
            (b"/..", "archive:malformed"),
            (b"a\0b", "archive:malformed"),
            (b"a/b/c/d/e", "archive:too_large"),
            (&long, "archive:too_large"),
            (&[[b'x'; 200], [b'y'; 200]].join(&b'/'), "archive:too_large"),
        ] {
            assert_eq!(path(name, REACH).map_err(|f| f.code), Err(code), "{}", shown(name));
        }
    }

    #[test]
    fn whiteouts_have_names_of_their_own() {
        let is = |name: &str| meaning(name.as_bytes(), REACH);
        assert_eq!(is("a/.wh.b"), Ok(Meaning::Whiteout(b"a/b".to_vec())));
        assert_eq!(is(".wh.b/"), Ok(Meaning::Whiteout(b"b".to_vec())));
        assert_eq!(is("a/.wh..wh..opq"), Ok(Meaning::Opaque(b"a".to_vec())));
        assert_eq!(is(".wh..wh..opq"), Ok(Meaning::Opaque(vec![])));
        assert_eq!(is("a/.whb"), Ok(Meaning::Thing(b"a/.whb".to_vec())));
        for left in [".wh..wh.plnk", ".wh..wh.plnk/1.2", ".wh..wh.aufs", "a/.wh..wh.orph"] {
            assert_eq!(is(left), Ok(Meaning::Nothing), "{left}");
        }
        for bad in [".wh.", "a/.wh..", ".wh...", ".wh.a/b"] {
            assert_eq!(is(bad).map_err(|f| f.code), Err("archive:malformed"), "{bad}");
        }
    }
}
