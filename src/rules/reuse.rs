//! Which jobs may follow one another in one cell: those of one avatar, of one kind, in a cell of which every place that a program
//! can write can be made as new.

use crate::model::avatar::Avatar;
use crate::model::job::{Content, ImageRef, Job, Mount, Network, User};
use crate::model::limits::Asked;
use crate::model::names::BundleName;
use crate::model::plan::{Plan, PlannedMount};

/// Always there, and a tmpfs each.
const PLACES: [&str; 3] = ["/sandbox", "/tmp", "/dev/shm"];

/// What two jobs must have alike to follow one another.
#[derive(Clone, Debug, PartialEq)]
pub struct Kin {
    avatar: Avatar,
    bundle: Option<BundleName>,
    image: Option<ImageRef>,
    user: Option<User>,
    mounts: Vec<Mount>,
    network: Option<Network>,
    limits: Asked,
}

/// What this job has of that; `None` for one that is alone in its cell, whoever comes.
pub fn kin(job: &Job) -> Option<Kin> {
    let avatar = job.avatar.clone()?;
    // A layer over the root cannot be emptied from inside.
    (!job.writable_root).then(|| Kin {
        avatar,
        bundle: job.bundle.clone(),
        image: job.image.clone(),
        user: job.user,
        mounts: job.mounts.clone(),
        network: job.network,
        limits: job.limits.clone(),
    })
}

/// Whether a supervisor that has given up its rights can start it: one that reads no file of the host.
pub fn may_follow(job: &Job) -> bool {
    let of_the_host = |content: &Content| matches!(content, Content::File(_));
    !job.files.0.values().any(|file| of_the_host(&file.content)) && !job.stdin.as_ref().is_some_and(of_the_host)
}

/// The places that are emptied between two jobs; `None` where that is not all that a program can write, or where something else is
/// mounted in one of them.
pub fn places(plan: &Plan) -> Option<Vec<String>> {
    let own = plan.shape.mounts.iter().filter_map(|mount| match mount {
        PlannedMount::Tmpfs { target, .. } => Some(target.as_str()),
        PlannedMount::Bind { .. } => None,
    });
    let mut places: Vec<&str> = PLACES.into_iter().chain(own).collect();
    places.sort_unstable();
    places.dedup();
    let binds = plan.shape.mounts.iter().filter_map(|mount| match mount {
        PlannedMount::Bind { target, .. } => Some(target.as_str()),
        PlannedMount::Tmpfs { .. } => None,
    });
    let within = |inner: &str, outer: &str| inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('/'));
    let apart = binds.chain(places.iter().copied()).all(|inner| !places.iter().any(|outer| within(inner, outer)));
    let replaced = plan
        .shape
        .mounts
        .iter()
        .any(|mount| matches!(mount, PlannedMount::Bind { target, .. } if places.contains(&target.as_str())));
    let all = plan.fill.writable.iter().all(|place| places.contains(&place.as_str()));
    let whole = !plan.shape.writable_root && !plan.shape.builds;
    (apart && all && whole && !replaced).then(|| places.into_iter().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::facts::Layout;
    use crate::model::policy::Policy;
    use crate::rules::plan;

    fn job(more: &str) -> Job {
        let words = format!(r#"{{"argv":["a"],"avatar":{{"kata":"4kq9Zx2aBc","name":"lion"}}{more}}}"#);
        serde_json::from_str(&words).expect(&words)
    }

    fn places_of(mounts: &str) -> Option<Vec<String>> {
        let policy: Policy = toml::from_str("bind = ['/srv']\nbind_writable = ['/srv']").expect("a policy");
        let mut facts = crate::rules::plan::tests::facts(Layout::V2);
        facts.sources.insert("/srv".to_owned(), crate::model::facts::EntryKind::Directory { mode: 0o755 });
        let bundle = BundleName::try_from("default".to_owned()).expect("a name");
        places(&plan::plan(job(mounts), bundle, &policy, &facts, false).expect(mounts))
    }

    #[test]
    fn kin_are_of_one_avatar_and_alike_in_all_that_a_cell_is_made_of() {
        let first = kin(&job("")).expect("it may stay");
        assert_eq!(kin(&job(r#","cwd":"/tmp","env":{"x":"y"},"files":{"f":"g"},"stdin":"s","id":"i""#)).as_ref(), Some(&first));
        for other in
            [r#","limits":{"wall":"1s"}"#, r#","image":"/srv""#, r#","user":"5""#, r#","mounts":[{"target":"/m","tmpfs":1}]"#]
        {
            assert_ne!(kin(&job(other)).as_ref(), Some(&first), "{other}");
        }
        assert_eq!(kin(&job(r#","writable_root":true"#)), None);
        assert_eq!(kin(&Job { avatar: None, ..job("") }), None);
    }

    #[test]
    fn files_of_the_host_are_for_those_who_may_read_them() {
        assert!(may_follow(&job(r#","files":{"f":"g"},"stdin":"s""#)));
        assert!(!may_follow(&job(r#","files":{"f":{"file":"/srv/f"}}"#)) && !may_follow(&job(r#","stdin":{"file":"/srv/f"}"#)));
    }

    #[test]
    fn all_that_can_be_written_is_emptied_and_nothing_else() {
        let mounts = |one: &str| places_of(&format!(r#","mounts":[{one}]"#));
        let usual = ["/dev/shm", "/sandbox", "/tmp"].map(str::to_owned);
        assert_eq!(places_of("").as_deref(), Some(&usual[..]));
        assert_eq!(mounts(r#"{"target":"/srv","bind":"/srv"}"#).as_deref(), Some(&usual[..]), "read-only");
        assert!(mounts(r#"{"target":"/more","tmpfs":4096}"#).is_some_and(|places| places.contains(&"/more".to_owned())));
        assert_eq!(mounts(r#"{"target":"/srv","bind":"/srv","writable":true}"#), None, "the host's");
        assert_eq!(mounts(r#"{"target":"/sandbox/data","bind":"/srv"}"#), None, "within what is emptied");
        assert_eq!(mounts(r#"{"target":"/tmp/data","tmpfs":4096}"#), None, "two places, one in the other");
        assert_eq!(mounts(r#"{"target":"/sandbox","bind":"/srv"}"#), None, "in place of it");
    }
}
