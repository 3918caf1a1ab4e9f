//! Cells that wait for a job, by shape: `cells/<shape>/<run>-<expiry>`, each a run's directory that nobody owns.
//!
//! A cell comes here by one rename when it is ready, and leaves by one rename when somebody has taken its lease; what is here
//! is therefore whole, and what is among the runs is somebody's, or garbage. The name says when it expires, so that a look
//! at all of them opens none.

use super::home::{Home, RunDir};
use super::runs::Owned;
use crate::model::names::RunId;
use crate::os::clock;
use crate::os::error::{At, OsResult};
use crate::os::files;
use crate::os::lease::{self, Lease};
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// A waiting cell as it was found; somebody else may take it at any moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    pub id: RunId,
    pub shape: Rc<str>,
    /// Seconds since 1970.
    pub expires: u64,
    /// That of its shape.
    dir: Rc<Path>,
}

impl Waiting {
    fn read(shape: &Rc<str>, dir: &Rc<Path>, name: &str) -> Option<Self> {
        let (id, expires) = name.split_once('-')?;
        let id = RunId::try_from(id.to_owned()).ok()?;
        Some(Self { id, shape: shape.clone(), expires: expires.parse().ok()?, dir: dir.clone() })
    }

    fn path(&self) -> PathBuf {
        self.dir.join(format!("{}-{}", self.id, self.expires))
    }

    pub fn expired(&self) -> bool {
        self.expires <= clock::wall_millis() / 1000
    }

    /// The directory as it is now, for a look without owning it.
    pub fn dir(&self) -> RunDir {
        RunDir::at(self.id.clone(), self.path())
    }
}

/// Puts a run's directory among the waiting cells. Its lease ends here, and from then on anybody may take it.
///
/// # Errors
/// of mkdir and rename; it is a run of its owner's still, as far as the disk goes.
pub fn put(home: &Home, owned: Owned, shape: &str, expires: u64) -> OsResult<()> {
    let dir = home.cells().join(shape);
    let place = dir.join(format!("{}-{expires}", owned.dir.id));
    for _ in 0..10 {
        files::private_dir(&dir)?;
        match std::fs::rename(owned.dir.path(), &place) {
            // The last of this shape has just gone, and its directory with it.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && owned.dir.path().exists() => {}
            other => return other.at("put a cell at", &place),
        }
    }
    Err(std::io::Error::from_raw_os_error(libc::EBUSY)).at("put a cell at", &place)
}

/// Takes a cell out: it is a run of ours then. `None`: somebody else was first.
///
/// # Errors
/// of flock and rename.
pub fn take(home: &Home, waiting: &Waiting) -> OsResult<Option<Owned>> {
    let path = waiting.path();
    let Some(lease) = lease::try_claim(&path)? else { return Ok(None) };
    let dir = home.run(&waiting.id);
    match std::fs::rename(&path, dir.path()) {
        // Between its opening and its locking another had it, and has taken it away.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        other => other.at("take a cell from", &path).map(|()| Some(Owned::new(dir, lease))),
    }
}

/// The waiting cells of a shape, oldest first.
pub fn of(home: &Home, shape: &str) -> Vec<Waiting> {
    let (shape, dir): (Rc<str>, Rc<Path>) = (shape.into(), home.cells().join(shape).into());
    let entries = std::fs::read_dir(&dir).into_iter().flatten().flatten();
    let mut found: Vec<Waiting> = entries.filter_map(|e| Waiting::read(&shape, &dir, e.file_name().to_str()?)).collect();
    found.sort_by(|a, b| a.id.cmp(&b.id));
    found
}

/// All waiting cells, each shape's oldest first; `None` where there is no shape, nor has been for a while.
pub fn look(home: &Home) -> Option<Vec<Waiting>> {
    let shapes = shapes(home);
    (!shapes.is_empty()).then(|| shapes.iter().flat_map(|shape| of(home, shape)).collect())
}

/// All waiting cells.
pub fn all(home: &Home) -> Vec<Waiting> {
    look(home).unwrap_or_default()
}

fn shapes(home: &Home) -> Vec<String> {
    let entries = std::fs::read_dir(home.cells()).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|e| e.file_name().into_string().ok()).collect();
    names.sort();
    names
}

/// Lets nobody else make cells of this shape meanwhile; `None` where somebody does.
///
/// # Errors
/// of mkdir and flock.
pub fn alone(home: &Home, shape: &str) -> OsResult<Option<Lease>> {
    let dir = home.cells().join(shape);
    files::private_dir(&dir)?;
    lease::try_claim(&dir)
}

/// Removes the directories of shapes that have no cell, unless somebody is making one.
pub fn tidy(home: &Home) {
    for shape in shapes(home) {
        let dir = home.cells().join(shape);
        if let Ok(Some(_lease)) = lease::try_claim(&dir) {
            let _ = std::fs::remove_dir(&dir); // refused as long as there is something in it
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::runs;

    #[test]
    fn a_cell_is_taken_once_and_becomes_a_run() {
        let dir = tempfile::tempdir().expect("tempdir");
        let home = Home::open(dir.path().to_owned()).expect("home");
        let owned = runs::create(&home).expect("created");
        let id = owned.dir.id.clone();
        put(&home, owned, "shape", u64::MAX).expect("put");
        assert!(runs::names(&home).expect("list").is_empty() && of(&home, "other").is_empty());
        let [waiting] = all(&home).try_into().expect("one");
        assert!(waiting.id == id && !waiting.expired() && waiting.dir().path().exists());
        let taken = take(&home, &waiting).expect("take").expect("free");
        assert_eq!(taken.dir, home.run(&id));
        assert!(take(&home, &waiting).expect("no error").is_none() && all(&home).is_empty());
        assert!(matches!(runs::claim(home.run(&id)), Ok(Some(runs::Found::Live(_)))), "its lease came with it");
    }

    #[test]
    fn one_in_use_is_left_alone_and_empty_shapes_go() {
        let dir = tempfile::tempdir().expect("tempdir");
        let home = Home::open(dir.path().to_owned()).expect("home");
        put(&home, runs::create(&home).expect("created"), "a", 1).expect("put");
        let [waiting] = of(&home, "a").try_into().expect("one");
        assert!(waiting.expired());
        let held = lease::try_claim(waiting.dir().path()).expect("flock").expect("free");
        assert!(take(&home, &waiting).expect("no error").is_none(), "somebody looks at it");
        drop(held);
        let making = alone(&home, "b").expect("flock").expect("nobody else");
        assert!(alone(&home, "b").expect("flock").is_none());
        tidy(&home);
        assert_eq!(shapes(&home), ["a", "b"], "one has a cell, one a maker");
        drop((making, take(&home, &waiting).expect("take").expect("free")));
        tidy(&home);
        assert!(shapes(&home).is_empty());
    }
}
