//! The seccomp allow-list: data under `bundles/baseline/`, compiled to one BPF program here, loaded by init in the program's
//! own process.
//!
//! libseccomp builds its filter anew inside the runtime at every start, 12–18 ms; this takes a quarter of a millisecond, and
//! that while the runtime is at work.
//!
//! The data are filters as seccompiler takes them. The kernel would take the strictest answer of several installed filters,
//! and of equally strict ones the last's. As all but the first only refuse, that is: the last filter with a rule that
//! matches answers, which one program can do alone.

use super::bpf::{self, Condition, Instruction};
use crate::model::fault::Fault;
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::OnceLock;
use syscalls::Sysno;

const BASELINE: &str = include_str!("../../bundles/baseline/seccomp.json");
const NO_SUID: &str = include_str!("../../bundles/baseline/seccomp-nosuid.json");

/// Filters by name; their names are in the order of their installation.
type Filters = BTreeMap<String, Filter>;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Filter {
    /// The answer to a call that no rule matches.
    mismatch_action: Action,
    match_action: Action,
    filter: Vec<Rule>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Action {
    Allow,
    Errno(u16),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    syscall: String,
    /// All must hold.
    #[serde(default)]
    args: Vec<Argument>,
    #[serde(default, rename = "comment")]
    _comment: IgnoredAny,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Argument {
    index: u8,
    #[serde(rename = "type")]
    _width: Width,
    op: Op,
    val: u32,
    #[serde(default, rename = "comment")]
    _comment: IgnoredAny,
}

/// All rules look at 32 bits, as the kernel does where an argument is an int.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Width {
    Dword,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Op {
    Eq,
    Ne,
    MaskedEq(u32),
}

impl Action {
    fn code(self) -> u32 {
        match self {
            Self::Allow => libc::SECCOMP_RET_ALLOW,
            Self::Errno(errno) => libc::SECCOMP_RET_ERRNO | u32::from(errno),
        }
    }
}

impl Argument {
    fn condition(&self) -> Condition {
        let (mask, equal) = match self.op {
            Op::Eq => (u32::MAX, true),
            Op::Ne => (u32::MAX, false),
            Op::MaskedEq(mask) => (mask, true),
        };
        Condition { index: self.index, mask, value: self.val & mask, equal }
    }
}

/// The program to be installed: `struct sock_filter`s as the kernel reads them. With `deny_suid` nobody leaves a set-uid file
/// behind. Compiled once a process.
///
/// # Errors
/// exit 4 if the shipped data is broken.
pub fn program(deny_suid: bool) -> Result<&'static [u8], Fault> {
    static COMPILED: [OnceLock<Vec<u8>>; 2] = [const { OnceLock::new() }; 2];
    let place = &COMPILED[usize::from(deny_suid)];
    if let Some(known) = place.get() {
        return Ok(known);
    }
    let sources: &[&str] = if deny_suid { &[BASELINE, NO_SUID] } else { &[BASELINE] };
    let broken = |e| Fault::ours("bundle:seccomp", format!("the seccomp profile cannot be compiled: {e}"));
    let code = compile(sources).map_err(broken)?;
    Ok(place.get_or_init(|| code.into_iter().flat_map(Instruction::bytes).collect()))
}

fn filters(sources: &[&str]) -> Result<Filters, String> {
    let mut all = Filters::new();
    for source in sources {
        all.extend(serde_json::from_str::<Filters>(source).map_err(|e| e.to_string())?);
    }
    Ok(all)
}

fn compile(sources: &[&str]) -> Result<Vec<Instruction>, String> {
    let filters = filters(sources)?;
    let otherwise = match filters.values().map(|f| f.mismatch_action).collect::<Vec<_>>().split_first() {
        Some((first, rest)) if rest.iter().all(|a| *a == Action::Allow) => first.code(),
        _ => return Err("all filters but the first must allow what they do not name".to_owned()),
    };
    let mut calls: BTreeMap<u32, Vec<bpf::Case>> = BTreeMap::new();
    for filter in filters.values().rev() {
        for rule in &filter.filter {
            // What this architecture does not have needs no rule.
            let Ok(call) = Sysno::from_str(&rule.syscall) else { continue };
            let conditions = rule.args.iter().map(Argument::condition).collect();
            calls.entry(call.id() as u32).or_default().push((conditions, filter.match_action.code()));
        }
    }
    let unnamed = bpf::cases(&[], otherwise)?;
    let mut ranges = vec![(0, unnamed.clone())];
    for (number, cases) in calls {
        turn(&mut ranges, number, bpf::cases(&cases, otherwise)?);
        turn(&mut ranges, number + 1, unnamed.clone());
    }
    bpf::program(&ranges, libc::SECCOMP_RET_KILL_PROCESS)
}

/// From `number` on `code` answers, unless it does already.
fn turn(ranges: &mut Vec<(u32, Vec<Instruction>)>, number: u32, code: Vec<Instruction>) {
    ranges.pop_if(|(first, _)| *first == number);
    if ranges.last().is_none_or(|(_, before)| *before != code) {
        ranges.push((number, code));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// A BPF machine that knows what seccomp programs use, so that the shipped data is judged without a kernel.
    fn judge(program: &[Instruction], arch: u32, nr: u32, args: [u64; 6]) -> u32 {
        steps(program, arch, nr, args).0
    }

    /// Its answer, and how many instructions it took.
    fn steps(program: &[Instruction], arch: u32, nr: u32, args: [u64; 6]) -> (u32, usize) {
        let mut data = [0u8; 64];
        data[0..4].copy_from_slice(&nr.to_ne_bytes());
        data[4..8].copy_from_slice(&arch.to_ne_bytes());
        for (n, arg) in args.iter().enumerate() {
            data[16 + n * 8..24 + n * 8].copy_from_slice(&arg.to_ne_bytes());
        }
        let (mut pc, mut a, mut taken) = (0usize, 0u32, 0usize);
        loop {
            let Instruction { code, jt, jf, k } = program[pc];
            (pc, taken) = (pc + 1, taken + 1);
            let jump = |yes: bool| usize::from(if yes { jt } else { jf });
            match code {
                0x20 => a = u32::from_ne_bytes(data[k as usize..k as usize + 4].try_into().expect("in bounds")),
                0x54 => a &= k,
                0x05 => pc += k as usize,
                0x15 => pc += jump(a == k),
                0x25 => pc += jump(a > k),
                0x35 => pc += jump(a >= k),
                0x06 => return (k, taken),
                other => panic!("instruction {other:#x}"),
            }
        }
    }

    const SOURCES: [&[&str]; 2] = [&[BASELINE], &[BASELINE, NO_SUID]];

    fn verdict(deny_suid: bool, arch: u32, nr: i64, args: [u64; 6]) -> u32 {
        let program = compile(SOURCES[usize::from(deny_suid)]).expect("shipped data compiles");
        judge(&program, arch, nr as u32, args)
    }

    /// What the kernel would do with each filter installed by itself, as seccompiler compiles them.
    fn chained(programs: &[Vec<Instruction>], nr: u32, args: [u64; 6]) -> u32 {
        let mut worst = libc::SECCOMP_RET_ALLOW;
        for program in programs {
            let one = judge(program, X86_64, nr, args);
            if (one & 0xffff_0000) as i32 <= (worst & 0xffff_0000) as i32 {
                worst = one;
            }
        }
        worst
    }

    fn chains(sources: &[&str]) -> Vec<Vec<Instruction>> {
        let mut in_order = BTreeMap::new();
        for source in sources {
            in_order.extend(
                seccompiler::compile_from_json(source.as_bytes(), seccompiler::TargetArch::x86_64)
                    .expect("shipped data compiles"),
            );
        }
        let ours = |i: seccompiler::sock_filter| Instruction { code: i.code, jt: i.jt, jf: i.jf, k: i.k };
        in_order.into_values().map(|program| program.into_iter().map(ours).collect()).collect()
    }

    /// Around every value that a rule of this call compares an argument with.
    fn samples(filters: &Filters, number: u32) -> Vec<[u64; 6]> {
        let mut values: [BTreeSet<u64>; 6] = std::array::from_fn(|_| [0, u64::MAX].into());
        let of_call = |r: &&Rule| Sysno::from_str(&r.syscall).is_ok_and(|n| n.id() as u32 == number);
        for arg in filters.values().flat_map(|f| &f.filter).filter(of_call).flat_map(|r| &r.args) {
            let (value, all) = (u64::from(arg.val), &mut values[usize::from(arg.index)]);
            all.extend([
                value,
                value | 1 << 32,
                value ^ 1,
                value.wrapping_add(1),
                value.wrapping_sub(1),
                value | 3,
                u64::from(!arg.val),
            ]);
        }
        let mut all = vec![[0u64; 6]];
        for (index, of_one) in values.iter().enumerate().filter(|(_, of_one)| of_one.len() > 2) {
            all = all
                .into_iter()
                .flat_map(|one| {
                    of_one.iter().map(move |v| {
                        let mut one = one;
                        one[index] = *v;
                        one
                    })
                })
                .collect();
        }
        all.push([u64::MAX; 6]);
        all
    }

    const X86_64: u32 = 0xc000_003e;
    const EPERM: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
    const ENOSYS: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
    const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
    const KILL: u32 = libc::SECCOMP_RET_KILL_PROCESS;

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn the_shipped_list_lets_programs_work_and_closes_the_known_ways_out() {
        let one = |nr, args| verdict(false, X86_64, nr, args);
        let none = [0; 6];
        for nr in [
            libc::SYS_read,
            libc::SYS_write,
            libc::SYS_mmap,
            libc::SYS_execve,
            libc::SYS_futex,
            libc::SYS_getrandom,
            libc::SYS_exit_group,
        ] {
            assert_eq!(one(nr, none), ALLOW, "call {nr}");
        }
        for nr in [
            libc::SYS_mount,
            libc::SYS_ptrace,
            libc::SYS_unshare,
            libc::SYS_setns,
            libc::SYS_bpf,
            libc::SYS_keyctl,
            libc::SYS_perf_event_open,
        ] {
            assert_eq!(one(nr, none), EPERM, "call {nr}");
        }
        assert_eq!(one(libc::SYS_clone3, none), ENOSYS, "glibc falls back to clone");
        assert_eq!(one(libc::SYS_clone, [libc::SIGCHLD as u64, 0, 0, 0, 0, 0]), ALLOW);
        assert_ne!(one(libc::SYS_clone, [libc::CLONE_NEWUSER as u64, 0, 0, 0, 0, 0]), ALLOW);
        assert_eq!(one(libc::SYS_socket, [libc::AF_INET as u64, 1, 0, 0, 0, 0]), ALLOW);
        assert_ne!(one(libc::SYS_socket, [libc::AF_VSOCK as u64, 1, 0, 0, 0, 0]), ALLOW);
        assert_ne!(one(libc::SYS_socket, [libc::AF_ALG as u64, 1, 0, 0, 0, 0]), ALLOW);
        assert_eq!(one(libc::SYS_prlimit64, [0, 7, 0, 0, 0, 0]), ALLOW);
        assert_ne!(one(libc::SYS_prlimit64, [1, 0, 1, 0, 0, 0]), ALLOW, "init's own limits are not the program's");
        for nr in [libc::SYS_sched_setaffinity, libc::SYS_sched_setscheduler, libc::SYS_sched_setattr, libc::SYS_sched_setparam] {
            assert_eq!((one(nr, none), one(nr, [1, 0, 0, 0, 0, 0])), (ALLOW, EPERM), "init's own pace, call {nr}");
        }
        for (nr, by_user) in [(libc::SYS_setpriority, 2), (libc::SYS_ioprio_set, 3)] {
            let on = |which, who| one(nr, [which, who, 0, 0, 0, 0]);
            assert_eq!((on(1, 0), on(1, 1), on(by_user, 0)), (ALLOW, EPERM, EPERM), "call {nr}");
        }
        assert_ne!(one(libc::SYS_ioctl, [0, libc::TIOCSTI, 0, 0, 0, 0]), ALLOW);
        assert_ne!(one(libc::SYS_ioctl, [0, libc::TIOCSTI | 1 << 32, 0, 0, 0, 0]), ALLOW, "the kernel looks at 32 bits");
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn foreign_call_conventions_are_fatal() {
        assert_eq!(verdict(false, X86_64, 0x4000_0000, [0; 6]), KILL, "x32");
        assert_eq!(verdict(false, 0x4000_0003, 20, [0; 6]), KILL, "i386");
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn set_uid_files_can_be_forbidden() {
        let chmod = |deny, mode| verdict(deny, X86_64, libc::SYS_fchmodat, [0, 0, mode, 0, 0, 0]);
        assert_eq!((chmod(true, 0o755), chmod(true, 0o4755), chmod(true, 0o2755)), (ALLOW, EPERM, EPERM));
        assert_eq!(chmod(false, 0o4755), ALLOW);
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn one_searching_program_answers_as_a_chain_of_filters_would() {
        for sources in SOURCES {
            let (one, chains) = (compile(sources).expect("compiles"), chains(sources));
            let filters = filters(sources).expect("shipped data");
            let mut judged = 0;
            for nr in (0..=1024).chain([0x3fff_ffff, u32::MAX >> 1, u32::MAX]) {
                for args in samples(&filters, nr) {
                    let expected = if nr >= 0x4000_0000 { KILL } else { chained(&chains, nr, args) };
                    assert_eq!(judge(&one, X86_64, nr, args), expected, "call {nr} with {args:x?}");
                    judged += 1;
                }
            }
            assert!(judged > 10_000, "{judged} calls are too few to tell");
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn every_rule_names_a_call_that_there_is_and_none_is_in_vain() {
        let filters = filters(SOURCES[1]).expect("shipped data");
        for (name, filter) in &filters {
            let named = |with_args: bool| -> BTreeSet<&str> {
                filter.filter.iter().filter(|r| r.args.is_empty() != with_args).map(|r| r.syscall.as_str()).collect()
            };
            let (judged, plain) = (named(true), named(false));
            let unknown: Vec<_> = judged.union(&plain).filter(|call| Sysno::from_str(call).is_err()).collect();
            assert!(unknown.is_empty(), "{name}: {unknown:?}");
            let both: Vec<_> = judged.intersection(&plain).collect();
            assert!(both.is_empty(), "{name}: {both:?} are named with conditions and without");
            let twice = filter.filter.iter().filter(|r| r.args.is_empty()).count() - plain.len();
            assert_eq!(twice, 0, "{name} names calls twice");
        }
    }

    #[test]
    fn a_call_is_found_in_few_steps() {
        let program = compile(SOURCES[0]).expect("shipped data compiles");
        let none = [0; 6];
        let allowed = (0..=1024).map(|nr| steps(&program, X86_64, nr, none)).filter(|(answer, _)| *answer == ALLOW);
        let (calls, most) = allowed.fold((0, 0), |(calls, most), (_, taken)| (calls + 1, most.max(taken)));
        assert!(calls > 200 && most < 40, "{calls} calls are allowed, after up to {most} steps");
        let bytes = super::program(false).expect("shipped data compiles");
        assert!(bytes.chunks(8).eq(program.iter().map(|i| i.bytes())));
    }
}
