//! Brings an image into the store. A confined child reads the foreign archive and unpacks it on a bench; what it says of that is
//! put on the shelves here. Layers first, then the image, then its name: each appears whole, and a crash leaves a bench that gc
//! sweeps and at most layers that nobody has yet.

use super::foreign::{self, Configured, Unpacked, Word};
use super::unpack::{self, Source, Task};
use super::{faults, flatten, image, room};
use crate::archive::listing;
use crate::model::fault::Fault;
use crate::model::image::{Defaults, Image, Layer};
use crate::model::job::User;
use crate::model::paths::GuestPath;
use crate::model::policy::Import;
use crate::model::reference::{Digest, ImageName};
use crate::os::error::At;
use crate::os::process::{End, Process};
use crate::os::{clock, confine, files, mount, sys};
use crate::rules::{accounts, configuration};
use crate::store::bench::Bench;
use crate::store::depot::Depot;
use crate::store::layers::{self, Fresh};
use crate::store::merged::Merged;
use crate::store::{images, names};
use serde::Serialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::Path;

/// The largest passwd or group file that is looked into.
const ACCOUNTS_MOST: u64 = 1 << 20;

/// How long the child may take to end once it has said its last word.
const END_NS: u64 = 10_000_000_000;

/// What is to be brought in, and how.
pub struct Request<'a> {
    pub depot: &'a Depot,
    pub bounds: Import,
    pub source: Source<'a>,
    pub name: Option<ImageName>,
    /// `os/arch` or `os/arch/variant`; by default ours.
    pub platform: Option<String>,
    /// Which image of an archive with several, by the name that it has there.
    pub pick: Option<String>,
    pub labels: BTreeMap<String, String>,
    /// Told how many bytes of layers have been read.
    pub progress: &'a mut dyn FnMut(u64),
}

/// An image that is in the store now.
#[derive(Debug, Serialize)]
pub struct Imported {
    pub digest: Digest,
    pub name: Option<ImageName>,
    /// What the archive calls it; not taken over, as a stranger's archive must not rename one's own images.
    pub archive_names: Vec<String>,
    pub layers: usize,
    /// Of those, how many were there before.
    pub layers_known: usize,
    pub bytes: u64,
    /// What was left out, such as devices.
    pub notices: Vec<String>,
}

/// Brings an image in.
///
/// # Errors
/// exit 2 where the archive is no good, exit 3 where the disk is low or the policy bounds it, exit 4 for what is ours. Nothing is
/// visible then.
pub fn import(request: Request<'_>) -> Result<Imported, Fault> {
    let os = |e| faults::ours(&e);
    let _shared = image::share(request.depot)?;
    room::in_store(request.depot, request.bounds)?;
    let bench = Bench::new(request.depot).map_err(os)?;
    let mut arrival = Arrival { request, bench: &bench, layers: Vec::new(), known: 0, notices: Vec::new(), configured: None };
    arrival.listen()?;
    arrival.shelve()
}

struct Arrival<'a, 'b> {
    request: Request<'a>,
    bench: &'b Bench,
    layers: Vec<Layer>,
    known: usize,
    notices: Vec<String>,
    configured: Option<Configured>,
}

impl Arrival<'_, '_> {
    /// Has the child read, and takes its words. Each layer goes to its shelf as it is done.
    fn listen(&mut self) -> Result<(), Fault> {
        let ours = |e: std::io::Error| Fault::ours("import:failed", format!("the unpacking process cannot be run: {e}"));
        let (from, to) = std::io::pipe().map_err(ours)?;
        let child = match sys::fork().map_err(ours)? {
            sys::Fork::Child => {
                drop(from);
                let tell = |word: &Word| foreign::tell(&to, word);
                if let Err(fault) = self.unpack(&tell) {
                    let _ = tell(&Word::Refused(fault.into()));
                }
                sys::exit_now(0)
            }
            sys::Fork::Parent(pid) => Process::hold(pid).map_err(ours)?,
        };
        drop(to);
        let heard = self.take_words(&mut BufReader::new(from));
        if heard.is_err() {
            child.kill();
        }
        // It has closed its end of the pipe, or been killed.
        let end = child.wait(clock::now_ns() + END_NS).map_err(ours)?;
        heard?;
        match (end, &self.configured) {
            (Some(End::Well), Some(_)) => Ok(()),
            _ => Err(Fault::ours("import:failed", "the unpacking process ended before it was done")
                .hint("out of memory, or killed: see dmesg")),
        }
    }

    /// The child's whole life.
    fn unpack(&self, tell: unpack::Tell<'_>) -> Result<(), Fault> {
        let source = match self.request.source {
            Source::Directory(dir) => Some(dir),
            Source::File(_) => None,
        };
        confine::unpacker(source, self.bench.path())
            .map_err(|e| Fault::ours("import:failed", format!("the unpacking process cannot confine itself: {e}")))?;
        unpack::unpack(&Task {
            source: &self.request.source,
            depot: self.request.depot,
            bench: self.bench.path(),
            bounds: self.request.bounds,
            platform: self.request.platform.as_deref(),
            pick: self.request.pick.as_deref(),
            tell,
        })
    }

    fn take_words(&mut self, from: &mut BufReader<std::io::PipeReader>) -> Result<(), Fault> {
        let broken = |e: std::io::Error| Fault::ours("import:failed", format!("the unpacking process makes no sense: {e}"));
        while let Some(word) = foreign::hear(&mut *from).map_err(broken)? {
            match word {
                Word::Progress(bytes) => (self.request.progress)(bytes),
                Word::Layer(layer) if self.layers.len() < self.request.bounds.layers as usize => self.layer(layer)?,
                Word::Layer(_) => {
                    return Err(Fault::caller("archive:too_large", "the image has too many layers")
                        .at("source")
                        .hint(format!("at most {} by the policy (import.layers)", self.request.bounds.layers)));
                }
                Word::Configured(configured) => self.configured = Some(*configured),
                Word::Refused(refusal) => return Err(refusal.fault()),
            }
        }
        Ok(())
    }

    fn layer(&mut self, unpacked: Unpacked) -> Result<(), Fault> {
        let os = |e| faults::ours(&e);
        let depot = self.request.depot;
        let Unpacked { diff_id, place, blob, bytes, entries, opaque, implied, notices } = unpacked;
        self.notices.extend(notices);
        match place {
            None => self.known += 1,
            Some(n) => {
                let place = self.bench.path().join(n.to_string());
                let [tree, listing, archive] = ["tree", "listing", "blob"].map(|name| place.join(name));
                let layer = Layer { diff_id: diff_id.clone(), blob, bytes, entries };
                let kept = layer.blob.is_some().then_some(&*archive);
                self.lend(&place, &implied)?;
                layers::put(depot, &Fresh { layer: &layer, tree: &tree, listing: &listing, blob: kept, opaque: &opaque })
                    .map_err(os)?;
                // Another hand may have been faster; what is left of ours goes now rather than with the bench.
                files::remove_tree(&place).map_err(os)?;
                room::in_store(depot, self.request.bounds)?;
            }
        }
        let there = layers::get(depot, &diff_id).map_err(os)?;
        self.layers.push(there.ok_or_else(|| Fault::ours("import:failed", format!("the layer {diff_id} is not there")))?);
        Ok(())
    }

    /// Directories that an archive only names on the way to others get the owner and mode that lower layers say, on the bench
    /// and in its listing.
    fn lend(&self, place: &Path, implied: &[Vec<u8>]) -> Result<(), Fault> {
        let os = |e| faults::ours(&e);
        let below = self.merged();
        let tree = place.join("tree");
        let root = File::open(&tree).at("open", &tree).map_err(os)?;
        let mut lent = BTreeMap::new();
        for path in implied {
            let name = Path::new(std::ffi::OsStr::from_bytes(path));
            let Some(meta) = name.to_str().and_then(|p| below.directory(&format!("/{p}"))) else { continue };
            let dir = mount::beneath(root.as_fd(), name).map_err(os)?;
            fchown(&dir, Some(meta.uid()), Some(meta.gid()))
                .and_then(|()| dir.set_permissions(meta.permissions()))
                .at("give the lower layer's attributes to", name)
                .map_err(os)?;
            lent.insert(path.clone(), (meta.uid(), meta.gid(), meta.mode() & 0o7777));
        }
        if lent.is_empty() {
            return Ok(());
        }
        let (old, new) = (place.join("listing"), place.join("listing.lent"));
        let corrected = listing::read(File::open(&old).at("open", &old).map_err(os)?).map(|item| {
            item.map(|mut item| {
                if let Some((uid, gid, mode)) = lent.get(&item.path) {
                    (item.attributes.uid, item.attributes.gid, item.attributes.mode) = (*uid, *gid, *mode);
                }
                item
            })
        });
        listing::write(corrected, File::create(&new).at("create", &new).map_err(os)?)?;
        std::fs::rename(&new, &old).at("rename into place", &old).map_err(os)
    }

    fn merged(&self) -> Merged {
        Merged::new(self.layers.iter().rev().map(|layer| self.request.depot.tree(&layer.diff_id)).collect())
    }

    fn shelve(mut self) -> Result<Imported, Fault> {
        let os = |e| faults::ours(&e);
        let configured = self.configured.take().unwrap_or_default();
        let document = match configured.document.is_empty() {
            true => bare(&self.layers, &configured.platform, &self.request.labels),
            false => configured.document.clone(),
        };
        let digest = Digest::of_sha256(Sha256::digest(&document).into());
        let user = configured.user.as_deref().filter(|user| !user.is_empty()).map(|user| self.user(user)).transpose()?;
        let cwd = configured.cwd.clone().filter(|cwd| !cwd.is_empty()).map(GuestPath::try_from).transpose();
        let cwd = cwd.map_err(|why| unusable("WorkingDir", why))?;
        let everytime = configuration::everytime(&configured.labels).map_err(|why| unusable("Labels", why))?;
        let flat = flatten::flatten(self.request.depot, &self.layers)?;
        let image = Image {
            digest: digest.clone(),
            layers: self.layers,
            flat,
            defaults: Defaults { argv: configured.argv, env: configured.env, cwd, user, everytime },
            platform: configured.platform,
            since_ms: clock::wall_millis(),
            labels: configured.labels.into_iter().chain(self.request.labels).collect(),
        };
        let depot = self.request.depot;
        images::put(depot, &image, &document).map_err(os)?;
        if let Some(name) = &self.request.name {
            names::point(depot, name, &digest).map_err(os)?;
        }
        Ok(Imported {
            digest,
            name: self.request.name,
            archive_names: configured.names,
            layers: image.layers.len(),
            layers_known: self.known,
            bytes: image.layers.iter().map(|layer| layer.bytes).sum(),
            notices: self.notices,
        })
    }

    fn user(&self, user: &str) -> Result<User, Fault> {
        let merged = self.merged();
        let file = |path| String::from_utf8_lossy(&merged.read(path, ACCOUNTS_MOST).unwrap_or_default()).into_owned();
        accounts::look_up(user, &file("/etc/passwd"), &file("/etc/group")).map_err(|why| unusable("User", why))
    }
}

fn unusable(what: &str, why: String) -> Fault {
    Fault::caller("image:unusable", format!("the image's {what} cannot be used: {why}"))
        .at("source")
        .hint("repair the image's configuration")
}

/// The configuration of a root filesystem that came without one: nothing but its layers, so that the same files give the same
/// digest.
fn bare(layers: &[Layer], platform: &str, labels: &BTreeMap<String, String>) -> Vec<u8> {
    let (os, architecture) = platform.split_once('/').unwrap_or(("linux", platform));
    let diff_ids: Vec<&Digest> = layers.iter().map(|layer| &layer.diff_id).collect();
    let document = json!({
        "architecture": architecture,
        "os": os,
        "config": {"Labels": labels},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    document.to_string().into_bytes()
}
