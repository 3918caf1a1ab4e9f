//! Tar archives byte by byte, right or wrong as asked.

const BLOCK: usize = 512;

/// An archive in the making.
#[derive(Clone, Default)]
pub(crate) struct Tar(pub(crate) Vec<u8>);

/// A header, with fields that tests may spoil before its checksum is made.
#[derive(Clone)]
pub(crate) struct Head {
    pub(crate) block: [u8; BLOCK],
    pub(crate) size: u64,
}

pub(crate) fn octal(field: &mut [u8], value: u64) {
    let digits = format!("{value:0width$o}", width = field.len() - 1);
    field[..digits.len()].copy_from_slice(digits.as_bytes());
}

impl Head {
    pub(crate) fn new(kind: u8, name: &[u8]) -> Self {
        let mut block = [0; BLOCK];
        let length = name.len().min(100);
        block[..length].copy_from_slice(&name[..length]);
        block[156] = kind;
        block[257..265].copy_from_slice(b"ustar\x0000");
        let head = Self { block, size: 0 };
        head.mode(0o644).owner(0, 0).mtime(1_000_000_000).size(0)
    }

    pub(crate) fn mode(mut self, mode: u64) -> Self {
        octal(&mut self.block[100..108], mode);
        self
    }

    pub(crate) fn owner(mut self, uid: u64, gid: u64) -> Self {
        octal(&mut self.block[108..116], uid);
        octal(&mut self.block[116..124], gid);
        self
    }

    pub(crate) fn size(mut self, size: u64) -> Self {
        octal(&mut self.block[124..136], size);
        self.size = size;
        self
    }

    pub(crate) fn mtime(mut self, seconds: u64) -> Self {
        octal(&mut self.block[136..148], seconds);
        self
    }

    pub(crate) fn link(mut self, target: &[u8]) -> Self {
        let length = target.len().min(100);
        self.block[157..257].fill(0);
        self.block[157..157 + length].copy_from_slice(&target[..length]);
        self
    }

    pub(crate) fn bytes(mut self, at: usize, bytes: &[u8]) -> Self {
        self.block[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    fn sealed(mut self) -> [u8; BLOCK] {
        self.block[148..156].fill(b' ');
        let sum: u64 = self.block.iter().map(|b| u64::from(*b)).sum();
        octal(&mut self.block[148..155], sum);
        self.block[155] = b' ';
        self.block
    }
}

impl Tar {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// A header as it is, and a body that fills whole blocks.
    pub(crate) fn raw(mut self, head: Head, body: &[u8]) -> Self {
        self.0.extend(head.sealed());
        self.0.extend(body);
        self.0.resize(self.0.len().next_multiple_of(BLOCK), 0);
        self
    }

    pub(crate) fn head(self, head: Head) -> Self {
        self.raw(head, b"")
    }

    pub(crate) fn file(self, name: &str, content: &[u8]) -> Self {
        self.raw(Head::new(b'0', name.as_bytes()).size(content.len() as u64), content)
    }

    pub(crate) fn dir(self, name: &str) -> Self {
        self.head(Head::new(b'5', name.as_bytes()).mode(0o755))
    }

    pub(crate) fn symlink(self, name: &str, target: &str) -> Self {
        self.head(Head::new(b'2', name.as_bytes()).link(target.as_bytes()))
    }

    pub(crate) fn hard_link(self, name: &str, target: &str) -> Self {
        self.head(Head::new(b'1', name.as_bytes()).link(target.as_bytes()))
    }

    /// An extended header of any kind: `x`, `g`, `L`, `K`.
    pub(crate) fn extended(self, kind: u8, words: &[u8]) -> Self {
        self.raw(Head::new(kind, b"././@LongLink").size(words.len() as u64), words)
    }

    pub(crate) fn pax(self, records: &[(&[u8], &[u8])]) -> Self {
        let words: Vec<u8> = records.iter().flat_map(|(key, value)| record(key, value)).collect();
        self.extended(b'x', &words)
    }

    /// The two blocks of zeros that end an archive.
    pub(crate) fn end(mut self) -> Vec<u8> {
        self.0.extend([0; 2 * BLOCK]);
        self.0
    }
}

/// A PAX record, which counts its own length.
pub(crate) fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length += 1;
    }
    [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
}
