//! The seccomp allow-list: data under `bundles/baseline/`, compiled to BPF here, loaded by init in the program's own process.
//!
//! libseccomp builds its filter anew inside the runtime at every start, 12–18 ms; this takes microseconds.

use crate::model::fault::Fault;
use std::collections::BTreeMap;

const BASELINE: &str = include_str!("../../bundles/baseline/seccomp.json");
const NO_SUID: &str = include_str!("../../bundles/baseline/seccomp-nosuid.json");

/// `struct sock_filter` as one number: code, jt, jf, k from the top (linux/filter.h).
fn packed(code: u16, jt: u8, jf: u8, k: u32) -> u64 {
    (u64::from(code) << 48) | (u64::from(jt) << 40) | (u64::from(jf) << 32) | u64::from(k)
}

/// The reverse of how filters travel.
pub fn unpacked(instruction: u64) -> (u16, u8, u8, u32) {
    ((instruction >> 48) as u16, (instruction >> 40) as u8, (instruction >> 32) as u8, instruction as u32)
}

/// Refuses the x32 calls explicitly: they come with x86-64's own architecture value and bit 30 set in the number, which
/// seccompiler does not look at (rust-vmm/seccompiler#74).
fn no_x32() -> Vec<u64> {
    let (load, at_least, ret) = (0x20, 0x35, 0x06); // BPF_LD|W|ABS, BPF_JMP|JGE|K, BPF_RET|K
    vec![
        packed(load, 0, 0, 0), // seccomp_data.nr
        packed(at_least, 0, 1, 0x4000_0000),
        packed(ret, 0, 0, libc::SECCOMP_RET_KILL_PROCESS),
    ]
}

/// The programs to be installed, in order. The kernel takes the strictest answer of all, and of equal ones the last's.
///
/// # Errors
/// exit 4 if the shipped data is broken.
pub fn compile(deny_suid: bool) -> Result<Vec<Vec<u64>>, Fault> {
    let sources: &[&str] = if deny_suid { &[BASELINE, NO_SUID] } else { &[BASELINE] };
    let broken =
        |e: &dyn std::fmt::Display| Fault::ours("bundle:seccomp", format!("the seccomp profile cannot be compiled: {e}"));
    let arch = std::env::consts::ARCH.try_into().map_err(|e: seccompiler::BackendError| broken(&e))?;
    let mut programs = Vec::new();
    for source in sources {
        let compiled = seccompiler::compile_from_json(source.as_bytes(), arch).map_err(|e| broken(&e))?;
        let in_order: BTreeMap<_, _> = compiled.into_iter().collect();
        programs.extend(in_order.into_values());
    }
    let pack =
        |program: Vec<seccompiler::sock_filter>| program.iter().map(|i| packed(i.code, i.jt, i.jf, i.k)).collect::<Vec<u64>>();
    let mut programs: Vec<Vec<u64>> = programs.into_iter().map(pack).collect();
    if cfg!(target_arch = "x86_64")
        && let Some(first) = programs.first_mut()
    {
        first.splice(0..0, no_x32());
    }
    Ok(programs)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A BPF machine that knows what seccomp programs use, so that the shipped data is judged without a kernel.
    fn judge(program: &[u64], arch: u32, nr: u32, args: [u64; 6]) -> u32 {
        let mut data = [0u8; 64];
        data[0..4].copy_from_slice(&nr.to_ne_bytes());
        data[4..8].copy_from_slice(&arch.to_ne_bytes());
        for (n, arg) in args.iter().enumerate() {
            data[16 + n * 8..24 + n * 8].copy_from_slice(&arg.to_ne_bytes());
        }
        let (mut pc, mut a) = (0usize, 0u32);
        loop {
            let (code, jt, jf, k) = unpacked(program[pc]);
            pc += 1;
            let jump = |yes: bool| usize::from(if yes { jt } else { jf });
            match code {
                0x20 => a = u32::from_ne_bytes(data[k as usize..k as usize + 4].try_into().expect("in bounds")),
                0x54 => a &= k,
                0x05 => pc += k as usize,
                0x15 => pc += jump(a == k),
                0x25 => pc += jump(a > k),
                0x35 => pc += jump(a >= k),
                0x06 => return k,
                other => panic!("instruction {other:#x}"),
            }
        }
    }

    /// What the kernel would do: the strictest of all programs, the last of equals.
    fn verdict(deny_suid: bool, arch: u32, nr: i64, args: [u64; 6]) -> u32 {
        let programs = compile(deny_suid).expect("shipped data compiles");
        let mut worst = libc::SECCOMP_RET_ALLOW;
        for program in programs {
            let one = judge(&program, arch, nr as u32, args);
            if (one & 0xffff_0000) as i32 <= (worst & 0xffff_0000) as i32 {
                worst = one;
            }
        }
        worst
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
}
