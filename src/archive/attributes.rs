//! What every entry has besides its content: mode, owner, time, extended attributes.

use std::collections::BTreeMap;
use std::fmt;

/// Extended attributes by name.
pub type Xattrs = BTreeMap<Vec<u8>, Vec<u8>>;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Permissions, setuid, setgid, sticky: at most 0o7777.
    pub mode: u32,
    /// 0 to 65535: those that a cell has.
    pub uid: u32,
    pub gid: u32,
    pub mtime: Mtime,
    pub xattrs: Xattrs,
}

/// When content was last changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mtime {
    /// Since 1970; the fraction is added to it, also where it is negative.
    pub seconds: i64,
    /// 0 to 999,999,999.
    pub nanoseconds: u32,
}

impl fmt::Display for Mtime {
    /// As PAX spells it, without zeros at the end: `1700000000.5`, `-0.5`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = i128::from(self.seconds) * 1_000_000_000 + i128::from(self.nanoseconds);
        let (whole, part) = (total.unsigned_abs() / 1_000_000_000, total.unsigned_abs() % 1_000_000_000);
        let sign = if total < 0 { "-" } else { "" };
        let digits = format!("{part:09}");
        match digits.trim_end_matches('0') {
            "" => write!(f, "{sign}{whole}"),
            digits => write!(f, "{sign}{whole}.{digits}"),
        }
    }
}

impl Mtime {
    /// Reads what `fmt` writes; digits beyond nanoseconds are cut.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let (negative, number) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (whole, part) = number.split_once('.').unwrap_or((number, ""));
        let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty() || !digits(whole) || !digits(part) {
            return None;
        }
        let whole: i64 = whole.parse().ok()?;
        let nanoseconds: i128 = format!("{part:0<9}")[..9].parse().ok()?;
        let total = i128::from(whole) * 1_000_000_000 + nanoseconds;
        let total = if negative { -total } else { total };
        Some(Self {
            seconds: i64::try_from(total.div_euclid(1_000_000_000)).ok()?,
            nanoseconds: u32::try_from(total.rem_euclid(1_000_000_000)).ok()?,
        })
    }
}

/// Whether an extended attribute goes with a tree: what programs set for themselves, and file capabilities. All others belong to
/// the host that made the archive, and those of overlayfs, which rule how layers combine, to whoever mounts them.
pub fn kept(name: &[u8]) -> bool {
    (name.starts_with(b"user.") || name == b"security.capability") && !of_overlay(name)
}

pub fn of_overlay(name: &[u8]) -> bool {
    name.windows(8).any(|w| w == b"overlay.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_fractions_and_signs() {
        for (text, seconds, nanoseconds) in [
            ("0", 0, 0),
            ("1700000000.5", 1_700_000_000, 500_000_000),
            ("-0.5", -1, 500_000_000),
            ("-1", -1, 0),
            ("1.000000001", 1, 1),
        ] {
            let time = Mtime { seconds, nanoseconds };
            assert_eq!(Mtime::parse(text.as_bytes()), Some(time), "{text}");
            assert_eq!(time.to_string(), text);
        }
        assert_eq!(Mtime::parse(b"1.1234567899"), Some(Mtime { seconds: 1, nanoseconds: 123_456_789 }));
        for bad in ["", "-", ".5", "1e3", "+1", "1.-5", "99999999999999999999"] {
            assert_eq!(Mtime::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn only_attributes_that_travel_are_kept() {
        assert!(kept(b"user.a") && kept(b"security.capability"));
        for not in
            [&b"trusted.overlay.opaque"[..], b"user.overlay.opaque", b"security.selinux", b"system.posix_acl_access", b"user"]
        {
            assert!(!kept(not), "{not:?}");
        }
    }
}
