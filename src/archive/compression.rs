//! Compressed streams, known by their first bytes: gzip with any number of members, zstd with any number of frames, or plain.

use super::refusal::{malformed, reading, unsupported};
use crate::model::fault::Fault;
use flate2::bufread::MultiGzDecoder;
use std::io::{self, BufRead, BufReader, Cursor, Read};

/// The longest magic number below.
const MAGIC_MOST: usize = 6;
const BUFFER: usize = 256 * 1024;
/// Base-2 logarithm of the largest zstd window, which the decoder keeps in memory: 32 MiB. All levels without `--long` and up
/// to `--ultra -20` stay within it.
const WINDOW_LOG_MOST: u32 = 25;

/// Formats that are told apart only to be refused by name.
const FOREIGN: &[(&[u8], &str, &str)] = &[
    (b"BZh", "bzip2", "bunzip2"),
    (b"\xfd7zXZ\0", "xz", "unxz"),
    (b"\x5d\0\0", "lzma", "unlzma"),
    (b"\x04\x22\x4d\x18", "lz4", "unlz4"),
    (b"\x1f\x9d", "compress", "uncompress"),
    (b"LZIP", "lzip", "lzip -d"),
    (b"PK\x03\x04", "zip", "unzip"),
    (b"Rar!", "rar", "unrar"),
    (b"7z\xbc\xaf\x27\x1c", "7z", "7z x"),
];

/// How a stream is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    Plain,
    Gzip,
    Zstd,
}

/// A stream with what its first bytes said it is.
pub struct Opened<'a> {
    pub compression: Compression,
    /// The uncompressed bytes. Errors of bad bytes have no errno; a truncated stream is `UnexpectedEof`, and whatever follows
    /// the last member or frame without being one is an error.
    pub content: Box<dyn Read + Send + 'a>,
}

/// Begins to read a stream.
///
/// # Errors
/// `archive:unsupported` for a compression that we do not read, `archive:unreadable` if the source cannot be read.
pub fn open<'a>(mut source: impl Read + Send + 'a) -> Result<Opened<'a>, Fault> {
    let mut magic = Vec::with_capacity(MAGIC_MOST);
    source.by_ref().take(MAGIC_MOST as u64).read_to_end(&mut magic).map_err(reading)?;
    if let Some((_, name, tool)) = FOREIGN.iter().find(|(begins, ..)| magic.starts_with(begins)) {
        return Err(unsupported(format!("the archive is compressed with {name}; plain, gzip and zstd are read"))
            .hint(format!("convert it with {tool}, then gzip or zstd")));
    }
    let compression = match magic[..] {
        [0x1f, 0x8b, ..] => Compression::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
        // A skippable frame, which only makes sense before others (RFC 8878, 3.1.2).
        [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
        _ => Compression::Plain,
    };
    let whole = Cursor::new(magic).chain(source);
    let content: Box<dyn Read + Send + 'a> = match compression {
        Compression::Plain => Box::new(whole),
        Compression::Gzip => Box::new(Named { from: MultiGzDecoder::new(BufReader::with_capacity(BUFFER, whole)), name: "gzip" }),
        Compression::Zstd => Box::new(Named { from: zstd_frames(BufReader::with_capacity(BUFFER, whole))?, name: "zstd" }),
    };
    Ok(Opened { compression, content })
}

fn zstd_frames<'a, R: BufRead + 'a>(source: R) -> Result<zstd::stream::read::Decoder<'a, R>, Fault> {
    let mut decoder = zstd::stream::read::Decoder::with_buffer(source).map_err(reading)?;
    decoder.window_log_max(WINDOW_LOG_MOST).map_err(reading)?;
    Ok(decoder)
}

/// A decoder whose errors say which format is broken.
struct Named<R> {
    from: R,
    name: &'static str,
}

impl<R: Read> Read for Named<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.from.read(into).map_err(|e| self.explained(e))
    }
}

impl<R> Named<R> {
    fn explained(&self, e: io::Error) -> io::Error {
        let foreign = e.get_ref().is_some_and(|inner| inner.is::<Fault>());
        if e.raw_os_error().is_some() || e.kind() == io::ErrorKind::Interrupted || foreign {
            return e;
        }
        let text = e.to_string();
        let fault = match text.contains("too much memory") {
            true => unsupported(format!("its zstd window is larger than {} MiB", 1 << (WINDOW_LOG_MOST - 20)))
                .hint("compress it again without --long and below --ultra -21"),
            false if e.kind() == io::ErrorKind::UnexpectedEof => {
                malformed(format!("the {} stream is truncated", self.name)).hint("copy or download it again")
            }
            false => malformed(format!("the {} stream is corrupt, or something else follows it: {text}", self.name))
                .hint("copy or download it again"),
        };
        io::Error::new(io::ErrorKind::InvalidData, fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        out.write_all(bytes).expect("memory");
        out.finish().expect("memory")
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        zstd::stream::encode_all(bytes, 1).expect("memory")
    }

    fn read(bytes: &[u8]) -> Result<(Compression, Vec<u8>), Fault> {
        let mut opened = open(bytes)?;
        let mut out = Vec::new();
        opened.content.read_to_end(&mut out).map_err(reading)?;
        Ok((opened.compression, out))
    }

    fn refused(bytes: &[u8], code: &str, says: &str) {
        let fault = read(bytes).expect_err(says);
        assert!(fault.code == code && fault.message.contains(says), "{fault:?}, not {code} {says}");
        assert!(fault.hint.is_some(), "no remedy: {fault:?}");
    }

    #[test]
    fn streams_are_known_by_their_first_bytes() {
        let long = vec![7u8; 1 << 20];
        for content in [&b""[..], b"x", b"hello", &long] {
            assert_eq!(read(content), Ok((Compression::Plain, content.to_vec())));
            assert_eq!(read(&gzip(content)), Ok((Compression::Gzip, content.to_vec())));
            assert_eq!(read(&zstd(content)), Ok((Compression::Zstd, content.to_vec())));
        }
    }

    #[test]
    fn members_and_frames_follow_one_another() {
        assert_eq!(read(&[gzip(b"one"), gzip(b""), gzip(b"two")].concat()), Ok((Compression::Gzip, b"onetwo".to_vec())));
        let skippable = [&[0x53, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
        let frames = [skippable.clone(), zstd(b"one"), skippable.clone(), zstd(b"two"), skippable].concat();
        assert_eq!(read(&frames), Ok((Compression::Zstd, b"onetwo".to_vec())));
    }

    #[test]
    fn broken_streams_are_refused() {
        let noise: Vec<u8> = (0..100_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        for (name, whole) in [("gzip", gzip(&noise)), ("zstd", zstd(&noise))] {
            for cut in [whole.len() - 1, whole.len() / 2, 11] {
                refused(&whole[..cut], "archive:malformed", &format!("{name} stream is truncated"));
            }
            refused(&[&whole[..], b"garbage behind it"].concat(), "archive:malformed", &format!("{name} stream is corrupt"));
        }
        let mut flipped = gzip(&noise);
        let last = flipped.len() - 6;
        flipped[last] ^= 1;
        refused(&flipped, "archive:malformed", "gzip stream is corrupt");
    }

    #[test]
    fn foreign_compressions_are_refused_by_name() {
        for (magic, name, tool) in FOREIGN {
            let fault = open(&[magic, &b"rest of it"[..]].concat()[..]).err().expect(name);
            assert!(fault.code == "archive:unsupported" && fault.message.contains(name), "{fault:?}");
            assert!(fault.hint.is_some_and(|h| h.contains(tool)), "{name}");
        }
    }

    #[test]
    fn windows_that_need_much_memory_are_refused() {
        let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).expect("encoder");
        encoder.window_log(27).and_then(|()| encoder.long_distance_matching(true)).expect("a long window");
        encoder.include_contentsize(false).expect("no size");
        let block = vec![1u8; 1 << 20];
        (0..40).for_each(|_| encoder.write_all(&block).expect("memory"));
        refused(&encoder.finish().expect("memory"), "archive:unsupported", "window is larger than 32 MiB");
    }
}
