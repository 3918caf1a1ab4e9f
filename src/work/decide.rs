//! Everything that is decided before anything is made: a job, its bundle and its image become a plan.

use super::host::{self, Host};
use super::settings;
use super::taken::{self, Taken};
use crate::model::colour::ColourRule;
use crate::model::facts::Facts;
use crate::model::fault::Fault;
use crate::model::image::{Defaults, Image};
use crate::model::job::{ImageRef, Job};
use crate::model::names::BundleName;
use crate::model::plan::Plan;
use crate::model::policy::Policy;
use crate::model::template::Template;
use crate::rules::{home, merge, plan};
use crate::runtime::replica::Replica;
use crate::store::depot::Depot;
use crate::store::home::Home;
use std::path::Path;

/// What the operator and the command line say, whatever the job.
#[derive(Clone, Copy)]
pub struct Setting<'a> {
    pub policy: &'a Policy,
    pub root: Option<&'a Path>,
    pub runtime: Option<&'a str>,
    pub best_effort: bool,
    /// The runtime's copy in memory, of whoever starts many cells.
    pub replica: Option<&'a Replica>,
    /// Whether every cpu has a job, or a cell that is being made.
    pub crowded: bool,
}

/// A job's plan, and what it was made of.
pub(super) struct Planned {
    pub plan: Plan,
    pub host: Host,
    pub home: Home,
    pub image: String,
    pub depot: Depot,
    pub colours: Vec<ColourRule>,
    /// Holds the image in the store until the cell is over.
    pub taken: Option<Taken>,
    pub ground: Ground,
}

/// What jobs of one kind have in common: with it the next one's plan needs no look at anything.
#[derive(Clone)]
pub(super) struct Ground {
    bundle: BundleName,
    template: Template,
    defaults: Option<Defaults>,
    pub(super) facts: Facts,
}

impl Ground {
    /// The plan of another job with the same bundle, image, mounts and devices.
    ///
    /// # Errors
    /// as of [`plan::plan`].
    pub(super) fn plan(&self, job: Job, policy: &Policy, best_effort: bool) -> Result<Plan, Fault> {
        home::belongs_to_none(&job)?;
        let job = merge::merge(job, self.template.clone());
        let job = match &self.defaults {
            Some(defaults) => merge::with_image(job, defaults.clone())?,
            None => job,
        };
        plan::plan(job, self.bundle.clone(), policy, &self.facts, best_effort)
    }
}

/// Looks at everything that the job names and at the host, and plans.
///
/// # Errors
/// as of [`plan::plan`], and of looking.
pub(super) fn decide(job: Job, stack: Option<Image>, setting: Setting<'_>) -> Result<Planned, Fault> {
    let Setting { policy, root, runtime, best_effort, replica, crowded } = setting;
    home::belongs_to_none(&job)?;
    let bundle = bundle_name(&job)?;
    let mut template = settings::template(&bundle, policy)?;
    let colours = settings::colours(&mut template, policy)?;
    let job = merge::merge(job, template.clone());
    let home = settings::home(root, policy)?;
    let host = host::look(&home, policy, runtime)?.with(replica, crowded);
    let depot = settings::depot(root, policy);
    let taken = match stack {
        Some(image) => Some(taken::stack(&depot, image)),
        None => taken::take(&depot, job.image.as_ref())?,
    };
    let defaults = taken.as_ref().map(|taken| taken.image().defaults.clone());
    let job = match &defaults {
        Some(defaults) => merge::with_image(job, defaults.clone())?,
        None => job,
    };
    let facts = host.facts(&job, taken.as_ref())?;
    let image = job.image.clone().unwrap_or(ImageRef::Host);
    let image = match (&taken, image) {
        (Some(taken), ImageRef::Named(name)) => format!("{name}@{}", taken.image().digest),
        (Some(taken), _) => taken.image().digest.to_string(),
        (None, image) => String::from(image),
    };
    let plan = plan::plan(job, bundle.clone(), policy, &facts, best_effort)?;
    Ok(Planned { plan, host, home, image, depot, colours, taken, ground: Ground { bundle, template, defaults, facts } })
}

/// The bundle that a job names, or `default`.
pub(super) fn bundle_name(job: &Job) -> Result<BundleName, Fault> {
    match &job.bundle {
        Some(name) => Ok(name.clone()),
        None => BundleName::try_from("default".to_owned()).map_err(|why| Fault::ours("internal", why)),
    }
}
