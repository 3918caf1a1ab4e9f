//! All paths of our state come from here, so that a relative one cannot slip through.

use crate::model::names::RunId;
use crate::os::error::OsResult;
use crate::os::files;
use std::path::{Path, PathBuf};

/// The state directory: `--root`, RUNCELL_ROOT, the policy's `root`, or `/run/runcell`.
#[derive(Clone, Debug)]
pub struct Home {
    root: PathBuf,
    /// Host ids that are avatars', by their first.
    reserved: PathBuf,
}

/// The directory of one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunDir {
    pub id: RunId,
    path: PathBuf,
}

impl Home {
    /// Makes what is missing; only root may enter.
    ///
    /// # Errors
    /// of mkdir.
    pub fn open(root: PathBuf) -> OsResult<Self> {
        let home = Self::at(root);
        let last = home.root.join("skeletons");
        if !last.exists() {
            for dir in [home.root.clone(), home.runs(), home.ids(), home.runtimes(), home.root.join("facts"), last.clone()] {
                files::private_dir(&dir)?;
            }
            // The runtime's processes of a cell pass through here with the cell's ids to reach their root filesystem.
            let pass = std::os::unix::fs::PermissionsExt::from_mode(0o711);
            let through = |dir: &Path| std::fs::set_permissions(dir, Clone::clone(&pass));
            for dir in [&home.root, &home.runs(), &last] {
                crate::os::error::At::at(through(dir), "open up", dir)?;
            }
        }
        Ok(home)
    }

    /// The state directory as it is: nothing is made, and it need not exist.
    pub fn at(root: PathBuf) -> Self {
        Self { reserved: root.join("store/katas/ids"), root }
    }

    /// The same with the ids of avatars in the store, which outlasts it.
    #[must_use]
    pub fn with_katas(self, shelf: &Path) -> Self {
        Self { reserved: shelf.join("ids"), ..self }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn runs(&self) -> PathBuf {
        self.root.join("runs")
    }

    pub fn run(&self, id: &RunId) -> RunDir {
        RunDir { id: id.clone(), path: self.runs().join(id.as_str()) }
    }

    /// Cells that wait for a job, by shape.
    pub fn cells(&self) -> PathBuf {
        self.root.join("cells")
    }

    /// Leases of physical cores.
    pub fn cores(&self) -> PathBuf {
        self.root.join("cores")
    }

    pub fn ids(&self) -> PathBuf {
        self.root.join("ids")
    }

    /// A range of host ids that is an avatar's, by its first.
    pub fn reserved(&self, first: u32) -> PathBuf {
        self.reserved.join(first.to_string())
    }

    /// All of them.
    pub fn reservations(&self) -> &Path {
        &self.reserved
    }

    /// The `--root` of OCI runtimes.
    pub fn runtimes(&self) -> PathBuf {
        self.root.join("runtime")
    }

    /// The state that the runtime keeps of one container.
    pub fn container(&self, id: &RunId) -> PathBuf {
        self.runtimes().join(id.as_str())
    }

    /// A root skeleton that runs share, by the digest of its plan.
    pub fn skeleton(&self, digest: &str) -> PathBuf {
        self.root.join("skeletons").join(digest)
    }

    /// A remembered fact, such as a runtime's version.
    pub fn fact(&self, name: &str) -> PathBuf {
        self.root.join("facts").join(name)
    }
}

impl RunDir {
    /// One that is not among the runs now.
    pub(super) fn at(id: RunId, path: PathBuf) -> Self {
        Self { id, path }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The OCI bundle is the run's directory itself.
    pub fn bundle(&self) -> &Path {
        &self.path
    }

    /// What the runtime makes the cell of.
    pub fn config(&self) -> PathBuf {
        self.path.join("config.json")
    }

    pub fn rootfs(&self) -> PathBuf {
        self.path.join("rootfs")
    }

    /// Mount points laid over an image.
    pub fn skeleton(&self) -> PathBuf {
        self.path.join("skeleton")
    }

    /// Id-mapped copies of bind sources, and of the image.
    pub fn staged(&self) -> PathBuf {
        self.path.join("staged")
    }

    pub fn record(&self) -> PathBuf {
        self.path.join("record.json")
    }

    /// What the runtime says about itself.
    pub fn log(&self) -> PathBuf {
        self.path.join("runtime.log")
    }

    /// Its stdout and stderr.
    pub fn console(&self) -> PathBuf {
        self.path.join("runtime.out")
    }

    pub const SOCKET: &'static str = "cell.sock";
}
