//! `image pull`: skopeo fetches an image into a layout on a bench, and that is imported like any other, by the confined process.

use super::import::{self, Imported};
use super::unpack::Source;
use super::{faults, program, room};
use crate::model::fault::Fault;
use crate::model::policy::Import;
use crate::model::reference::ImageName;
use crate::os::process::End;
use crate::runtime::driver;
use crate::store::bench::Bench;
use crate::store::depot::Depot;
use std::path::{Path, PathBuf};

/// How long a registry may take.
const PATIENCE_NS: u64 = 3600 * 1_000_000_000;
/// What the image is called in the layout on its bench.
const INSIDE: &str = "pulled";

pub struct Request<'a> {
    pub depot: &'a Depot,
    pub bounds: Import,
    /// As the registry calls it.
    pub reference: &'a str,
    /// What it is called here.
    pub name: ImageName,
    pub platform: Option<String>,
    /// Where credentials are; never words on a command line, which every user of a host can read.
    pub credentials: Option<&'a Path>,
    /// Speak HTTP, or HTTPS with a certificate of anybody's.
    pub insecure: bool,
    pub progress: &'a mut dyn FnMut(u64),
}

/// Fetches an image from its registry and brings it in.
///
/// # Errors
/// exit 3 where skopeo is missing or fails, else those of [`import::import`].
pub fn pull(request: Request<'_>) -> Result<Imported, Fault> {
    let os = |e| faults::ours(&e);
    let skopeo = driver::find("skopeo").ok_or_else(|| {
        Fault::host("pull:skopeo", "there is no skopeo on this host").at("image").hint("apt-get install skopeo")
    })?;
    request.depot.open().map_err(os)?;
    room::in_store(request.depot, request.bounds)?;
    let bench = Bench::new(request.depot).map_err(os)?;
    let (layout, log) = (bench.path().join("layout"), bench.path().join("log"));
    let args = arguments(&request, &layout)?;
    let failed = |how: &str| {
        Fault::host("pull:failed", format!("skopeo {how}: {}", program::last_words(&log)))
            .at("image")
            .hint("for credentials: skopeo login REGISTRY, or --authfile; for a registry without TLS: --insecure")
    };
    match program::run(&skopeo, &args, &log, bench.path(), PATIENCE_NS).map_err(os)? {
        Some(End::Well) => {}
        Some(_) => return Err(failed("fails")),
        None => return Err(failed("was stopped")),
    }
    import::import(import::Request {
        depot: request.depot,
        bounds: request.bounds,
        source: Source::Directory(&layout),
        name: Some(request.name),
        platform: request.platform,
        pick: Some(INSIDE.to_owned()),
        labels: Default::default(),
        progress: request.progress,
    })
}

/// As skopeo-copy(1) wants them. The registry's own names say which platform is meant by `--override-…`.
fn arguments(request: &Request<'_>, layout: &Path) -> Result<Vec<String>, Fault> {
    let mut args: Vec<String> = Vec::new();
    if let Some(platform) = &request.platform {
        let mut words = platform.splitn(3, '/');
        for flag in ["--override-os", "--override-arch", "--override-variant"] {
            args.extend(words.next().map(|word| format!("{flag}={word}")));
        }
    }
    args.extend(["copy".to_owned(), "--quiet".to_owned()]);
    if let Some(file) = request.credentials {
        args.push(format!("--src-authfile={}", file.display()));
    }
    if request.insecure {
        args.push("--src-tls-verify=false".to_owned());
    }
    if request.reference.starts_with('-') {
        return Err(Fault::caller("usage", format!("{:?} is not an image's reference", request.reference)).at("image"));
    }
    args.push(format!("docker://{}", request.reference));
    args.push(format!("oci:{}:{INSIDE}", layout.display()));
    Ok(args)
}

/// The usual auth file, as containers-auth.json(5) says where to look; `environment` answers for a variable.
pub fn auth_file(environment: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    let home = |rest: &str| environment("HOME").map(|dir| dir.join(rest));
    let places = [
        environment("REGISTRY_AUTH_FILE"),
        environment("XDG_RUNTIME_DIR").map(|dir| dir.join("containers/auth.json")),
        Some(PathBuf::from("/run/containers/0/auth.json")),
        home(".config/containers/auth.json"),
        environment("DOCKER_CONFIG").map(|dir| dir.join("config.json")),
        home(".docker/config.json"),
    ];
    places.into_iter().flatten().find(|path| path.is_file())
}
