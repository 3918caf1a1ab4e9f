//! An image of the store, taken into use by one run: what it says about programs, and what lies in it.

use super::faults;
use crate::model::facts::ImageFacts;
use crate::model::fault::Fault;
use crate::model::image::Image;
use crate::model::job::{ImageRef, Job};
use crate::model::reference::Digest;
use crate::rules::rootfs;
use crate::store::depot::Depot;
use crate::store::images::{self, Found, Held};
use crate::store::merged::Merged;

/// Stays in the store as long as this lives.
#[derive(Debug)]
pub struct Taken {
    held: Grip,
    merged: Merged,
}

#[derive(Debug)]
enum Grip {
    Held(Box<Held>),
    /// Layers that are no image yet; whoever stacks them shares the store, so that they stay.
    Stack(Box<Image>),
}

/// Takes the image that a job names; `None` where that is none of the store's.
///
/// # Errors
/// exit 2 where there is no such image, exit 4 where the store cannot be read.
pub fn take(depot: &Depot, reference: Option<&ImageRef>) -> Result<Option<Taken>, Fault> {
    let Some(reference @ (ImageRef::Named(_) | ImageRef::Digest(_))) = reference else { return Ok(None) };
    let digest = find(depot, reference)?;
    let held = images::hold(depot, &digest).map_err(|e| faults::ours(&e))?.ok_or_else(|| missing(reference))?;
    let merged = merged(depot, &held.image);
    Ok(Some(Taken { held: Grip::Held(Box::new(held)), merged }))
}

/// Takes layers that are no image yet. The store must be shared as long as this lives.
pub fn stack(depot: &Depot, image: Image) -> Taken {
    let merged = merged(depot, &image);
    Taken { held: Grip::Stack(Box::new(image)), merged }
}

fn merged(depot: &Depot, image: &Image) -> Merged {
    Merged::new(image.stack().iter().rev().map(|layer| depot.tree(&layer.diff_id)).collect())
}

/// The digest that a reference means.
///
/// # Errors
/// exit 2 where there is none, or more than one.
pub fn find(depot: &Depot, reference: &ImageRef) -> Result<Digest, Fault> {
    match images::find(depot, reference).map_err(|e| faults::ours(&e))? {
        Found::One(digest) => Ok(digest),
        Found::None => Err(missing(reference)),
        Found::Ambiguous => {
            let name = String::from(reference.clone());
            Err(Fault::caller("image:ambiguous", format!("{name} is the beginning of several images' digests"))
                .at("image")
                .hint("give more digits; runcell image list shows them all"))
        }
    }
}

/// The fault of a job that names what is not there.
pub fn missing(reference: &ImageRef) -> Fault {
    let name = String::from(reference.clone());
    Fault::caller("image:!exists", format!("there is no image {name} in the store"))
        .at("image")
        .hint(format!("runcell image list shows what there is; runcell image import FILE --name {name} brings one in"))
}

impl Taken {
    pub fn image(&self) -> &Image {
        match &self.held {
            Grip::Held(held) => &held.image,
            Grip::Stack(image) => image,
        }
    }

    /// What a plan has to know.
    pub fn facts(&self, job: &Job) -> ImageFacts {
        let looked = rootfs::interesting(&job.mounts).into_iter();
        let mut layers: Vec<Digest> = Vec::new();
        for layer in self.image().stack().iter().rev().take(self.merged.shown()) {
            // Images may have one layer twice, mostly an empty one. All that the lower of the two could show or hide, the upper
            // shows or hides again; and overlayfs takes a directory only once.
            if !layers.contains(&layer.diff_id) {
                layers.push(layer.diff_id.clone());
            }
        }
        ImageFacts { layers, entries: looked.filter_map(|path| Some((path.clone(), self.merged.kind(&path)?))).collect() }
    }
}
