//! `image export`: an image as an OCI image layout, which skopeo, umoci and podman take (OCI image-spec, image-layout.md).

use super::{faults, image};
use crate::archive::writer;
use crate::model::fault::Fault;
use crate::model::image::{BlobRef, Image, Layer};
use crate::model::job::ImageRef;
use crate::model::reference::Digest;
use crate::os::error::At;
use crate::os::files;
use crate::store::depot::Depot;
use crate::store::images;
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

#[derive(Debug, Serialize)]
pub struct Exported {
    pub layout: PathBuf,
    /// Of its configuration. Another than the image's where a layer's archive was not kept and its original cannot be had again
    /// to the byte: a root filesystem that came as a tar archive.
    pub digest: Digest,
    pub layers: usize,
    /// What no archive can say.
    pub notices: Vec<String>,
}

/// Writes an image as a layout into a new directory, under `tag`.
///
/// # Errors
/// exit 2 where there is no such image or the directory is not new, exit 4 where it cannot be written.
pub fn export(depot: &Depot, reference: &ImageRef, tag: &str, out: &Path) -> Result<Exported, Fault> {
    let os = |e| faults::ours(&e);
    let digest = image::get(depot, reference)?.digest;
    let held = images::hold(depot, &digest).map_err(os)?.ok_or_else(|| super::taken::missing(reference))?;
    let unusable = |e: io::Error| {
        Fault::caller("usage", format!("cannot make {}: {e}", out.display()))
            .at("out")
            .hint("name a new directory in one that exists")
    };
    std::fs::create_dir(out).map_err(unusable)?;
    let blobs = out.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).at("create", &blobs).map_err(os)?;
    let mut layout = Layout { depot, blobs, notices: Vec::new() };
    let layers = held.image.layers.iter().map(|layer| layout.layer(layer)).collect::<Result<Vec<_>, _>>()?;
    let config = layout.config(&held.image, &layers)?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config,
        "layers": layers.iter().map(|(_, descriptor)| descriptor).collect::<Vec<_>>(),
    });
    let mut manifest = layout.document("application/vnd.oci.image.manifest.v1+json", manifest.to_string().as_bytes())?;
    manifest["annotations"] = json!({"org.opencontainers.image.ref.name": tag});
    let index = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [manifest]});
    files::create(&out.join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#, 0o644).map_err(os)?;
    // What makes a layout of the directory comes last.
    files::create(&out.join("index.json"), index.to_string().as_bytes(), 0o644).map_err(os)?;
    let digest = config["digest"].as_str().unwrap_or_default().to_owned();
    Ok(Exported {
        layout: out.to_owned(),
        digest: Digest::try_from(digest).map_err(|why| Fault::ours("internal", why))?,
        layers: layers.len(),
        notices: layout.notices,
    })
}

struct Layout<'a> {
    depot: &'a Depot,
    blobs: PathBuf,
    notices: Vec<String>,
}

impl Layout<'_> {
    /// A layer's diff id and descriptor: its archive as it came, or else written from its tree.
    fn layer(&mut self, layer: &Layer) -> Result<(Digest, Value), Fault> {
        let os = |e| faults::ours(&e);
        if let Some(BlobRef { digest, size, media_type }) = &layer.blob {
            let (from, to) = (self.depot.blob(digest), self.blobs.join(digest.hex()));
            std::fs::copy(&from, &to).at("copy", &from).map_err(os)?;
            return Ok((layer.diff_id.clone(), json!({"mediaType": media_type, "digest": digest, "size": size})));
        }
        let (tree, fresh) = (self.depot.tree(&layer.diff_id), self.blobs.join("unfinished"));
        let open = File::open(&tree).at("open", &tree).map_err(os)?;
        let mut out =
            Hashed { to: BufWriter::new(File::create(&fresh).at("create", &fresh).map_err(os)?), hash: Sha256::new(), size: 0 };
        let written = writer::write(open.as_fd(), writer::Form::Layer, &mut out)?;
        self.notices.extend(written.notices.lines);
        out.to.flush().at("write", &fresh).map_err(os)?;
        let (digest, size) = (Digest::of_sha256(out.hash.finalize().into()), out.size);
        let target = self.blobs.join(digest.hex());
        std::fs::rename(&fresh, &target).at("rename into place", &target).map_err(os)?;
        let descriptor = json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest, "size": size});
        Ok((digest, descriptor))
    }

    /// The configuration's descriptor; the document names the layers as they are here.
    fn config(&self, image: &Image, layers: &[(Digest, Value)]) -> Result<Value, Fault> {
        let document = images::config(self.depot, &image.digest).map_err(|e| faults::ours(&e))?;
        let same = image.layers.iter().map(|layer| &layer.diff_id).eq(layers.iter().map(|(diff_id, _)| diff_id));
        const TYPE: &str = "application/vnd.oci.image.config.v1+json";
        if same {
            return self.document(TYPE, &document);
        }
        let mut config: Value = serde_json::from_slice(&document)
            .map_err(|e| Fault::ours("image:config", format!("the image's configuration makes no sense: {e}")))?;
        config["rootfs"] = json!({"type": "layers", "diff_ids": layers.iter().map(|(diff_id, _)| diff_id).collect::<Vec<_>>()});
        self.document(TYPE, config.to_string().as_bytes())
    }

    fn document(&self, media_type: &str, bytes: &[u8]) -> Result<Value, Fault> {
        let digest = Digest::of_sha256(Sha256::digest(bytes).into());
        files::create(&self.blobs.join(digest.hex()), bytes, 0o644).map_err(|e| faults::ours(&e))?;
        Ok(json!({"mediaType": media_type, "digest": digest, "size": bytes.len()}))
    }
}

/// A writer that knows what has passed.
struct Hashed<W> {
    to: W,
    hash: Sha256,
    size: u64,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.to.write(bytes)?;
        self.hash.update(&bytes[..n]);
        self.size += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}
