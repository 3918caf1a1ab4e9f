//! The confined process's work: reads a foreign source, unpacks its layers on the bench, and tells what it found.

use super::foreign::{Configured, Unpacked, Word};
use crate::archive::compression::{self, Compression};
use crate::archive::layer::Bounds;
use crate::archive::layout::{Contents, LayerSource, Layout};
use crate::archive::notices::Notices;
use crate::archive::platform::Platform;
use crate::archive::{unpack, writer};
use crate::model::fault::Fault;
use crate::model::image::BlobRef;
use crate::model::policy::Import;
use crate::model::reference::Digest;
use crate::os::error::{At, OsError};
use crate::os::files;
use crate::store::depot::Depot;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Words of progress come after each so many bytes.
const PROGRESS_STEP: u64 = 4 << 20;
/// A block of a tar archive; the first has a name that tells layouts from root filesystems.
const BLOCK: u64 = 512;

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
    pub tell: Tell<'a>,
}

/// Says a word; also from the thread that reads.
pub type Tell<'a> = &'a (dyn Fn(&Word) -> io::Result<()> + Sync);

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

    /// A layout, or else the tar archive of a root filesystem, in whatever compression.
    fn archive(&mut self, file: &File) -> Result<Configured, Fault> {
        let unreadable = |e: io::Error| Fault::host("archive:unreadable", format!("cannot read the archive: {e}")).at("source");
        let begin = || File::try_clone(file).and_then(|mut again| again.rewind().map(|()| again)).map_err(unreadable);
        let mut opened = compression::open(begin()?)?;
        let layout = match opened.compression {
            Compression::Plain => Layout::open_archive(begin()?)?,
            // Only what may be a layout is worth a copy that can be sought in.
            _ => match self.uncompressed(&mut opened.content)? {
                Some(copy) => Layout::open_archive(copy)?,
                None => None,
            },
        };
        match layout {
            Some(layout) => self.layout(&layout),
            None => self.root(begin()?),
        }
    }

    /// A copy without compression of an archive whose first name is one that layouts begin with.
    fn uncompressed(&self, content: &mut (impl Read + ?Sized)) -> Result<Option<File>, Fault> {
        let unreadable = |e: io::Error| match e.downcast::<Fault>() {
            Ok(fault) => fault,
            Err(e) => Fault::caller("archive:malformed", format!("the archive is corrupt: {e}")).at("source"),
        };
        let mut first = Vec::new();
        content.take(BLOCK).read_to_end(&mut first).map_err(unreadable)?;
        let name = first.split(|b| *b == 0).next().unwrap_or_default();
        let name = name.strip_prefix(b"./").unwrap_or(name);
        let hexadecimal = name.len() >= 64 && name[..64].iter().all(u8::is_ascii_hexdigit);
        let begins = ["blobs", "oci-layout", "index.json", "manifest.json", "repositories"];
        if !hexadecimal && !begins.iter().any(|begin| name.starts_with(begin.as_bytes())) {
            return Ok(None);
        }
        let place = self.task.bench.join("uncompressed");
        files::create(&place, b"", 0o600).map_err(|e| unwritable(&e))?;
        let mut copy = File::options().read(true).write(true).open(&place).at("open", &place).map_err(|e| unwritable(&e))?;
        copy.write_all(&first).at("write", &place).map_err(|e| unwritable(&e))?;
        let copied = io::copy(&mut content.take(self.bytes), &mut copy).map_err(unreadable)?;
        if copied >= self.bytes {
            return Err(too_large(self.task.bounds));
        }
        copy.rewind().at("rewind", &place).map_err(|e| unwritable(&e))?;
        Ok(Some(copy))
    }

    /// A layout's directory, or else a root filesystem.
    fn directory(&mut self, dir: &Path) -> Result<Configured, Fault> {
        let unreadable =
            |e: io::Error| Fault::caller("archive:unreadable", format!("cannot read {}: {e}", dir.display())).at("source");
        let open = || File::open(dir).map(OwnedFd::from).map_err(unreadable);
        if let Some(layout) = Layout::open_directory(open()?)? {
            return self.layout(&layout);
        }
        // A whole root filesystem as if it had come as an archive: one way in for all.
        let (from, to) = io::pipe().map_err(unreadable)?;
        let tree = open()?;
        std::thread::scope(|scope| {
            let writing = scope.spawn(move || writer::write(tree.as_fd(), writer::Form::Root, to));
            let unpacked = self.layer(from, None, None);
            let written = writing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            // What keeps the writer from writing tears the archive that the reader sees: the first is the cause.
            let (mut unpacked, written) = match (unpacked, written) {
                (Err(fault), Ok(_)) => return Err(fault),
                (_, Err(fault)) => return Err(fault.at("source")),
                (Ok(unpacked), Ok(written)) => (unpacked, written),
            };
            unpacked.notices.splice(0..0, lines(written.notices));
            unpacked.blob = None;
            self.tell(&Word::Layer(unpacked))?;
            Ok(Configured { platform: Platform::here().to_string(), ..Configured::default() })
        })
    }

    fn root(&mut self, file: File) -> Result<Configured, Fault> {
        let unpacked = self.layer(file, None, None)?;
        self.tell(&Word::Layer(unpacked))?;
        Ok(Configured { platform: Platform::here().to_string(), ..Configured::default() })
    }

    fn layout(&mut self, layout: &Layout) -> Result<Configured, Fault> {
        let wanted = match self.task.platform {
            Some(text) => Platform::parse(text).map_err(|why| Fault::caller("usage", why).at("platform"))?,
            None => Platform::here(),
        };
        let image = layout.choose(&wanted, self.task.pick)?;
        let contents = layout.contents(image)?;
        for source in &contents.layers {
            let unpacked = match self.task.depot.tree(&source.diff_id).exists() {
                true => known(source),
                false => self.layer(layout.layer(source)?, Some(&source.diff_id), Some(source))?,
            };
            self.tell(&Word::Layer(unpacked))?;
        }
        Ok(configured(contents))
    }

    /// One layer into a place of its own; of a layout's the archive is kept as well.
    fn layer(
        &mut self,
        blob: impl Read + Send,
        expected: Option<&Digest>,
        kept: Option<&LayerSource>,
    ) -> Result<Unpacked, Fault> {
        let (place, number) = self.place()?;
        let (tree, listing, archive) = (place.join("tree"), place.join("listing"), place.join("blob"));
        let create = |path: &Path| File::create(path).at("create", path).map_err(|e| unwritable(&e));
        files::dir(&tree, 0o755).map_err(|e| unwritable(&e))?;
        let tree = File::open(&tree).at("open", &tree).map_err(|e| unwritable(&e))?;
        let bounds = Bounds { bytes: self.bytes, entries: self.entries, ..Bounds::default() };
        let copy = kept.map(|_| create(&archive)).transpose()?;
        let source = Tee { from: blob, copy, fresh: 0, tell: self.task.tell };
        let done = unpack::unpack(source, expected, tree.as_fd(), create(&listing)?, &bounds)?;
        self.bytes = self.bytes.saturating_sub(done.applied.bytes);
        self.entries = self.entries.saturating_sub(done.applied.entries);
        let media_type = match done.compression {
            Compression::Plain => "application/vnd.oci.image.layer.v1.tar",
            Compression::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
            Compression::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
        };
        Ok(Unpacked {
            diff_id: done.diff_id,
            place: Some(number),
            blob: kept.map(|_| BlobRef { digest: done.blob, size: done.size, media_type: media_type.to_owned() }),
            bytes: done.applied.bytes,
            entries: done.applied.entries,
            opaque: done.applied.opaque.into_iter().collect(),
            implied: done.applied.implied.into_iter().collect(),
            notices: lines(done.applied.notices),
        })
    }

    fn place(&mut self) -> Result<(PathBuf, u32), Fault> {
        self.count += 1;
        let place = self.task.bench.join(self.count.to_string());
        files::dir(&place, 0o700).map_err(|e| unwritable(&e))?;
        Ok((place, self.count))
    }
}

fn known(source: &LayerSource) -> Unpacked {
    Unpacked {
        diff_id: source.diff_id.clone(),
        place: None,
        blob: None,
        bytes: 0,
        entries: 0,
        opaque: Vec::new(),
        implied: Vec::new(),
        notices: Vec::new(),
    }
}

fn lines(notices: Notices) -> Vec<String> {
    let more = (notices.more > 0).then(|| format!("and {} more", notices.more));
    notices.lines.into_iter().chain(more).collect()
}

fn configured(contents: Contents) -> Configured {
    let config = contents.config;
    Configured {
        document: contents.config_bytes,
        argv: config.entrypoint.into_iter().chain(config.cmd).collect(),
        env: config.env,
        cwd: Some(config.working_dir),
        user: Some(config.user),
        labels: config.labels,
        platform: config.platform.to_string(),
        names: contents.names,
    }
}

fn too_large(bounds: Import) -> Fault {
    Fault::caller("archive:too_large", format!("the archive is larger than {} when uncompressed", bounds.bytes))
        .at("source")
        .hint("the policy bounds it (import.bytes)")
}

fn unwritable(e: &OsError) -> Fault {
    Fault::host("archive:unwritable", e.to_string()).at("store").hint("runcell doctor tells how much space is left")
}

/// A reader that tells how far it has come, and keeps a copy of all that passes where one is wanted.
struct Tee<'a, R> {
    from: R,
    copy: Option<File>,
    /// Since the last word.
    fresh: u64,
    tell: Tell<'a>,
}

impl<R: Read> Read for Tee<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = self.from.read(into)?;
        if let Some(copy) = &mut self.copy {
            copy.write_all(&into[..n])?;
        }
        self.fresh += n as u64;
        if self.fresh >= PROGRESS_STEP {
            (self.tell)(&Word::Progress(self.fresh))?;
            self.fresh = 0;
        }
        Ok(n)
    }
}
