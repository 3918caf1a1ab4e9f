//! Ids that accounts of this host have: passwd(5), group(5), subuid(5), subgid(5).

use super::files;
use std::path::Path;

/// Files with ids, and whether a line is one id in its third field, or a range in its second and third.
const FILES: [(&str, bool); 4] = [("passwd", false), ("group", false), ("subuid", true), ("subgid", true)];

/// Ids of one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// `/etc/subuid:3`.
    pub place: String,
    pub line: String,
    first: u64,
    count: u64,
}

impl Claim {
    /// Whether any of its ids is among `count` from `first` on.
    pub fn overlaps(&self, first: u32, count: u32) -> bool {
        self.first < u64::from(first) + u64::from(count) && u64::from(first) < self.first.saturating_add(self.count)
    }
}

/// All lines that claim ids. `etc` is /etc outside of tests; what cannot be read or makes no sense claims nothing.
pub fn claims(etc: &Path) -> Vec<Claim> {
    let of_file = |(name, range): (&str, bool)| {
        let path = etc.join(name);
        let bytes = files::read_some(&path, 64 << 20).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let of_line = |(n, line): (usize, &str)| {
            let (first, count) = ids(line, range)?;
            Some(Claim { place: format!("{}:{}", path.display(), n + 1), line: line.to_owned(), first, count })
        };
        text.lines().enumerate().filter_map(of_line).collect::<Vec<_>>()
    };
    FILES.into_iter().flat_map(of_file).collect()
}

/// The range that systemd reserves for containers (its UIDS-GIDS document).
const CONTAINERS: std::ops::Range<u32> = 524_288..1_879_048_192;

/// `count` ids, or as many as may be, that are reserved for containers and that nobody claims; in steps of `step`.
pub fn unclaimed(claims: &[Claim], count: u32, step: u32) -> Option<(u32, u32)> {
    let halves = std::iter::successors(Some(count), |n| Some(n / 2 / step * step)).take_while(|n| *n >= step);
    let free = |count: u32| {
        let starts = (CONTAINERS.start..CONTAINERS.end - count.min(CONTAINERS.end)).step_by(count as usize);
        let fits = |first: &u32| !claims.iter().any(|c| c.overlaps(*first, count));
        // The upper half first: accounts are given ids from below.
        starts.rev().find(fits).map(|first| (first, count))
    };
    halves.into_iter().find_map(free)
}

fn ids(line: &str, range: bool) -> Option<(u64, u64)> {
    let mut fields = line.split(':').skip(1);
    let (second, third) = (fields.next()?, fields.next()?.trim());
    match range {
        true => Some((second.parse().ok()?, third.parse().ok()?)),
        false => Some((third.parse().ok()?, 1)),
    }
}

/// Whether our own user namespace has all of these ids. `proc` is /proc outside of tests.
pub fn has(proc: &Path, first: u32, count: u32) -> bool {
    ["uid_map", "gid_map"].into_iter().all(|map| {
        let text = files::text(&proc.join("self").join(map)).unwrap_or_default();
        let line = |line: &str| {
            let mut fields = line.split_ascii_whitespace().map(str::parse::<u64>);
            let (inside, _, length) = (fields.next()?.ok()?, fields.next()?, fields.next()?.ok()?);
            Some(inside <= u64::from(first) && u64::from(first) + u64::from(count) <= inside + length)
        };
        text.lines().filter_map(line).any(|covers| covers)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_one_id_or_a_range() {
        let dir = tempfile::tempdir().expect("tempdir");
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).expect("write");
        write("passwd", "root:x:0:0:root:/root:/bin/sh\n# odd\nbob:x:70000:1:::\n");
        write("subuid", "bob:100000:65536\nall:1:18446744073709551615\n");
        let claims = claims(dir.path());
        let hit = |first, count| claims.iter().filter(|c| c.overlaps(first, count)).map(|c| c.line.as_str()).collect::<Vec<_>>();
        assert_eq!(claims.len(), 4);
        assert_eq!(hit(65_536, 65_536)[..2], ["bob:x:70000:1:::", "bob:100000:65536"]);
        assert_eq!(hit(165_536, 65_536), ["all:1:18446744073709551615"]);
        assert!(claims[2].place.ends_with("/subuid:1"));
    }

    #[test]
    fn another_range_is_found_where_there_is_one() {
        let claim = |first, count| Claim { place: String::new(), line: String::new(), first, count };
        let (first, count) = unclaimed(&[claim(1 << 30, 1 << 28)], 1 << 28, 65_536).expect("free");
        assert!(count == 1 << 28 && !claim(1 << 30, 1 << 28).overlaps(first, count) && first % 65_536 == 0);
        assert_eq!(unclaimed(&[claim(600_000, u64::MAX)], 1 << 28, 65_536), Some((524_288, 65_536)));
        assert_eq!(unclaimed(&[claim(0, u64::MAX)], 1 << 28, 65_536), None);
    }

    #[test]
    fn a_namespace_may_lack_ids() {
        let dir = tempfile::tempdir().expect("tempdir");
        std::fs::create_dir(dir.path().join("self")).expect("mkdir");
        let write = |name: &str, text: &str| std::fs::write(dir.path().join("self").join(name), text).expect("write");
        write("uid_map", "         0          0 4294967295\n");
        assert!(!has(dir.path(), 65_536, 65_536), "no gid_map");
        write("gid_map", "0 100000 65536\n65536 900000 65536\n");
        assert!(has(dir.path(), 65_536, 65_536) && !has(dir.path(), 65_536, 131_072));
    }
}
