//! Whether an image is still what it was: its configuration, its kept archives, and every file of its trees.

use super::{faults, image};
use crate::archive::listing::{self, Difference};
use crate::model::fault::Fault;
use crate::model::image::Layer;
use crate::model::job::ImageRef;
use crate::model::reference::Digest;
use crate::os::error::{At, OsResult};
use crate::store::depot::Depot;
use crate::store::{images, layers};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

/// More differences than these are not told.
const TOLD_MOST: usize = 100;

#[derive(Debug, Serialize)]
pub struct Verified {
    pub digest: Digest,
    pub layers: usize,
    /// Things in all its trees.
    pub entries: u64,
    /// At most 100.
    pub differences: Vec<Changed>,
}

/// Something that is not as it was.
#[derive(Debug, Serialize)]
pub struct Changed {
    /// The layer, or none where it is the configuration.
    pub layer: Option<Digest>,
    /// Within the tree; bytes that are not UTF-8 are replaced.
    pub path: String,
    pub what: String,
}

/// Re-hashes all of an image.
///
/// # Errors
/// exit 2 where there is no such image, exit 4 where it cannot be read at all.
pub fn verify(depot: &Depot, reference: &ImageRef) -> Result<Verified, Fault> {
    let image = image::get(depot, reference)?;
    let os = |e| faults::ours(&e);
    let mut verified = Verified { digest: image.digest.clone(), layers: image.layers.len(), entries: 0, differences: Vec::new() };
    let config = images::config(depot, &image.digest).map_err(os)?;
    if Digest::of_sha256(Sha256::digest(&config).into()) != image.digest {
        verified.add(None, "config.json", "its bytes are not those of the image's digest");
    }
    for layer in image.kept() {
        verified.layer(depot, layer)?;
    }
    Ok(verified)
}

impl Verified {
    fn add(&mut self, layer: Option<&Digest>, path: &str, what: &str) {
        if self.differences.len() < TOLD_MOST {
            self.differences.push(Changed { layer: layer.cloned(), path: path.to_owned(), what: what.to_owned() });
        }
    }

    fn layer(&mut self, depot: &Depot, layer: &Layer) -> Result<(), Fault> {
        let os = |e| faults::ours(&e);
        let diff_id = &layer.diff_id;
        if layers::get(depot, diff_id).map_err(os)?.is_none() {
            self.add(Some(diff_id), "", "the layer is not in the store");
            return Ok(());
        }
        if let Some(blob) = &layer.blob {
            match hash(&depot.blob(&blob.digest)) {
                Ok(digest) if digest == blob.digest => {}
                Ok(_) => self.add(Some(diff_id), blob.digest.as_str(), "the kept archive's bytes have changed"),
                Err(e) => self.add(Some(diff_id), blob.digest.as_str(), &e.to_string()),
            }
        }
        let (tree, told) = (depot.tree(diff_id), depot.listing(diff_id));
        let tree = File::open(&tree).at("open", &tree).map_err(os)?;
        let told = File::open(&told).at("open", &told).map_err(os)?;
        let most = TOLD_MOST.saturating_sub(self.differences.len());
        let differences = listing::differences(listing::read(told), listing::scan(tree.as_fd()), most)?;
        for Difference { path, what } in differences {
            self.add(Some(diff_id), &String::from_utf8_lossy(&path), &what);
        }
        self.entries += layer.entries;
        Ok(())
    }
}

fn hash(path: &Path) -> OsResult<Digest> {
    let mut hash = Sha256::new();
    let mut file = File::open(path).at("open", path)?;
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match io::Read::read(&mut file, &mut buffer).at("read", path)? {
            0 => return Ok(Digest::of_sha256(hash.finalize().into())),
            n => hash.update(&buffer[..n]),
        }
    }
}
