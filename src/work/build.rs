//! Builds an image from a directory: its origin, then stage by stage, each done once for all who ask for it.

use super::recipes::{self, Given};
use super::stage::{self, Became, Workshop};
use super::unpack::Source;
use super::{bases, commit, faults, flatten, image, import, room, taken};
use crate::model::base::Base;
use crate::model::fault::Fault;
use crate::model::image::{Defaults, Image, Layer};
use crate::model::job::ImageRef;
use crate::model::outcome::Outcome;
use crate::model::paths::HostPath;
use crate::model::recipe::{From, Origin};
use crate::model::reference::{Digest, DigestPrefix, ImageName};
use crate::os::clock;
use crate::os::error::OsError;
use crate::rules::{configuration, stages as keys};
use crate::store::bench::Bench;
use crate::store::{images, names, stages};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::path::Path;

/// A base may take an hour; who waits for another's waits as long.
const BASE_NS: u64 = 3600 * 1_000_000_000;

/// What came of a build.
#[derive(Debug, Serialize)]
pub struct Built {
    /// `None`: a stage failed.
    pub image: Option<Digest>,
    pub names: Vec<ImageName>,
    pub stages: Vec<Told>,
    /// How many of them were run by us.
    pub ran: usize,
    pub failed: Option<Failed>,
    /// The commit that the environment belongs to.
    pub commit: Option<String>,
    pub notices: Vec<String>,
}

/// One stage of a build.
#[derive(Clone, Debug, Serialize)]
pub struct Told {
    /// Where it stands, such as `stage[1]`, `docker-setup.sh:7`, or `base`.
    pub place: String,
    pub key: Digest,
    /// `known` from before, or `done` now.
    pub state: &'static str,
    pub layer: Digest,
    /// Of its files, in bytes.
    pub bytes: u64,
    /// What it took, in nanoseconds.
    pub wall_ns: u64,
}

/// The stage that failed; those before it are kept.
#[derive(Debug, Serialize)]
pub struct Failed {
    pub place: String,
    pub outcome: Box<Outcome>,
}

/// What is told while it goes on.
pub enum News<'a> {
    Begins { place: &'a str, number: usize, of: usize },
    Ends(&'a Told),
}

/// What stages stand on.
struct Ground {
    key: Digest,
    layers: Vec<Layer>,
    defaults: Defaults,
    platform: String,
    labels: BTreeMap<String, String>,
    told: Option<Told>,
}

/// Builds what a directory asks for, under a name; by default the directory's own.
///
/// # Errors
/// exit 2 where the recipe makes no sense, exit 3 where this host cannot build it, exit 4 for what is ours. Stages that were done
/// are kept.
pub fn build(shop: &Workshop<'_>, dir: &Path, name: Option<ImageName>, tell: &mut dyn FnMut(&News<'_>)) -> Result<Built, Fault> {
    let given = recipes::read(dir)?;
    let name = match name {
        Some(name) => name,
        None => own_name(&given)?,
    };
    let _shared = image::share(shop.depot)?;
    room::in_store(shop.depot, shop.policy.import)?;
    let Ground { key, mut layers, defaults, platform, labels, told } = ground(shop, &given, tell)?;
    let steps = given.steps(&key)?;
    let mut built = Built {
        image: None,
        names: Vec::new(),
        ran: told.iter().filter(|told| told.state == "done").count(),
        stages: told.into_iter().collect(),
        failed: None,
        commit: given.commit().map(super::commits::Commit::name),
        notices: given.notices(),
    };
    for (n, step) in steps.iter().enumerate() {
        tell(&News::Begins { place: &step.place, number: n + 1, of: steps.len() });
        let began = clock::now_ns();
        let (state, layer) = match stage::known(shop.depot, &step.key)? {
            Some(layer) => ("known", layer),
            None => {
                room::in_store(shop.depot, shop.policy.import)?;
                match stage::build(shop, step, &stacked(&layers), &defaults, &platform)? {
                    Became::Known(layer) => ("known", layer),
                    Became::Done(layer, _) => ("done", layer),
                    Became::Failed(outcome) => {
                        built.failed = Some(Failed { place: step.place.clone(), outcome });
                        return Ok(built);
                    }
                }
            }
        };
        let told = Told {
            place: step.place.clone(),
            key: step.key.clone(),
            state,
            layer: layer.diff_id.clone(),
            bytes: layer.bytes,
            wall_ns: clock::now_ns().saturating_sub(began),
        };
        tell(&News::Ends(&told));
        built.ran += usize::from(state == "done");
        built.stages.push(told);
        layers.push(layer);
        within(&layers, shop)?;
    }
    let layers = stacked(&layers);
    let digest = put(shop, layers, given.defaults(defaults)?, platform, given.labels(labels))?;
    built.names.push(name.clone());
    if let Some(commit) = given.commit() {
        let of_commit = ImageName::try_from(format!("{}:{}", name.repository(), commit.tag()));
        built.names.push(of_commit.map_err(|why| Fault::ours("internal", why))?);
    }
    built.names.dedup();
    built.names.iter().try_for_each(|name| names::point(shop.depot, name, &digest)).map_err(|e| faults::ours(&e))?;
    built.image = Some(digest);
    Ok(built)
}

/// Without the empty ones: they say nothing, and overlayfs refuses one directory twice.
fn stacked(layers: &[Layer]) -> Vec<Layer> {
    layers.iter().filter(|layer| layer.entries > 0).cloned().collect()
}

fn own_name(given: &Given) -> Result<ImageName, Fault> {
    let unusable = |why: String| {
        Fault::caller("build:name", format!("the directory's name cannot be the image's: {why}"))
            .at("name")
            .hint("give one with --name")
    };
    let name = given.name().ok_or_else(|| unusable("it is not UTF-8".into()))?;
    ImageName::try_from(name).map_err(unusable)
}

fn within(layers: &[Layer], shop: &Workshop<'_>) -> Result<(), Fault> {
    let bounds = shop.policy.import;
    let bytes: u64 = layers.iter().map(|layer| layer.bytes).sum();
    let entries: u64 = layers.iter().map(|layer| layer.entries).sum();
    let too_much = [
        (bytes > bounds.bytes.0, "bytes", bytes),
        (entries > bounds.entries, "entries", entries),
        (layers.len() as u64 > u64::from(bounds.layers), "layers", layers.len() as u64),
    ];
    match too_much.iter().find(|(is, ..)| *is) {
        None => Ok(()),
        Some((_, what, n)) => {
            Err(Fault::host("build:too_large", format!("the image has {n} {what}, more than the policy lets in"))
                .at(format!("import.{what}"))
                .hint("write less, or raise the bound in the policy"))
        }
    }
}

/// What the first stage stands on.
fn ground(shop: &Workshop<'_>, given: &Given, tell: &mut dyn FnMut(&News<'_>)) -> Result<Ground, Fault> {
    match given.origin() {
        Origin::Image(From::Name(name)) => image_ground(shop, &ImageRef::Named(name)),
        Origin::Image(From::Digest(digest)) => image_ground(shop, &ImageRef::Digest(digest)),
        Origin::Image(From::Directory(dir)) => directory_ground(shop, &dir),
        Origin::Base(base) => base_ground(shop, &base, tell),
    }
}

/// A directory has no digest until it has been read: it comes in as an image, whose layer the store keeps once.
fn directory_ground(shop: &Workshop<'_>, dir: &HostPath) -> Result<Ground, Fault> {
    let allowed = shop.policy.images.iter().any(|root| dir.is_within(root));
    if !allowed {
        return Err(Fault::host("policy:refused", format!("the policy lets no image lie at {dir}"))
            .at("from")
            .hint("images in the policy names the directories below which they may"));
    }
    let imported = import::import(import::Request {
        depot: shop.depot,
        bounds: shop.policy.import,
        source: Source::Directory(dir.as_path()),
        name: None,
        platform: None,
        pick: None,
        labels: BTreeMap::new(),
        progress: &mut |_| {},
    })
    .map_err(|fault| fault.at("from"))?;
    let prefix = DigestPrefix::try_from(imported.digest.as_str().to_owned()).map_err(|why| Fault::ours("internal", why))?;
    image_ground(shop, &ImageRef::Digest(prefix))
}

fn image_ground(shop: &Workshop<'_>, reference: &ImageRef) -> Result<Ground, Fault> {
    let digest = taken::find(shop.depot, reference).map_err(|fault| fault.at("from"))?;
    let held =
        images::hold(shop.depot, &digest).map_err(|e| faults::ours(&e))?.ok_or_else(|| taken::missing(reference).at("from"))?;
    let Image { digest, layers, defaults, platform, labels, .. } = held.image.clone();
    // What tells of the image itself is not inherited.
    let labels = labels.into_iter().filter(|(name, _)| !name.starts_with("runcell.")).collect();
    Ok(Ground { key: keys::image(&digest), layers, defaults, platform, labels, told: None })
}

fn base_ground(shop: &Workshop<'_>, base: &Base, tell: &mut dyn FnMut(&News<'_>)) -> Result<Ground, Fault> {
    let os = |e: OsError| faults::ours(&e);
    let key = keys::base(base, bases::tool(base)?.as_ref());
    let began = clock::now_ns();
    tell(&News::Begins { place: "base", number: 0, of: 0 });
    let (state, layer) = match stage::take(shop.depot, &key, BASE_NS)? {
        Err(layer) => ("known", layer),
        Ok(lease) => {
            let bench = Bench::new(shop.depot).map_err(os)?;
            let tree = bench.path().join("tree");
            bases::make(base, bench.path(), &tree)?;
            let layer = commit::commit(shop.depot, bench.path(), &tree)?;
            stages::put(shop.depot, key.hex(), &layer.diff_id).map_err(os)?;
            stages::release(shop.depot, key.hex(), lease).map_err(os)?;
            ("done", layer)
        }
    };
    let told = Told {
        place: "base".into(),
        key: key.clone(),
        state,
        layer: layer.diff_id.clone(),
        bytes: layer.bytes,
        wall_ns: clock::now_ns().saturating_sub(began),
    };
    tell(&News::Ends(&told));
    let platform = configuration::native();
    Ok(Ground { key, layers: vec![layer], defaults: Defaults::default(), platform, labels: BTreeMap::new(), told: Some(told) })
}

/// Puts the image on its shelf, under the digest of what it is.
fn put(
    shop: &Workshop<'_>,
    layers: Vec<Layer>,
    defaults: Defaults,
    platform: String,
    mut labels: BTreeMap<String, String>,
) -> Result<Digest, Fault> {
    if !defaults.everytime.is_empty() {
        let list = serde_json::to_string(&defaults.everytime).map_err(|e| Fault::ours("internal", e.to_string()))?;
        labels.insert(configuration::EVERYTIME.to_owned(), list);
    }
    let document = configuration::document(&layers, &defaults, &platform, &labels)?;
    let digest = Digest::of_sha256(Sha256::digest(&document).into());
    let image = Image { digest: digest.clone(), layers, flat: None, defaults, platform, since_ms: clock::wall_millis(), labels };
    // What is there already is this very image, and stays as it is.
    if images::get(shop.depot, &digest).map_err(|e| faults::ours(&e))?.is_none() {
        let image = Image { flat: flatten::flatten(shop.depot, &image.layers)?, ..image };
        images::put(shop.depot, &image, &document).map_err(|e| faults::ours(&e))?;
    }
    Ok(digest)
}
