//! Known faults of runtimes, one row a fault. Each row says what keeps cells from it, if anything does.
//!
//! Sources: the advisories of opencontainers/runc and containers/crun on GitHub, the CVE records, and runc's CHANGELOG.md
//! and RELEASES.md. Distributions fix without raising the version, so nothing here is ever more than a warning.

use std::collections::BTreeMap;

/// A version in order: its numbers, and that of a release candidate (none comes after all of them).
type Ordered = [u32; 4];

/// A release.
const fn release(major: u32, minor: u32, patch: u32) -> Ordered {
    [major, minor, patch, u32::MAX]
}

/// A release candidate.
const fn candidate(major: u32, minor: u32, patch: u32, rc: u32) -> Ordered {
    [major, minor, patch, rc]
}

#[derive(Debug)]
pub struct Advisory {
    pub runtime: &'static str,
    pub id: &'static str,
    first: Ordered,
    /// The first release with the fix, of each line that got one, oldest line first.
    fixed: &'static [Ordered],
    pub what: &'static str,
    /// Why cells are not open to it, as far as they are not.
    pub defence: &'static str,
}

/// From the very first release on.
const EVER: Ordered = [0; 4];

pub const ADVISORIES: &[Advisory] = &[
    Advisory {
        runtime: "runc",
        id: "CVE-2019-5736",
        first: EVER,
        fixed: &[candidate(1, 0, 0, 7)],
        what: "a program overwrites the host's runc binary",
        defence: "cells have no host root and nothing is executed into them later",
    },
    Advisory {
        runtime: "runc",
        id: "CVE-2021-30465",
        first: EVER,
        fixed: &[candidate(1, 0, 0, 95)],
        what: "a mount target swapped for a symlink lets the host in",
        defence: "mount targets lie in a read-only root of one cell",
    },
    Advisory {
        runtime: "runc",
        id: "CVE-2024-21626",
        first: candidate(1, 0, 0, 93),
        fixed: &[release(1, 1, 12)],
        what: "a leaked descriptor as working directory leads to the host",
        defence: "runcell refuses a cwd below /proc and closes what is leaked before the program starts",
    },
    Advisory {
        runtime: "runc",
        id: "CVE-2024-45310",
        first: EVER,
        fixed: &[release(1, 1, 14), candidate(1, 2, 0, 3)],
        what: "empty files and directories are made on the host through shared volumes",
        defence: "bind sources are opened without following symlinks",
    },
    Advisory {
        runtime: "runc",
        id: "CVE-2025-31133, CVE-2025-52565, CVE-2025-52881",
        first: EVER,
        fixed: &[release(1, 2, 8), release(1, 3, 3), candidate(1, 4, 0, 3)],
        what: "files swapped while a container starts let it write to the host's /proc",
        defence: "cells share no writable mount at start, have no terminal and no host root",
    },
    Advisory {
        runtime: "runc",
        id: "CVE-2026-41579",
        first: EVER,
        fixed: &[release(1, 3, 6), release(1, 4, 3), candidate(1, 5, 0, 3)],
        what: "an image whose /dev is a symlink has files made on the host",
        defence: "a mount lies over /dev before anything is made in it",
    },
    Advisory {
        runtime: "runc",
        id: "opencontainers/runc#5208",
        first: release(1, 3, 0),
        fixed: &[release(1, 3, 6), release(1, 4, 2), candidate(1, 5, 0, 2)],
        what: "`runc run` and `runc exec` hang when the program ends at once",
        defence: "runcell only uses `run --detach`, which does not wait; other users of this runc are open to it",
    },
    Advisory {
        runtime: "crun",
        id: "CVE-2026-30892",
        first: release(1, 19, 0),
        fixed: &[release(1, 27, 0)],
        what: "`crun exec --user 1` runs as root",
        defence: "runcell never uses exec",
    },
    Advisory {
        runtime: "crun",
        id: "CVE-2026-47766",
        first: EVER,
        fixed: &[release(1, 28, 0)],
        what: "an image whose /dev is a symlink has devices made on the host",
        defence: "a mount lies over /dev before anything is made in it",
    },
    Advisory {
        runtime: "crun",
        id: "CVE-2026-88264, CVE-2026-88265",
        first: EVER,
        fixed: &[release(1, 30, 0)],
        what: "an image whose /dev/console or /dev/null is a symlink changes files on the host",
        defence: "a mount lies over /dev before anything is made in it",
    },
    Advisory {
        runtime: "crun",
        id: "CVE-2026-115521",
        first: EVER,
        fixed: &[release(1, 31, 0)],
        what: "an image that controls /proc keeps its root writable",
        defence: "a fresh /proc lies over that of every image",
    },
];

/// Fixes that a distribution carries in a build whose version looks older: what the build's name begins with.
const BACKPORTS: &[(&str, &str, &str)] = &[
    // Debian 12, changelog of runc 1.1.5+ds1-1+deb12u1.
    ("runc", "1.1.5+ds1-1+deb12u", "CVE-2024-21626"),
];

/// The oldest line that its makers still repair (runc: RELEASES.md as of 1.5.0), and the release to be had instead.
const SUPPORTED: &[(&str, [u32; 2], &str)] = &[("runc", [1, 3], "1.5.2"), ("crun", [1, 0], "1.31")];

/// `1.4.0-rc.3+ds1` as numbers in order; what a distribution adds does not count.
pub fn ordered(version: &str) -> Ordered {
    let (plain, rc) = match version.split_once("rc") {
        Some((plain, rest)) => (plain, leading(rest.trim_start_matches('.'))),
        None => (version, u32::MAX),
    };
    let mut parts = plain.split(|c: char| !c.is_ascii_digit()).map(leading);
    let [major, minor, patch] = [0; 3].map(|_| parts.next().unwrap_or(0));
    [major, minor, patch, rc]
}

fn leading(text: &str) -> u32 {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text[..digits].parse().unwrap_or(0)
}

impl Advisory {
    fn concerns(&self, version: Ordered) -> bool {
        let line = |v: &Ordered| [v[0], v[1]];
        // A line without a fix of its own waits for the next line that has one.
        let repaired = self.fixed.iter().any(|f| version >= *f && line(f) == line(&version))
            || self.fixed.last().is_some_and(|newest| line(&version) > line(newest));
        version >= self.first && !repaired
    }
}

/// What concerns this version of a runtime; `build` is the packager's name for it.
pub fn open(runtime: &str, version: &str, build: Option<&str>) -> Vec<&'static Advisory> {
    let version = ordered(version);
    let backported =
        |id| BACKPORTS.iter().any(|(r, prefix, fix)| *r == runtime && *fix == id && build.is_some_and(|b| b.starts_with(prefix)));
    ADVISORIES.iter().filter(|a| a.runtime == runtime && a.concerns(version) && !backported(a.id)).collect()
}

/// Whether its makers have given this version's line up.
pub fn abandoned(runtime: &str, version: &str) -> bool {
    let [major, minor, ..] = ordered(version);
    SUPPORTED.iter().any(|(name, oldest, _)| *name == runtime && [major, minor] < *oldest)
}

/// The release to be had of a runtime that we know.
pub fn newest(runtime: &str) -> Option<&'static str> {
    let known: BTreeMap<_, _> = SUPPORTED.iter().map(|(name, _, newest)| (*name, *newest)).collect();
    known.get(runtime).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(runtime: &str, version: &str, build: Option<&str>) -> Vec<&'static str> {
        open(runtime, version, build).iter().map(|a| a.id).collect()
    }

    #[test]
    fn versions_are_in_order() {
        let row = ["1.0.0-rc6", "1.0.0-rc.93", "1.0.0", "1.1.5+ds1", "1.2.0~rc.1", "1.2.0-rc3+dev", "1.2.0", "1.30"];
        assert!(row.windows(2).all(|w| ordered(w[0]) < ordered(w[1])), "{:?}", row.map(ordered));
        assert_eq!(ordered("nonsense"), [0, 0, 0, u32::MAX]);
    }

    #[test]
    fn the_hang_is_in_1_3_0_to_1_3_5_and_in_1_4_0_to_1_4_1_alone() {
        let hangs = |v: &str| ids("runc", v, None).contains(&"opencontainers/runc#5208");
        assert!(["1.3.0", "1.3.5", "1.4.0", "1.4.1", "1.5.0-rc.1"].iter().all(|v| hangs(v)));
        assert!(["1.1.5", "1.2.9", "1.3.6", "1.4.2", "1.5.0-rc.2", "1.5.0", "2.0.0"].iter().all(|v| !hangs(v)));
    }

    #[test]
    fn lines_without_a_fix_of_their_own_stay_open() {
        let masked = "CVE-2025-31133, CVE-2025-52565, CVE-2025-52881";
        for (version, open) in
            [("1.1.15", true), ("1.2.7", true), ("1.2.8", false), ("1.3.2", true), ("1.4.0-rc.2", true), ("1.4.0", false)]
        {
            assert_eq!(ids("runc", version, None).contains(&masked), open, "{version}");
        }
        assert!(ids("runc", "1.2.9", None).contains(&"CVE-2026-41579"));
        assert!(
            ids("runc", "1.5.2", None).is_empty() && ids("crun", "1.31", None).is_empty() && ids("other", "0.1", None).is_empty()
        );
        assert_eq!(ids("crun", "1.28", None).len(), 2);
    }

    #[test]
    fn a_fix_of_debian_counts() {
        let leaked = "CVE-2024-21626";
        assert!(ids("runc", "1.1.5+ds1", None).contains(&leaked));
        assert!(!ids("runc", "1.1.5+ds1", Some("1.1.5+ds1-1+deb12u1")).contains(&leaked));
        assert!(abandoned("runc", "1.1.5+ds1") && !abandoned("runc", "1.4.0") && !abandoned("own", "0.1"));
        assert_eq!(newest("runc"), Some("1.5.2"));
    }
}
