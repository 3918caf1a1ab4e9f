//! Where images live: the paths of the store, and who may change it.
//!
//! ```text
//! layers/<24 hex>        a layer's tree, in overlayfs layer format, with the image's own ids; never written again
//! listings/<64 hex>      what that tree held when it was made, for `image verify`
//! blobs/<64 hex>         archives as they came, by their own digest
//! images/<64 hex>/       image.json, config.json, and `used`, whose mtime is the last use; leased shared by each run
//! names/<64 hex>         a name and its digest, by the hash of the name
//! stages/<64 hex>        the layer that a stage of a recipe gave, by the stage's key
//! bench/<ULID>/          work in progress, leased by whoever does it
//! lock                   shared by those who add, exclusive for those who take away
//! ```

use crate::model::reference::{Digest, ImageName};
use crate::os::error::OsResult;
use crate::os::files;
use crate::os::lease::{self, Lease};
use crate::os::{clock, watch};
use sha2::{Digest as _, Sha256};
use std::path::{Path, PathBuf};

/// So many digits of a diff id name its tree: 96 bits, and 127 of them are short enough for one mount's options.
const TREE_DIGITS: usize = 24;

/// The directory of the image store.
#[derive(Clone, Debug)]
pub struct Depot {
    root: PathBuf,
}

impl Depot {
    /// The place as it is; nothing is made, and it need not exist.
    pub fn at(root: PathBuf) -> Self {
        Self { root }
    }

    /// Makes what is missing; only root may enter, as layers hold set-uid files of strangers.
    ///
    /// # Errors
    /// of mkdir.
    pub fn open(&self) -> OsResult<()> {
        let shelves = ["layers", "listings", "blobs", "images", "names", "stages", "bench"];
        if self.root.join("bench").exists() {
            return Ok(());
        }
        files::private_dir(&self.root)?;
        shelves.iter().try_for_each(|shelf| files::private_dir(&self.root.join(shelf)))
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn layers(&self) -> PathBuf {
        self.root.join("layers")
    }

    /// The name of a layer's tree among [`Depot::layers`].
    pub fn tree_name(diff_id: &Digest) -> &str {
        &diff_id.hex()[..TREE_DIGITS]
    }

    pub fn tree(&self, diff_id: &Digest) -> PathBuf {
        self.layers().join(Self::tree_name(diff_id))
    }

    pub fn listings(&self) -> PathBuf {
        self.root.join("listings")
    }

    pub fn listing(&self, diff_id: &Digest) -> PathBuf {
        self.listings().join(diff_id.hex())
    }

    pub fn blobs(&self) -> PathBuf {
        self.root.join("blobs")
    }

    pub fn blob(&self, digest: &Digest) -> PathBuf {
        self.blobs().join(digest.hex())
    }

    pub fn images(&self) -> PathBuf {
        self.root.join("images")
    }

    pub fn image(&self, digest: &Digest) -> PathBuf {
        self.images().join(digest.hex())
    }

    pub fn names(&self) -> PathBuf {
        self.root.join("names")
    }

    /// A name may be longer than a file's may.
    pub fn name(&self, name: &ImageName) -> PathBuf {
        let hash = Digest::of_sha256(Sha256::digest(name.as_str()).into());
        self.names().join(hash.hex())
    }

    pub fn stages(&self) -> PathBuf {
        self.root.join("stages")
    }

    pub fn bench(&self) -> PathBuf {
        self.root.join("bench")
    }

    /// Joins those who add to the store. While this is held nothing is taken away.
    ///
    /// # Errors
    /// of open and flock. `Ok(None)`: for all of `patience_ns` somebody was taking away.
    pub fn share(&self, patience_ns: u64) -> OsResult<Option<Lease>> {
        self.locked(patience_ns, lease::try_share_file)
    }

    /// Becomes the only one in the store, to take away.
    ///
    /// # Errors
    /// of open and flock. `Ok(None)`: for all of `patience_ns` somebody was adding.
    pub fn own(&self, patience_ns: u64) -> OsResult<Option<Lease>> {
        self.locked(patience_ns, lease::try_claim_file)
    }

    fn locked(&self, patience_ns: u64, lock: fn(&Path) -> OsResult<Option<Lease>>) -> OsResult<Option<Lease>> {
        self.open()?;
        let deadline = clock::now_ns().saturating_add(patience_ns);
        loop {
            match lock(&self.root.join("lock"))? {
                None if clock::now_ns() < deadline => drop(watch::any::<()>(&[], Some(clock::now_ns() + 10_000_000))),
                answer => return Ok(answer),
            }
        }
    }
}
