//! Limits that make sense, and that the policy allows.

use crate::model::fault::Fault;
use crate::model::limits::{Asked, IoLimit, Limits, Rlimit};
use crate::model::policy::Over;
use crate::model::quantity::Bytes;
use std::collections::BTreeMap;

/// Below this the runtime itself fails while it starts the cell (measured with runc 1.1.5).
pub const MEMORY_LEAST: u64 = 6 << 20;

/// What the plan sets by itself, as low as can be: a ceiling must not raise it.
const LOW_ALREADY: [Rlimit; 3] = [Rlimit::Core, Rlimit::Memlock, Rlimit::Msgqueue];

/// Limits where zero means something; everywhere else it would mean "unlimited" or "nothing can run".
fn malformed(limits: &Limits) -> Option<(&'static str, String)> {
    let zero = [
        ("wall", limits.wall.nanos()),
        ("cpu", limits.cpu.map_or(1, |c| c.nanos())),
        ("memory", limits.memory.0),
        ("pids", limits.pids),
        ("output", limits.output.0),
        ("sandbox", limits.sandbox.0),
        ("inodes", limits.inodes),
        ("file_size", limits.file_size.0),
        ("open_files", limits.open_files),
        ("stack", limits.stack.0),
    ];
    if let Some((name, _)) = zero.into_iter().find(|(_, value)| *value == 0) {
        return Some((name, "must be more than 0".into()));
    }
    let day = 24 * 3600 * 1_000_000_000;
    let io_empty = |io: &IoLimit| {
        [io.rbps.map(|b| b.0), io.wbps.map(|b| b.0), io.riops, io.wiops].iter().flatten().min().is_none_or(|least| *least == 0)
    };
    match limits {
        l if l.memory.0 < MEMORY_LEAST => {
            Some(("memory", format!("is below {}, which the runtime needs to start", Bytes(MEMORY_LEAST))))
        }
        l if l.wall.nanos() > 30 * day => Some(("wall", "is beyond 30 days".into())),
        l if l.grace.nanos() > day / 24 => Some(("grace", "is beyond one hour".into())),
        l if l.cpus.is_some_and(|c| !(0.01..=8192.0).contains(&c)) => Some(("cpus", "is outside 0.01 to 8192".into())),
        l if l.cpu_weight.is_some_and(|w| !(1..=10_000).contains(&w)) => Some(("cpu_weight", "is outside 1 to 10000".into())),
        l if l.pids > 4_194_304 => Some(("pids", "is beyond the kernel's 4194304".into())),
        l if l.open_files < 3 => Some(("open_files", "is below 3, so that not even the standard streams fit".into())),
        l if l.open_files > 1 << 20 => Some(("open_files", "is beyond 1048576 (fs.nr_open)".into())),
        l if l.stack.0 < 128 << 10 => Some(("stack", "is below 128KiB, which execve needs for arguments".into())),
        l if l.inodes < 16 => Some(("inodes", "is below 16".into())),
        l if l.output.0 > 1 << 30 => Some(("output", "is beyond 1GiB; write to a mount instead".into())),
        l if l.io.iter().any(io_empty) => Some(("io", "needs at least one figure, and each above 0".into())),
        l if l.rlimits.keys().any(|r| matches!(r, Rlimit::Fsize | Rlimit::Nofile | Rlimit::Stack)) => {
            Some(("rlimits", "must not name fsize, nofile or stack; use file_size, open_files and stack".into()))
        }
        l if l.cpuset.as_deref().is_some_and(|set| cores(set).is_none()) => {
            Some(("cpuset", "is not a list of cores such as \"0\" or \"0-3,6\"".into()))
        }
        _ => None,
    }
}

/// The cores that a cpuset list names (cpuset(7), "List format"), or `None` where it is not one.
pub fn cores(list: &str) -> Option<Vec<u32>> {
    let mut cores = Vec::new();
    for part in list.split(',') {
        let (low, high) = part.split_once('-').unwrap_or((part, part));
        let digits = |s: &str| !s.is_empty() && s.len() < 6 && s.bytes().all(|b| b.is_ascii_digit());
        if !digits(low) || !digits(high) {
            return None;
        }
        let (low, high): (u32, u32) = (low.parse().ok()?, high.parse().ok()?);
        // No set has more cores than that, however often a list names the same ones.
        if low > high || high > 65_535 || cores.len() + (high - low) as usize > 65_535 {
            return None;
        }
        cores.extend(low..=high);
    }
    Some(cores)
}

/// Puts a value under its ceiling; `true` says that more than that was asked for. A default that is above asks for nothing.
fn cap<T: PartialOrd + Copy>(value: &mut T, asked: Option<T>, ceiling: Option<T>) -> bool {
    match ceiling {
        Some(top) if *value > top => {
            *value = top;
            asked.is_some()
        }
        _ => false,
    }
}

/// The same where silence means "unlimited".
fn cap_optional<T: PartialOrd + Copy>(value: &mut Option<T>, ceiling: Option<T>) -> bool {
    match (*value, ceiling) {
        (Some(asked), Some(top)) => {
            *value = Some(if asked > top { top } else { asked });
            asked > top
        }
        (None, top) => {
            *value = top;
            false
        }
        (Some(_), None) => false,
    }
}

/// The limits that hold, each sensible and none above its ceiling. `devices` has the numbers of the block devices that are
/// named, since one device may have several names.
///
/// # Errors
/// exit 2 with the limit's path where a value makes no sense; exit 3 where it is above a ceiling and the policy says refuse,
/// or where the ceilings leave nothing that makes sense.
pub fn effective(asked: Asked, ceilings: &Asked, over: Over, devices: &BTreeMap<String, String>) -> Result<Limits, Fault> {
    let a = asked.clone();
    let mut l = asked.complete();
    if let Some((name, why)) = malformed(&l) {
        return Err(Fault::caller("job:malformed", format!("limits.{name} {why}")).at(format!("limits.{name}")));
    }
    let c = ceilings;
    let above = [
        ("wall", cap(&mut l.wall, a.wall, c.wall)),
        ("cpu", cap_optional(&mut l.cpu, c.cpu)),
        ("grace", cap(&mut l.grace, a.grace, c.grace)),
        ("memory", cap(&mut l.memory, a.memory, c.memory)),
        ("swap", cap(&mut l.swap, a.swap, c.swap)),
        ("pids", cap(&mut l.pids, a.pids, c.pids)),
        ("cpus", cap_optional(&mut l.cpus, c.cpus)),
        ("cpu_weight", cap_optional(&mut l.cpu_weight, c.cpu_weight)),
        ("output", cap(&mut l.output, a.output, c.output)),
        ("sandbox", cap(&mut l.sandbox, a.sandbox, c.sandbox)),
        ("inodes", cap(&mut l.inodes, a.inodes, c.inodes)),
        ("file_size", cap(&mut l.file_size, a.file_size, c.file_size)),
        ("open_files", cap(&mut l.open_files, a.open_files, c.open_files)),
        ("stack", cap(&mut l.stack, a.stack, c.stack)),
        ("io", cap_io(&mut l.io, c.io.as_deref().unwrap_or_default(), devices)),
        ("rlimits", cap_rlimits(&mut l, c)),
    ];
    if let Some((name, _)) = above.iter().find(|(_, above)| *above && over == Over::Refuse) {
        return Err(Fault::host("policy:ceiling", format!("limits.{name} is above the policy's ceiling"))
            .at(format!("limits.{name}"))
            .hint(format!("ask for less, or raise ceilings.{name} in the policy")));
    }
    confine_cores(&mut l, c)?;
    // A tmpfs of size 0 would be unlimited, and so on: a ceiling can be too low.
    if let Some((name, why)) = malformed(&l) {
        return Err(Fault::host("policy:unusable", format!("with the policy's ceilings limits.{name} {why}"))
            .at(format!("ceilings.{name}"))
            .hint(format!("correct ceilings.{name} in the policy")));
    }
    if a.sandbox.is_none() {
        // tmpfs content is charged to the memory limit: a full /sandbox should be ENOSPC, not an OOM kill (moby#47967).
        l.sandbox.0 = l.sandbox.0.min(l.memory.0 / 2);
    }
    Ok(l)
}

/// Each device that has a ceiling stays below it, by whatever name the job calls it, and also if the job does not.
fn cap_io(own: &mut Vec<IoLimit>, tops: &[IoLimit], devices: &BTreeMap<String, String>) -> bool {
    let number = |io: &IoLimit| devices.get(io.device.as_str()).cloned().unwrap_or_else(|| io.device.as_str().to_owned());
    let mut above = false;
    for top in tops {
        let mut unnamed = true;
        for io in own.iter_mut().filter(|io| number(io) == number(top)) {
            unnamed = false;
            above |= cap_optional(&mut io.rbps, top.rbps);
            above |= cap_optional(&mut io.wbps, top.wbps);
            above |= cap_optional(&mut io.riops, top.riops);
            above |= cap_optional(&mut io.wiops, top.wiops);
        }
        own.extend(unnamed.then(|| top.clone()));
    }
    above
}

fn cap_rlimits(l: &mut Limits, c: &Asked) -> bool {
    let mut above = false;
    for (name, top) in c.rlimits.iter().flat_map(|r| r.iter()) {
        match l.rlimits.get_mut(name) {
            Some(value) => {
                above |= *value > *top;
                *value = (*value).min(*top);
            }
            None if LOW_ALREADY.contains(name) => {}
            None => drop(l.rlimits.insert(*name, *top)),
        }
    }
    above
}

/// The cores of a job are among the policy's.
fn confine_cores(l: &mut Limits, c: &Asked) -> Result<(), Fault> {
    if let Some(allowed) = &c.cpuset {
        let top = cores(allowed).unwrap_or_default();
        match l.cpuset.as_deref().and_then(cores) {
            Some(wanted) if wanted.iter().all(|core| top.contains(core)) => {}
            Some(_) => {
                return Err(Fault::host("policy:ceiling", format!("limits.cpuset leaves the policy's cores {allowed}"))
                    .at("limits.cpuset")
                    .hint("name cores within ceilings.cpuset"));
            }
            None => l.cpuset = Some(allowed.clone()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(json: &str) -> Asked {
        serde_json::from_str(json).expect(json)
    }

    fn effective(asked: Asked, ceilings: &Asked, over: Over) -> Result<Limits, Fault> {
        let disk = |name: &str| (name.to_owned(), "254:0".to_owned());
        super::effective(asked, ceilings, over, &[disk("/dev/vda"), disk("/dev/disk/by-id/root")].into())
    }

    #[test]
    fn nonsense_is_told_by_its_path() {
        for (json, path) in [
            (r#"{"wall":0}"#, "limits.wall"),
            (r#"{"memory":0}"#, "limits.memory"),
            (r#"{"memory":"5MiB"}"#, "limits.memory"),
            (r#"{"pids":0}"#, "limits.pids"),
            (r#"{"cpus":0.0}"#, "limits.cpus"),
            (r#"{"cpus":-1}"#, "limits.cpus"),
            (r#"{"cpu_weight":0}"#, "limits.cpu_weight"),
            (r#"{"cpuset":"3-1"}"#, "limits.cpuset"),
            (r#"{"cpuset":""}"#, "limits.cpuset"),
            (r#"{"io":[{"device":"/dev/vda"}]}"#, "limits.io"),
            (r#"{"io":[{"device":"/dev/vda","rbps":0}]}"#, "limits.io"),
            (r#"{"rlimits":{"nofile":7}}"#, "limits.rlimits"),
        ] {
            let fault = effective(asked(json), &Asked::default(), Over::Clamp).expect_err(json);
            assert_eq!(fault.path.as_deref(), Some(path), "{json}");
        }
        assert!(effective(asked(r#"{"swap":0,"grace":0}"#), &Asked::default(), Over::Clamp).is_ok());
    }

    #[test]
    fn ceilings_clamp_or_refuse() {
        let top = asked(r#"{"memory":"64MiB","cpu":"2s","rlimits":{"core":5},"cpuset":"0"}"#);
        let l = effective(asked(r#"{"memory":"1GiB","rlimits":{"core":9}}"#), &top, Over::Clamp).expect("clamped");
        assert_eq!((l.memory.0, l.cpu.map(|c| c.nanos())), (64 << 20, Some(2_000_000_000)));
        assert_eq!((l.rlimits[&Rlimit::Core], l.cpuset.as_deref()), (5, Some("0")));
        let fault = effective(asked(r#"{"memory":"1GiB"}"#), &top, Over::Refuse).expect_err("refused");
        assert_eq!((fault.code, fault.path.as_deref()), ("policy:ceiling", Some("limits.memory")));
        assert!(effective(asked(r#"{"memory":"32MiB"}"#), &top, Over::Refuse).is_ok(), "cpu unasked is no offence");
        assert!(effective(asked(r#"{"cpuset":"0-1"}"#), &top, Over::Clamp).is_err());
    }

    #[test]
    fn an_unasked_sandbox_leaves_room_in_memory() {
        let l = effective(asked(r#"{"memory":"64MiB"}"#), &Asked::default(), Over::Clamp).expect("fine");
        assert_eq!(l.sandbox.0, 32 << 20);
        let l = effective(asked(r#"{"memory":"64MiB","sandbox":"60MiB"}"#), &Asked::default(), Over::Clamp).expect("fine");
        assert_eq!(l.sandbox.0, 60 << 20);
    }

    #[test]
    fn only_what_was_asked_for_is_refused() {
        let top = asked(
            r#"{"wall":"1s","memory":"64MiB","pids":8,"output":100,"rlimits":{"as":9},"io":[{"device":"/dev/vda","rbps":9}]}"#,
        );
        let l = effective(asked("{}"), &top, Over::Refuse).expect("asks for nothing");
        assert_eq!((l.wall.nanos(), l.memory.0, l.pids, l.output.0), (1_000_000_000, 64 << 20, 8, 100));
        for (json, path) in [
            (r#"{"output":101}"#, "limits.output"),
            (r#"{"rlimits":{"as":10}}"#, "limits.rlimits"),
            (r#"{"io":[{"device":"/dev/vda","rbps":10}]}"#, "limits.io"),
        ] {
            assert_eq!(effective(asked(json), &top, Over::Refuse).expect_err(json).path.as_deref(), Some(path));
        }
    }

    #[test]
    fn a_disk_has_its_ceiling_under_each_of_its_names() {
        let top = asked(r#"{"io":[{"device":"/dev/vda","rbps":100,"wiops":5}]}"#);
        let l = effective(asked("{}"), &top, Over::Clamp).expect("fine");
        assert_eq!(l.io, top.io.clone().expect("named"), "also where the job names none");
        let other = r#"{"io":[{"device":"/dev/disk/by-id/root","rbps":900,"wbps":1}]}"#;
        let l = effective(asked(other), &top, Over::Clamp).expect("fine");
        assert_eq!((l.io.len(), l.io[0].rbps, l.io[0].wbps, l.io[0].wiops), (1, Some(Bytes(100)), Some(Bytes(1)), Some(5)));
    }

    #[test]
    fn a_ceiling_raises_nothing_and_must_leave_something() {
        let l = effective(asked("{}"), &asked(r#"{"rlimits":{"memlock":4096,"as":7}}"#), Over::Clamp).expect("fine");
        assert_eq!((l.rlimits.get(&Rlimit::Memlock), l.rlimits.get(&Rlimit::As)), (None, Some(&7)));
        for (json, path) in [
            (r#"{"sandbox":0}"#, "ceilings.sandbox"),
            (r#"{"memory":"1MiB"}"#, "ceilings.memory"),
            (r#"{"rlimits":{"nofile":10}}"#, "ceilings.rlimits"),
            (r#"{"cpuset":"all"}"#, "ceilings.cpuset"),
        ] {
            let fault = effective(asked("{}"), &asked(json), Over::Clamp).expect_err(json);
            assert_eq!((fault.code, fault.path.as_deref()), ("policy:unusable", Some(path)));
        }
    }

    #[test]
    fn a_list_of_cores_cannot_be_made_to_fill_our_memory() {
        assert_eq!(cores("0-65535").map(|c| c.len()), Some(65_536));
        assert_eq!(cores("0-65535,0-65535"), None);
        assert_eq!(cores("0,0,1-2"), Some(vec![0, 0, 1, 2]));
    }
}
