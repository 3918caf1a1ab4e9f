//! Facts held against needs: the table, one row a need. A row finds nothing where its question makes no sense on this host.

use super::{cgroup_needs as cgroup, kernel_needs as kernel, runtime_needs as runtime, state_needs as state};
use crate::model::finding::{Diagnosis, Finding};
use crate::model::health::Health;

const TABLE: &[fn(&Health) -> Vec<Finding>] = &[
    kernel::privilege,
    kernel::hard_limits,
    kernel::kernel,
    state::policy,
    cgroup::layout,
    cgroup::parent,
    cgroup::controllers,
    cgroup::swap,
    runtime::present,
    runtime::known_faults,
    kernel::user_namespaces,
    state::ids,
    state::binary,
    state::state,
    kernel::seccomp,
    kernel::landlock,
    kernel::id_mapped_mounts,
    kernel::overlay,
    state::capacity,
    state::leftovers,
    cgroup::dying,
    cgroup::favordynmods,
    kernel::settings,
    kernel::cpu,
];

/// Judges a host by the whole table.
pub fn diagnose(health: &Health) -> Diagnosis {
    Diagnosis::of(TABLE.iter().flat_map(|row| row(health)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::finding::State;
    use crate::model::health::{Leftovers, Privilege, Trial};

    #[test]
    fn a_well_host_gives_no_warning() {
        let told = diagnose(&Health::well());
        let complaints: Vec<_> = told.findings.iter().filter(|f| f.state != State::Ok).collect();
        assert!(complaints.is_empty() && (told.fails, told.warns) == (0, 0), "{complaints:#?}");
    }

    #[test]
    fn whatever_is_wrong_has_a_reason_and_a_repair() {
        let told = diagnose(&bare());
        assert!(told.fails >= 6 && told.warns >= 2, "{told:#?}");
        for f in told.findings.iter().filter(|f| f.state != State::Ok) {
            assert!(f.why.is_some() && f.repair.is_some(), "{f:?}");
        }
    }

    /// A user's view of a machine with nothing on it.
    fn bare() -> Health {
        let untried = || Trial::Untried("only root can".into());
        Health {
            privilege: Privilege { root: false, missing: vec!["CAP_SYS_ADMIN".into()] },
            kernel: "5.4.0-1".into(),
            settings: [("user.max_user_namespaces".to_owned(), "0".to_owned())].into(),
            low_limits: vec![('c', 0, 1)],
            landlock_abi: None,
            security_modules: None,
            user_namespace: untried(),
            overlay: untried(),
            id_mapped: vec![("/".into(), untried())],
            cgroups: None,
            runtime: Err("there is no OCI runtime \"runc\"".into()),
            leftovers: Leftovers { unseen: Some("permission denied".into()), ..Leftovers::default() },
            cpu: crate::model::health::Cpu {
                weak: vec![("mds".into(), "Vulnerable; SMT vulnerable".into())],
                smt: true,
                cores: 2,
            },
            ..Health::well()
        }
    }
}
