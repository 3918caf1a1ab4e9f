//! Leases of physical cores: a file each, named by the core's first cpu, made if missing and never unlinked.

use super::home::Home;
use crate::model::cores::Core;
use crate::os::error::OsResult;
use crate::os::files;
use crate::os::lease::{self, Lease};

/// Takes `count` cores of one group, the first group that has as many free ones; `None` where none has.
///
/// # Errors
/// of mkdir, open and flock.
pub fn take(home: &Home, groups: &[Vec<Core>], count: usize) -> OsResult<Option<Vec<(Core, Lease)>>> {
    files::private_dir(&home.cores())?;
    for group in groups {
        let mut taken = Vec::new();
        for core in group {
            if taken.len() == count {
                break;
            }
            let name = core.threads.first().map(u32::to_string).unwrap_or_default();
            taken.extend(lease::try_claim_file(&home.cores().join(name))?.map(|lease| (core.clone(), lease)));
        }
        if taken.len() == count {
            return Ok(Some(taken));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn core(cpu: u32, node: u32) -> Core {
        Core { threads: vec![cpu, cpu + 10], node, strength: 0 }
    }

    #[test]
    fn a_core_is_one_owners_and_cores_come_from_one_group_if_they_can() {
        let dir = tempfile::tempdir().expect("tempdir");
        let home = Home::open(dir.path().to_owned()).expect("home");
        let near = [vec![core(1, 0), core(2, 0)], vec![core(3, 1), core(4, 1)]];
        let groups = [&near[..], &[near.concat()]].concat();
        let cpus = |taken: &Option<Vec<(Core, Lease)>>| -> Vec<u32> {
            taken.iter().flatten().map(|(core, _)| core.threads[0]).collect()
        };
        let one = take(&home, &groups, 1).expect("flock");
        let two = take(&home, &groups, 2).expect("flock");
        assert_eq!((cpus(&one), cpus(&two)), (vec![1], vec![3, 4]));
        assert!(take(&home, &groups, 2).expect("flock").is_none(), "there is but one");
        drop(two);
        assert_eq!(cpus(&take(&home, &groups, 3).expect("flock")), [2, 3, 4], "far apart, but free");
    }
}
