//! Makes a layer of a tree that lies finished on a bench.

use super::faults;
use crate::archive::listing;
use crate::archive::writer::{self, Form, Written};
use crate::model::fault::Fault;
use crate::model::image::Layer;
use crate::model::reference::Digest;
use crate::os::error::At;
use crate::store::depot::Depot;
use crate::store::layers::{self, Fresh};
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::Path;

/// Puts a tree in overlayfs layer format on the shelf; it is moved, not copied. `bench` takes what is told of it. The store must
/// be shared.
///
/// # Errors
/// exit 4 of reading or writing; the layer is not visible then.
pub fn commit(depot: &Depot, bench: &Path, tree: &Path) -> Result<Layer, Fault> {
    shelve(depot, bench, tree, false)
}

/// The same for a tree whose files are those of other layers: it occupies nothing.
///
/// # Errors
/// as of [`commit`].
pub fn shared(depot: &Depot, bench: &Path, tree: &Path) -> Result<Layer, Fault> {
    shelve(depot, bench, tree, true)
}

fn shelve(depot: &Depot, bench: &Path, tree: &Path, shared: bool) -> Result<Layer, Fault> {
    let os = |e| faults::ours(&e);
    let root = File::open(tree).at("open", tree).map_err(os)?;
    let mut archive = Hashed(Sha256::new());
    let Written { bytes, entries, .. } = writer::write(root.as_fd(), Form::Layer, &mut archive)?;
    let place = bench.join("listing");
    let file = File::create(&place).at("create", &place).map_err(os)?;
    let listed = listing::write(listing::scan(root.as_fd()), file)?;
    // The root itself stands in every layer and says nothing.
    let entries = entries.min(listed.saturating_sub(1));
    let bytes = if shared { 0 } else { bytes };
    let layer = Layer { diff_id: Digest::of_sha256(archive.0.finalize().into()), blob: None, bytes, entries };
    layers::put(depot, &Fresh { layer: &layer, tree, listing: &place, blob: None, opaque: &[] }).map_err(os)?;
    Ok(layer)
}

/// An archive of which only the digest is wanted: what the layer is called wherever it goes.
struct Hashed(Sha256);

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
