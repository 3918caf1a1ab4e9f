//! Extended headers (POSIX pax): records of `length key=value`, which say what an entry's own header cannot.

use super::attributes::{Mtime, Xattrs};
use super::refusal::shown;

/// Extended attributes, in the words of star, which all tools took over.
const XATTR: &[u8] = b"SCHILY.xattr.";

/// What records say; later ones win.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Pax {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) mtime: Option<Mtime>,
    pub(super) xattrs: Xattrs,
    pub(super) sparse: Sparse,
}

/// GNU's records of files with holes, of its versions 0.0, 0.1 and 1.0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sparse {
    pub(super) version: Option<(u64, u64)>,
    pub(super) name: Option<Vec<u8>>,
    /// With its holes, in bytes.
    pub(super) size: Option<u64>,
    /// Offsets and lengths, one after the other.
    pub(super) map: Vec<u64>,
}

impl Sparse {
    /// Whether the records describe a file with holes at all.
    pub(super) fn is_there(&self) -> bool {
        *self != Self::default()
    }
}

impl Pax {
    /// Adds the records of one header.
    ///
    /// # Errors
    /// records that are malformed, or a value that is none: in words.
    pub(super) fn add(&mut self, mut records: &[u8], most_chunks: usize) -> Result<(), String> {
        while !records.is_empty() {
            let (key, value, rest) = record(records).ok_or("an extended header has a malformed record")?;
            self.set(key, value, most_chunks).map_err(|e| format!("an extended header's {} {e}", shown(key)))?;
            records = rest;
        }
        Ok(())
    }

    fn set(&mut self, key: &[u8], value: &[u8], most_chunks: usize) -> Result<(), String> {
        if let Some(name) = key.strip_prefix(XATTR) {
            if name.is_empty() || name.contains(&0) {
                return Err("names no attribute".into());
            }
            self.xattrs.insert(name.to_vec(), value.to_vec());
            return Ok(());
        }
        match key {
            b"path" => self.path = name(value)?,
            b"linkpath" => self.link = name(value)?,
            b"size" => self.size = optional(value)?,
            b"uid" => self.uid = optional(value)?,
            b"gid" => self.gid = optional(value)?,
            b"mtime" if value.is_empty() => self.mtime = None,
            b"mtime" => self.mtime = Some(Mtime::parse(value).ok_or("is no time")?),
            b"GNU.sparse.major" => self.sparse.version = Some((decimal(value)?, self.sparse.version.unwrap_or_default().1)),
            b"GNU.sparse.minor" => self.sparse.version = Some((self.sparse.version.unwrap_or_default().0, decimal(value)?)),
            b"GNU.sparse.name" => self.sparse.name = name(value)?,
            b"GNU.sparse.size" | b"GNU.sparse.realsize" => self.sparse.size = Some(decimal(value)?),
            b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => self.sparse.map.push(decimal(value)?),
            b"GNU.sparse.map" => {
                self.sparse.map = value.split(|b| *b == b',').map(decimal).collect::<Result<_, _>>()?;
            }
            // Times of access and change, user names, comments, character sets: nothing that a layer keeps.
            _ => {}
        }
        if self.sparse.map.len() > 2 * most_chunks {
            return Err(format!("describes more than {most_chunks} pieces of a file"));
        }
        Ok(())
    }
}

/// An empty value takes back what was said before.
fn name(value: &[u8]) -> Result<Option<Vec<u8>>, String> {
    match value {
        [] => Ok(None),
        _ if value.contains(&0) => Err("contains NUL".into()),
        _ => Ok(Some(value.to_vec())),
    }
}

fn optional(value: &[u8]) -> Result<Option<u64>, String> {
    if value.is_empty() { Ok(None) } else { decimal(value).map(Some) }
}

/// Decimal digits alone: Rust's own parser would take a plus sign.
pub(super) fn decimal(value: &[u8]) -> Result<u64, String> {
    let digits = std::str::from_utf8(value).ok().filter(|s| s.bytes().all(|b| b.is_ascii_digit()));
    digits.and_then(|s| s.parse().ok()).ok_or_else(|| "is no number".into())
}

/// Key, value, and what follows the first record.
fn record(records: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = records.iter().take(20).position(|b| *b == b' ')?;
    let length = usize::try_from(decimal(&records[..space]).ok()?).ok()?;
    let (whole, rest) = records.split_at_checked(length)?;
    let (b'\n', pair) = whole.get(space + 1..)?.split_last()? else { return None };
    let equals = pair.iter().position(|b| *b == b'=').filter(|at| *at > 0)?;
    Some((&pair[..equals], &pair[equals + 1..], rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(records: &[u8]) -> Result<Pax, String> {
        let mut pax = Pax::default();
        pax.add(records, 10).map(|()| pax)
    }

    #[test]
    fn records_say_their_length() {
        let pax = read(b"12 path=a=b\n26 SCHILY.xattr.user.k=v\n\n13 mtime=1.5\n").expect("well formed");
        assert_eq!(pax.path.as_deref(), Some(&b"a=b"[..]));
        assert_eq!(pax.xattrs[&b"user.k"[..]], b"v\n");
        assert_eq!(pax.mtime, Some(Mtime { seconds: 1, nanoseconds: 500_000_000 }));
        assert_eq!(read(b"9 path=a\n8 path=\n").map(|p| p.path), Ok(None));
    }

    #[test]
    fn malformed_records_are_refused() {
        for bad in [
            &b"11 path=a\n"[..],
            b"8 path=a\n",
            b"10 path=ab",
            b"99999999999999999999999 path=a\n",
            b"4 =\n",
            b"5 x\n\n",
            b"+10 path=a\n",
            b" path=a\n",
            b"0 path=a\n",
            b"11 path=a\0\n",
            b"11 size=-1\n",
            b"11 size=0x\n",
            b"12 mtime=1e\n",
            b"18 SCHILY.xattr.=\n",
        ] {
            assert!(read(bad).is_err(), "{}", shown(bad));
        }
        let many = b"23 GNU.sparse.offset=1\n".repeat(21);
        assert!(read(&many).is_err_and(|e| e.contains("more than 10 pieces")));
    }
}
