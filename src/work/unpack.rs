//! The confined process's work: reads a foreign source, unpacks its layers on the bench, and tells what it found.

use super::foreign::{Configured, Unpacked, Word};
use super::pipeline;
use crate::archive::compression;
use crate::archive::layer::{self, Applied, Bounds};
use crate::model::fault::Fault;
use crate::model::image::BlobRef;
use crate::model::policy::Import;
use crate::model::reference::Digest;
use crate::os::error::{At, OsError};
use crate::os::files;
use crate::store::depot::Depot;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

/// Words of progress come after each so many bytes.
const PROGRESS_STEP: u64 = 4 << 20;

/// Where an image comes from.
#[derive(Debug)]
pub enum Source<'a> {
    /// An archive, which can be sought in.
    File(File),
    /// An image layout, or a root filesystem.
    Directory(&'a Path),
}

pub struct Task<'a> {
    pub source: &'a Source<'a>,
    pub depot: &'a Depot,
    pub bench: &'a Path,
    pub bounds: Import,
    pub platform: Option<&'a str>,
    pub pick: Option<&'a str>,
    pub tell: &'a dyn Fn(&Word) -> io::Result<()>,
}

/// Reads the source and tells of it, layer by layer.
///
/// # Errors
/// what is wrong with the source, or with the host.
pub fn unpack(task: &Task<'_>) -> Result<(), Fault> {
    let mut yard = Yard { task, count: 0, bytes: task.bounds.bytes.0, entries: task.bounds.entries };
    let configured = match task.source {
        Source::File(file) => yard.archive(file)?,
        Source::Directory(dir) => yard.directory(dir)?,
    };
    yard.tell(&Word::Configured(Box::new(configured)))
}

/// The bench with what its bounds still allow.
struct Yard<'a> {
    task: &'a Task<'a>,
    count: u32,
    bytes: u64,
    entries: u64,
}

impl Yard<'_> {
    fn tell(&self, word: &Word) -> Result<(), Fault> {
        (self.task.tell)(word).map_err(|e| Fault::ours("import:failed", format!("nobody listens any more: {e}")))
    }

    /// The tar archive of a root filesystem, in whatever compression.
    fn archive(&mut self, file: &File) -> Result<Configured, Fault> {
        let content = compression::open(file)?.content;
        let unpacked = self.layer(content, None, None)?;
        self.tell(&Word::Layer(unpacked))?;
        Ok(Configured { platform: ours(), ..Configured::default() })
    }

    fn directory(&mut self, _dir: &Path) -> Result<Configured, Fault> {
        Err(Fault::ours("internal", "soon"))
    }

    /// One layer from its uncompressed bytes into a place of its own.
    fn layer(&mut self, content: impl Read + Send, expected: Option<&Digest>, blob: Option<BlobRef>) -> Result<Unpacked, Fault> {
        let (place, number) = self.place()?;
        let (tree, listing) = (place.join("tree"), place.join("listing"));
        files::dir(&tree, 0o755).map_err(|e| unwritable(&e))?;
        let tree = File::open(&tree).at("open", &tree).map_err(|e| unwritable(&e))?;
        let listing = File::create(&listing).at("create", &listing).map_err(|e| unwritable(&e))?;
        let bounds = Bounds { bytes: self.bytes, entries: self.entries, ..Bounds::default() };
        let tell = self.task.tell;
        let apply = |from: &mut dyn Read| layer::apply(Watched { from, fresh: 0, tell }, tree.as_fd(), listing, &bounds);
        let read = pipeline::through(content, |from| apply(from).map_err(Torn)).map_err(|torn| torn.0)?;
        let Applied { bytes, entries, opaque, implied, notices } = read.value;
        let diff_id = Digest::of_sha256(read.sha256);
        if let Some(expected) = expected.filter(|expected| **expected != diff_id) {
            return Err(Fault::caller(
                "archive:mismatch",
                format!("a layer's content is {diff_id}, and the configuration says {expected}"),
            )
            .at("source")
            .hint("copy or download the image again"));
        }
        self.bytes = self.bytes.saturating_sub(bytes);
        self.entries = self.entries.saturating_sub(entries);
        let more = (notices.more > 0).then(|| format!("and {} more", notices.more));
        Ok(Unpacked {
            diff_id,
            place: Some(number),
            blob,
            bytes,
            entries,
            opaque: opaque.into_iter().collect(),
            implied: implied.into_iter().collect(),
            notices: notices.lines.into_iter().chain(more).collect(),
        })
    }

    fn place(&mut self) -> Result<(PathBuf, u32), Fault> {
        self.count += 1;
        let place = self.task.bench.join(self.count.to_string());
        files::dir(&place, 0o700).map_err(|e| unwritable(&e))?;
        Ok((place, self.count))
    }
}

/// The platform of an image that does not say its own.
pub fn ours() -> String {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!("linux/{architecture}")
}

fn unwritable(e: &OsError) -> Fault {
    Fault::host("archive:unwritable", e.to_string()).at("store").hint("runcell doctor tells how much space is left")
}

/// A fault on its way through a reader of errors.
struct Torn(Fault);

impl From<io::Error> for Torn {
    fn from(e: io::Error) -> Self {
        Self(match e.downcast::<Fault>() {
            Ok(fault) => fault,
            Err(e) => Fault::caller("archive:unreadable", e.to_string()).at("source"),
        })
    }
}

/// A reader that tells how far it has come.
struct Watched<'a> {
    from: &'a mut dyn Read,
    /// Since the last word.
    fresh: u64,
    tell: &'a dyn Fn(&Word) -> io::Result<()>,
}

impl Read for Watched<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = self.from.read(into)?;
        self.fresh += n as u64;
        if self.fresh >= PROGRESS_STEP {
            (self.tell)(&Word::Progress(self.fresh))?;
            self.fresh = 0;
        }
        Ok(n)
    }
}
