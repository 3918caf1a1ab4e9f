//! What the confined process that reads a foreign archive says to the one that has rights: counted words on a pipe, bounded, and
//! believed only as far as they could be a stranger's own.

use crate::model::fault::{Fault, Whose};
use crate::model::image::BlobRef;
use crate::model::reference::Digest;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{self, Read, Write};

/// The largest word: an image's configuration, or the list of a layer's opaque directories.
const WORD_MOST: u32 = 64 << 20;

#[derive(Debug, Serialize, Deserialize)]
pub enum Word {
    /// So many bytes of layers have been read.
    Progress(u64),
    /// The next layer, lowest first.
    Layer(Unpacked),
    /// All layers are told; what the image says of programs.
    Configured(Box<Configured>),
    Refused(Refusal),
}

/// A layer that lies unpacked on the bench, or that the store has already.
#[derive(Debug, Serialize, Deserialize)]
pub struct Unpacked {
    pub diff_id: Digest,
    /// Below the bench: `<place>/tree`, `listing`, `blob`; none where the store has it.
    pub place: Option<u32>,
    pub blob: Option<BlobRef>,
    pub bytes: u64,
    pub entries: u64,
    pub opaque: Vec<Vec<u8>>,
    pub implied: Vec<Vec<u8>>,
    pub notices: Vec<String>,
}

/// An image's configuration, as it came and as far as it matters here (OCI image-spec, config.md).
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Configured {
    /// The document itself; empty for a bare root filesystem, which has none.
    pub document: Vec<u8>,
    pub argv: Vec<String>,
    pub env: Vec<String>,
    pub cwd: Option<String>,
    pub user: Option<String>,
    pub labels: BTreeMap<String, String>,
    pub platform: String,
    /// What the archive calls the image.
    pub names: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Refusal {
    whose: u8,
    code: String,
    message: String,
    path: Option<String>,
    hint: Option<String>,
}

/// Codes that an archive can be refused with; a word that is none of them is not passed on as one.
const CODES: &[&str] = &[
    "archive:malformed",
    "archive:mismatch",
    "archive:too_large",
    "archive:listing",
    "archive:pump",
    "archive:unreadable",
    "archive:unrepresentable",
    "archive:unsupported",
    "archive:unwritable",
    "image:!exists",
    "image:ambiguous",
    "image:unusable",
    "import:failed",
    "usage",
];

impl From<Fault> for Refusal {
    fn from(f: Fault) -> Self {
        let whose = match f.whose {
            Whose::Caller => 0,
            Whose::Host => 1,
            Whose::Ours => 2,
        };
        Self { whose, code: f.code.to_owned(), message: f.message, path: f.path, hint: f.hint }
    }
}

impl Refusal {
    /// The fault that it was.
    pub fn fault(self) -> Fault {
        let code = CODES.iter().find(|code| **code == self.code).copied().unwrap_or("archive:malformed");
        let make = match self.whose {
            0 => Fault::caller,
            1 => Fault::host,
            _ => Fault::ours,
        };
        let fault = make(code, self.message).at(self.path.unwrap_or_else(|| "source".to_owned()));
        match self.hint {
            Some(hint) => fault.hint(hint),
            None => fault,
        }
    }
}

/// Says a word.
///
/// # Errors
/// of write: nobody listens any more.
pub fn tell(mut to: impl Write, word: &Word) -> io::Result<()> {
    let bytes = postcard::to_stdvec(word).map_err(io::Error::other)?;
    let length = u32::try_from(bytes.len()).ok().filter(|n| *n <= WORD_MOST).ok_or(io::ErrorKind::FileTooLarge)?;
    to.write_all(&length.to_le_bytes())?;
    to.write_all(&bytes)
}

/// Hears the next word; `None` at the end.
///
/// # Errors
/// of read, or of a word that makes no sense.
pub fn hear(mut from: impl Read) -> io::Result<Option<Word>> {
    let mut length = [0u8; 4];
    match from.read_exact(&mut length) {
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let length = u32::from_le_bytes(length);
    if length > WORD_MOST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = Vec::new();
    from.take(u64::from(length)).read_to_end(&mut bytes)?;
    postcard::from_bytes(&bytes).map(Some).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_travels_whole_and_nonsense_does_not() {
        let fault = Fault::caller("archive:mismatch", "not the bytes").at("source").hint("again");
        let mut pipe = Vec::new();
        tell(&mut pipe, &Word::Refused(fault.clone().into())).expect("told");
        tell(&mut pipe, &Word::Progress(7)).expect("told");
        let mut from = &pipe[..];
        let Some(Word::Refused(refusal)) = hear(&mut from).expect("heard") else { panic!("a refusal") };
        assert_eq!(refusal.fault(), fault);
        assert!(matches!(hear(&mut from).expect("heard"), Some(Word::Progress(7))));
        assert!(hear(&mut from).expect("the end").is_none());
        assert!(hear(&u32::MAX.to_le_bytes()[..]).is_err() && hear(&[9, 0, 0, 0, 1][..]).is_err());
        let forged = Refusal { whose: 0, code: "policy:refused".into(), message: String::new(), path: None, hint: None };
        assert_eq!(forged.fault().code, "archive:malformed");
    }
}
