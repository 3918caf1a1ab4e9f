//! One block of 512 bytes that begins an entry of a tar archive: V7, ustar, GNU or star.

/// Size of a block, in bytes; headers and bodies fill whole ones.
pub(super) const BLOCK: usize = 512;

/// What a header says, before what other headers say about the same entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: u8,
    pub(super) name: Vec<u8>,
    pub(super) link: Vec<u8>,
    /// The low twelve bits: permissions, setuid, setgid, sticky.
    pub(super) mode: u32,
    pub(super) uid: u64,
    pub(super) gid: u64,
    /// Of the body that follows, in bytes.
    pub(super) size: u64,
    /// In seconds since 1970.
    pub(super) mtime: i64,
}

/// Reads a header.
///
/// # Errors
/// a wrong checksum, or a field that is no number: in words.
pub(super) fn parse(block: &[u8; BLOCK]) -> Result<Header, String> {
    // Some old archivers summed signed bytes; both are accepted everywhere.
    let field = |n: usize| (148..156).contains(&n);
    let unsigned: i64 = block.iter().enumerate().map(|(n, b)| if field(n) { 32 } else { i64::from(*b) }).sum();
    let signed: i64 = block.iter().enumerate().map(|(n, b)| if field(n) { 32 } else { i64::from(*b as i8) }).sum();
    match number(&block[148..156]) {
        Ok(sum) if sum == unsigned || sum == signed => {}
        _ => return Err("a header has a wrong checksum: this is no tar archive, or it is damaged".into()),
    }
    let named = |what: &str, range: std::ops::Range<usize>| number(&block[range]).map_err(|e| format!("its {what} {e}"));
    let positive =
        |what: &str, range| named(what, range).and_then(|n| u64::try_from(n).map_err(|_| format!("its {what} is negative")));
    Ok(Header {
        kind: block[156],
        name: name(block),
        link: text(&block[157..257]).to_vec(),
        // GNU tar writes the file type into the upper bits, others write anything.
        mode: u32::try_from(positive("mode", 100..108)? & 0o7777).unwrap_or(0),
        uid: positive("uid", 108..116)?,
        gid: positive("gid", 116..124)?,
        size: positive("size", 124..136)?,
        mtime: named("mtime", 136..148)?,
    })
}

/// Only ustar has a prefix of the name; GNU has other things there, and star half of it.
fn name(block: &[u8; BLOCK]) -> Vec<u8> {
    let rest = text(&block[..100]);
    let prefix = match &block[257..263] {
        b"ustar\0" if &block[508..512] == b"tar\0" => text(&block[345..476]),
        b"ustar\0" => text(&block[345..500]),
        _ => &[],
    };
    if prefix.is_empty() { rest.to_vec() } else { [prefix, b"/", rest].concat() }
}

/// Up to the first NUL, if there is one.
pub(super) fn text(field: &[u8]) -> &[u8] {
    field.split(|b| *b == 0).next().unwrap_or_default()
}

/// Octal digits between spaces and NULs, or GNU's big-endian binary, which is told by its highest bit. Empty is 0.
///
/// # Errors
/// anything else, and what is beyond 64 bits: in words that continue a sentence.
pub(super) fn number(field: &[u8]) -> Result<i64, String> {
    let beyond = || "is beyond 64 bits".to_owned();
    if let [first @ (0x80..=0xff), rest @ ..] = field {
        // Two's complement; the sign is the second highest bit of the field.
        let begin = if first & 0x40 == 0 { i64::from(first & 0x3f) } else { i64::from(first | 0x80) - 256 };
        return rest
            .iter()
            .try_fold(begin, |n, b| n.checked_mul(256).and_then(|n| n.checked_add(i64::from(*b))).ok_or_else(beyond));
    }
    let blank = |b: &u8| matches!(b, b' ' | 0);
    let begin = field.iter().position(|b| !blank(b)).unwrap_or(field.len());
    let digits = &field[begin..];
    let end = digits.iter().position(blank).unwrap_or(digits.len());
    if digits[end..].iter().any(|b| !blank(b)) {
        return Err("is no number".into());
    }
    digits[..end].iter().try_fold(0i64, |n, b| match b {
        b'0'..=b'7' => n.checked_mul(8).and_then(|n| n.checked_add(i64::from(b - b'0'))).ok_or_else(beyond),
        _ => Err("is no number".into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_binary() {
        for (field, is) in [
            (&b"0000644\0"[..], 0o644),
            (b"    644 ", 0o644),
            (b"\0\0\0\0", 0),
            (b"", 0),
            (b"77777777", 0o77777777),
            (b"\x80\0\0\0\0\0\0\x05", 5),
            (b"\xff\xff\xff\xff\xff\xff\xff\xfe", -2),
        ] {
            assert_eq!(number(field), Ok(is), "{field:?}");
        }
        for bad in [&b"8"[..], b"1 1", b"-1", b"0x1", b"\x80\x01\0\0\0\0\0\0\0\0\0\0", b"7777777777777777777777777"] {
            assert!(number(bad).is_err(), "{bad:?}");
        }
    }
}
