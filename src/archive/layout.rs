//! Images as tools hand them over: an OCI image layout in a directory or a tar archive, or docker-archive (`docker save`).

use super::documents::{Config, DOCUMENT_MOST, Descriptor, Index, Manifest, Saved, blob_name, fetch, parse};
use super::files::Files;
use super::platform::Platform;
use super::refusal::{malformed, mismatch, reading, too_large, unsupported};
use super::verified::{Tallied, Verified};
use crate::model::fault::Fault;
use crate::model::reference::Digest;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;

const INDEX: &str = "index.json";
const SAVED: &str = "manifest.json";
/// Indexes within indexes.
const NESTED_MOST: usize = 4;
/// Images in one layout.
const IMAGES_MOST: usize = 256;
/// Layers of an image; overlayfs takes 500.
const LAYERS_MOST: usize = 500;

const NAME: &str = "org.opencontainers.image.ref.name";
const CONTAINERD_NAME: &str = "io.containerd.image.name";
/// What buildkit puts beside an image to say something about it.
const ATTESTS: &str = "vnd.docker.reference.type";

const INDEXES: &[&str] =
    &["application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"];
const MANIFESTS: &[&str] =
    &["application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"];
const CONFIGS: &[&str] = &["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];
const LAYERS: &[&str] = &[
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.oci.image.layer.v1.tar+zstd",
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd",
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
];

/// A layout, opened.
pub struct Layout {
    files: Files,
    images: Vec<Candidate>,
}

/// One image of a layout.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// As the layout calls it: full names, or tags alone. May be none.
    pub names: Vec<String>,
    pub platform: Platform,
    /// Of its manifest, or of its configuration where there is no manifest (docker-archive).
    pub digest: Digest,
    source: Origin,
}

#[derive(Clone, Debug)]
enum Origin {
    Manifest(Descriptor),
    Saved(Saved),
}

/// An image with its configuration, and where its layers are.
#[derive(Debug)]
pub struct Contents {
    pub names: Vec<String>,
    /// The configuration document as it is.
    pub config_bytes: Vec<u8>,
    /// Of `config_bytes`: the image's identity.
    pub digest: Digest,
    pub config: Config,
    /// Lowest first.
    pub layers: Vec<LayerSource>,
}

/// Where a layer is.
#[derive(Clone, Debug)]
pub struct LayerSource {
    pub diff_id: Digest,
    /// As the layout names it; docker-archive does not.
    pub media_type: Option<String>,
    /// Of the bytes as they are, in the layout's own words; docker-archive has none.
    pub digest: Option<Digest>,
    /// Of the bytes as they are.
    pub size: u64,
    file: String,
}

impl Layout {
    /// A layout in a directory; `None` if the directory is none.
    ///
    /// # Errors
    /// as `open_archive`.
    pub fn open_directory(dir: OwnedFd) -> Result<Option<Self>, Fault> {
        Self::recognise(Files::Directory(dir))
    }

    /// A layout, or a docker-archive, in an uncompressed tar archive; `None` if it has the files of neither.
    ///
    /// # Errors
    /// `archive:malformed`, `archive:unsupported`, `archive:mismatch`, `archive:too_large`, `archive:unreadable`.
    pub fn open_archive(file: File) -> Result<Option<Self>, Fault> {
        Files::of_archive(file)?.map_or(Ok(None), Self::recognise)
    }

    /// Newer `docker save` writes both forms into one archive; the one with digests is better.
    fn recognise(files: Files) -> Result<Option<Self>, Fault> {
        let mut images = Vec::new();
        if files.has(INDEX) && files.has("oci-layout") {
            let index: Index = parse(&files.document(INDEX, DOCUMENT_MOST)?, INDEX)?;
            collect(&files, index, &[], NESTED_MOST, &mut images)?;
        } else if files.has(SAVED) {
            let all: Vec<Saved> = parse(&files.document(SAVED, DOCUMENT_MOST)?, SAVED)?;
            for saved in all.into_iter().take(IMAGES_MOST) {
                let (bytes, digest) = saved_config(&files, &saved)?;
                let platform = Config::parse(&bytes)?.platform;
                images.push(Candidate {
                    names: saved.repo_tags.clone().unwrap_or_default(),
                    platform,
                    digest,
                    source: Origin::Saved(saved),
                });
            }
        } else {
            return Ok(None);
        }
        Ok(Some(Self { files, images }))
    }

    /// All images that it has, in its order.
    pub fn images(&self) -> &[Candidate] {
        &self.images
    }

    /// The one image for a platform, and of a name if one is given.
    ///
    /// # Errors
    /// `archive:unsupported` if there is none, or more than one: the message has what there is.
    pub fn choose(&self, platform: &Platform, name: Option<&str>) -> Result<&Candidate, Fault> {
        let named: Vec<&Candidate> =
            self.images.iter().filter(|c| name.is_none_or(|n| c.names.iter().any(|has| has == n))).collect();
        let fitting: Vec<&Candidate> = named.iter().copied().filter(|c| platform.takes(&c.platform)).collect();
        // Of several variants, that which the bare architecture means.
        let usual: Vec<&Candidate> = fitting.iter().copied().filter(|c| c.platform.is_usual()).collect();
        let best = if usual.is_empty() { fitting } else { usual };
        let different: BTreeSet<&Digest> = best.iter().map(|c| &c.digest).collect();
        let there_is = |from: &[&Candidate]| {
            let words: Vec<String> = from.iter().take(20).map(|c| format!("{} ({})", c.names.join(", "), c.platform)).collect();
            words.join("; ")
        };
        match (best.first(), name) {
            (Some(one), _) if different.len() == 1 => Ok(one),
            (Some(_), _) => {
                Err(unsupported(format!("the layout has several images: {}", there_is(&best))).hint("choose one by name"))
            }
            (None, Some(name)) if named.is_empty() => {
                let all: Vec<&Candidate> = self.images.iter().collect();
                Err(unsupported(format!("the layout has no image {name:?}; it has: {}", there_is(&all))))
            }
            (None, _) => Err(unsupported(format!("the layout has no image for {platform}; it has: {}", there_is(&named)))
                .hint("choose another platform, if this machine can run it")),
        }
    }

    /// An image's configuration and layers.
    ///
    /// # Errors
    /// `archive:malformed`, `archive:mismatch`, `archive:unsupported`, `archive:too_large`, `archive:unreadable`.
    pub fn contents(&self, image: &Candidate) -> Result<Contents, Fault> {
        let (config_bytes, digest, layers) = match &image.source {
            Origin::Manifest(descriptor) => {
                let manifest = manifest(&self.files, descriptor)?;
                (fetch(&self.files, &manifest.config)?, manifest.config.digest.clone(), self.described(manifest.layers)?)
            }
            Origin::Saved(saved) => {
                let (bytes, digest) = saved_config(&self.files, saved)?;
                let files = saved.layers.iter().flatten();
                (
                    bytes,
                    digest,
                    files.map(|file| Ok((file.clone(), self.files.open(file)?.size(), None))).collect::<Result<_, Fault>>()?,
                )
            }
        };
        let config = Config::parse(&config_bytes)?;
        if config.diff_ids.len() != layers.len() {
            let (layers, ids) = (layers.len(), config.diff_ids.len());
            return Err(malformed(format!("the image has {layers} layers, and its configuration names {ids}")));
        }
        if layers.len() > LAYERS_MOST {
            return Err(too_large(format!("the image has more than {LAYERS_MOST} layers")).hint("squash it"));
        }
        let layers = layers.into_iter().zip(&config.diff_ids).map(|((file, size, descriptor), diff_id)| LayerSource {
            diff_id: diff_id.clone(),
            media_type: descriptor.as_ref().map(|d: &Descriptor| d.media_type.clone()),
            digest: descriptor.map(|d| d.digest),
            size,
            file,
        });
        Ok(Contents { names: image.names.clone(), layers: layers.collect(), config_bytes, digest, config })
    }

    fn described(&self, layers: Vec<Descriptor>) -> Result<Vec<(String, u64, Option<Descriptor>)>, Fault> {
        let checked = layers.into_iter().map(|layer| match LAYERS.contains(&&layer.media_type[..]) {
            true => Ok((blob_name(&layer.digest), layer.size, Some(layer))),
            false => Err(unsupported(format!("a layer of the image is of the type {:?}", layer.media_type))),
        });
        checked.collect()
    }

    /// A layer's bytes as they are. Where the layout has digests, what is read to its end is what was promised, or reading fails.
    ///
    /// # Errors
    /// as `contents`.
    pub fn layer(&self, layer: &LayerSource) -> Result<Box<dyn Read + Send>, Fault> {
        let piece = self.files.open(&layer.file)?;
        match &layer.digest {
            Some(digest) => Ok(Box::new(Verified::new(piece, digest.clone(), layer.size))),
            None => Ok(Box::new(piece)),
        }
    }
}

/// The images of an index and of those within it. An inner image has the names of the index that it is in, if none of its own.
fn collect(files: &Files, index: Index, names: &[String], nested: usize, images: &mut Vec<Candidate>) -> Result<(), Fault> {
    for descriptor in index.manifests {
        let annotations = descriptor.annotations.clone().unwrap_or_default();
        if annotations.contains_key(ATTESTS) {
            continue;
        }
        let own: Vec<String> = [CONTAINERD_NAME, NAME].iter().filter_map(|key| annotations.get(*key).cloned()).collect();
        let names = if own.is_empty() { names.to_vec() } else { own };
        if INDEXES.contains(&&descriptor.media_type[..]) {
            let nested = nested.checked_sub(1).ok_or_else(|| too_large("the layout has too many indexes within indexes"))?;
            collect(files, parse(&fetch(files, &descriptor)?, "an index of the layout")?, &names, nested, images)?;
        } else if MANIFESTS.contains(&&descriptor.media_type[..]) {
            if images.len() >= IMAGES_MOST {
                return Err(too_large(format!("the layout has more than {IMAGES_MOST} images")));
            }
            let platform = match descriptor.platform.clone() {
                Some(words) => words.into(),
                None => Config::parse(&fetch(files, &manifest(files, &descriptor)?.config)?)?.platform,
            };
            images.push(Candidate { names, platform, digest: descriptor.digest.clone(), source: Origin::Manifest(descriptor) });
        }
    }
    Ok(())
}

fn manifest(files: &Files, descriptor: &Descriptor) -> Result<Manifest, Fault> {
    let manifest: Manifest = parse(&fetch(files, descriptor)?, "the image's manifest")?;
    match CONFIGS.contains(&&manifest.config.media_type[..]) {
        true => Ok(manifest),
        false => Err(unsupported(format!("the manifest is of something else than an image: {:?}", manifest.config.media_type))),
    }
}

/// The configuration that docker-archive names by its digest.
fn saved_config(files: &Files, saved: &Saved) -> Result<(Vec<u8>, Digest), Fault> {
    let bytes = files.document(&saved.config, DOCUMENT_MOST)?;
    let mut tallied = Tallied::new(&bytes[..]);
    io::copy(&mut tallied, &mut io::sink()).map_err(reading)?;
    let digest = tallied.sum().0;
    let named = saved.config.rsplit('/').next().unwrap_or_default().trim_end_matches(".json");
    match Digest::try_from(format!("sha256:{named}")) {
        Ok(promised) if promised != digest => Err(mismatch(format!("configuration {named} has other content: {digest}"))),
        _ => Ok((bytes, digest)),
    }
}
