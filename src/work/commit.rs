//! Makes a layer of a tree that lies finished on a bench.

use super::faults;
use crate::archive::listing::{self, Content};
use crate::model::fault::Fault;
use crate::model::image::Layer;
use crate::model::reference::Digest;
use crate::os::error::At;
use crate::store::depot::Depot;
use crate::store::layers::{self, Fresh};
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::fd::AsFd;
use std::path::Path;

/// Puts a tree in overlayfs layer format on the shelf; it is moved, not copied. `bench` takes what is told of it. The store must
/// be shared.
///
/// # Errors
/// exit 4 of reading or writing; the layer is not visible then.
pub fn commit(depot: &Depot, bench: &Path, tree: &Path) -> Result<Layer, Fault> {
    let os = |e| faults::ours(&e);
    let root = File::open(tree).at("open", tree).map_err(os)?;
    let place = bench.join("listing");
    let file = File::create(&place).at("create", &place).map_err(os)?;
    let mut out = BufWriter::new(Hashed { file, hash: Sha256::new() });
    let (mut bytes, mut entries) = (0, 0);
    let counted = listing::scan(root.as_fd()).inspect(|item| {
        if let Ok(item) = item {
            // The root itself is no entry: it is there in every layer.
            entries += u64::from(!item.path.is_empty());
            bytes += if let Content::File { size, .. } = item.content { size } else { 0 };
        }
    });
    listing::write(counted, &mut out)?;
    let told = out.into_inner().map_err(|e| e.into_error()).at("write", &place).map_err(os)?;
    let diff_id = Digest::of_sha256(told.hash.finalize().into());
    let layer = Layer { diff_id, blob: None, bytes, entries };
    layers::put(depot, &Fresh { layer: &layer, tree, listing: &place, blob: None, opaque: &[] }).map_err(os)?;
    Ok(layer)
}

/// A file that is hashed as it is written.
struct Hashed {
    file: File,
    hash: Sha256,
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}
