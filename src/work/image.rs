//! What the store holds, looked at, named and taken away.

use super::prune;
use super::{faults, taken};
use crate::model::fault::Fault;
use crate::model::image::Image;
use crate::model::job::ImageRef;
use crate::model::reference::{Digest, ImageName};
use crate::rules::garbage::Wishes;
use crate::store::depot::Depot;
use crate::store::{images, katas, names};
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// How long those who take away from the store are waited for.
const PATIENCE_NS: u64 = 60_000_000_000;

/// One image among others.
#[derive(Debug, Serialize)]
pub struct Listed {
    pub digest: Digest,
    pub names: Vec<ImageName>,
    pub platform: String,
    pub layers: usize,
    /// Sizes of its files, in bytes; layers may be shared with other images.
    pub bytes: u64,
    /// Milliseconds since 1970.
    pub since_ms: u64,
    pub used_ms: u64,
    pub labels: BTreeMap<String, String>,
}

/// All of one image.
#[derive(Debug, Serialize)]
pub struct Inspected {
    pub names: Vec<ImageName>,
    pub used_ms: u64,
    #[serde(flatten)]
    pub image: Image,
    /// The configuration document as it came.
    pub config: Value,
}

/// What became of a name, or of an image.
#[derive(Debug, Serialize)]
pub struct Removed {
    pub names: Vec<ImageName>,
    /// The image itself, if its last name went.
    pub image: Option<Digest>,
    pub layers: Vec<Digest>,
    pub freed_bytes: u64,
}

fn names_of(all: &BTreeMap<ImageName, Digest>, digest: &Digest) -> Vec<ImageName> {
    all.iter().filter(|(_, d)| *d == digest).map(|(name, _)| name.clone()).collect()
}

/// All images, the last used first.
///
/// # Errors
/// exit 4 where the store cannot be read.
pub fn list(depot: &Depot) -> Result<Vec<Listed>, Fault> {
    let pointers = names::all(depot);
    let listed = |image: Image| Listed {
        names: names_of(&pointers, &image.digest),
        platform: image.platform.clone(),
        layers: image.layers.len(),
        bytes: image.layers.iter().map(|layer| layer.bytes).sum(),
        since_ms: image.since_ms,
        used_ms: images::used_ms(depot, &image),
        labels: image.labels,
        digest: image.digest,
    };
    let mut all: Vec<Listed> = images::all(depot).map_err(|e| faults::ours(&e))?.into_iter().map(listed).collect();
    all.sort_by(|a, b| b.used_ms.cmp(&a.used_ms).then(a.digest.cmp(&b.digest)));
    Ok(all)
}

/// One image with its configuration.
///
/// # Errors
/// exit 2 where there is none of that name.
pub fn inspect(depot: &Depot, reference: &ImageRef) -> Result<Inspected, Fault> {
    let image = get(depot, reference)?;
    let config = images::config(depot, &image.digest).map_err(|e| faults::ours(&e))?;
    Ok(Inspected {
        names: names_of(&names::all(depot), &image.digest),
        used_ms: images::used_ms(depot, &image),
        config: serde_json::from_slice(&config).unwrap_or_default(),
        image,
    })
}

/// The image that a reference means.
///
/// # Errors
/// exit 2 where there is none.
pub fn get(depot: &Depot, reference: &ImageRef) -> Result<Image, Fault> {
    let digest = taken::find(depot, reference)?;
    images::get(depot, &digest).map_err(|e| faults::ours(&e))?.ok_or_else(|| taken::missing(reference))
}

/// Has a name point to an image, which may have others.
///
/// # Errors
/// exit 2 where there is no such image.
pub fn tag(depot: &Depot, reference: &ImageRef, name: &ImageName) -> Result<Digest, Fault> {
    let _shared = share(depot)?;
    let digest = get(depot, reference)?.digest;
    names::point(depot, name, &digest).map_err(|e| faults::ours(&e))?;
    Ok(digest)
}

/// Joins those who add to the store.
///
/// # Errors
/// exit 3 where somebody takes away from it for longer than a minute.
pub fn share(depot: &Depot) -> Result<crate::os::lease::Lease, Fault> {
    depot.share(PATIENCE_NS).map_err(|e| faults::ours(&e))?.ok_or_else(|| {
        Fault::host("store:busy", "the image store is being cleaned for more than a minute")
            .at("store")
            .hint("look for a runcell gc that hangs, and try again")
    })
}

/// Takes a name away, and with its last one the image; by digest, the image and all its names.
///
/// # Errors
/// exit 2 where there is none, exit 3 where a run has it in use.
pub fn remove(depot: &Depot, reference: &ImageRef) -> Result<Removed, Fault> {
    let os = |e| faults::ours(&e);
    let digest = taken::find(depot, reference)?;
    let all = names_of(&names::all(depot), &digest);
    let going = match reference {
        ImageRef::Named(name) => vec![name.clone()],
        _ => all.clone(),
    };
    let last = going.len() == all.len();
    if last && katas::images(depot).map_err(os)?.contains(&digest) {
        return Err(Fault::host("image:in_use", format!("a kata needs the image {digest}"))
            .at("image")
            .hint("runcell kata list shows which; runcell kata retire ends it"));
    }
    if last && !images::remove(depot, &digest).map_err(os)? {
        return Err(Fault::host("image:in_use", format!("a run uses the image {digest}"))
            .at("image")
            .hint("runcell list shows the runs; wait for them or stop them with runcell kill"));
    }
    going.iter().try_for_each(|name| names::remove(depot, name)).map_err(os)?;
    let pruned = if last { prune::prune(depot, Wishes::default(), false)? } else { Default::default() };
    Ok(Removed { names: going, image: last.then_some(digest), layers: pruned.layers, freed_bytes: pruned.freed_bytes })
}
