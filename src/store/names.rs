//! Names that point to images. A name is one file, replaced whole, so it points to the old image or to the new one.

use super::depot::Depot;
use crate::model::reference::{Digest, ImageName};
use crate::os::error::{At, OsResult};
use crate::os::files;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

#[derive(Debug, Serialize, Deserialize)]
struct Pointer {
    name: ImageName,
    digest: Digest,
}

fn read(path: &Path) -> Option<Pointer> {
    serde_json::from_slice(&files::read_some(path, 4096).ok()?).ok()
}

/// Has a name point to an image from now on.
///
/// # Errors
/// of writing.
pub fn point(depot: &Depot, name: &ImageName, digest: &Digest) -> OsResult<()> {
    let path = depot.name(name);
    let pointer = Pointer { name: name.clone(), digest: digest.clone() };
    let json = serde_json::to_vec(&pointer).map_err(std::io::Error::other).at("write", &path)?;
    files::replace_durably(&path, &json)
}

/// What a name points to.
pub fn resolve(depot: &Depot, name: &ImageName) -> Option<Digest> {
    read(&depot.name(name)).map(|p| p.digest)
}

/// All names, in order.
pub fn all(depot: &Depot) -> BTreeMap<ImageName, Digest> {
    let entries = std::fs::read_dir(depot.names()).into_iter().flatten().flatten();
    // What a writer that was killed has left beside is no name.
    let finished = entries.map(|e| e.path()).filter(|path| path.extension().is_none());
    finished.filter_map(|path| read(&path)).map(|p| (p.name, p.digest)).collect()
}

/// Forgets a name; the image stays until gc.
///
/// # Errors
/// of unlink; ENOENT where there is no such name.
pub fn remove(depot: &Depot, name: &ImageName) -> OsResult<()> {
    let path = depot.name(name);
    std::fs::remove_file(&path).at("remove", &path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_points_to_one_image_at_a_time() {
        let dir = tempfile::tempdir().expect("tempdir");
        let depot = Depot::at(dir.path().to_owned());
        depot.open().expect("opened");
        let name = |s: &str| ImageName::try_from(s.to_owned()).expect("a name");
        let (a, b) = (Digest::of_sha256([1; 32]), Digest::of_sha256([2; 32]));
        let long = name(&format!("registry.example/{}:{}", "x".repeat(230), "t".repeat(128)));
        point(&depot, &name("x:1"), &a).expect("pointed");
        point(&depot, &name("x:1"), &b).expect("pointed again");
        point(&depot, &long, &a).expect("however long");
        assert_eq!(resolve(&depot, &name("x:1")), Some(b));
        assert_eq!(resolve(&depot, &name("x")), None);
        assert_eq!(all(&depot).len(), 2);
        remove(&depot, &name("x:1")).expect("removed");
        assert!(remove(&depot, &name("x:1")).is_err());
        assert_eq!(resolve(&depot, &long), Some(a));
    }
}
