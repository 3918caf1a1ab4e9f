//! What a program may not see, reach or become.

use super::gate;
use super::harness::{Host, command, live};
use serde_json::{Value, json};

/// What all of these probes begin with: a system call by number, and its errno (0: it succeeded).
const CALL: &str = r"import ctypes, errno, json, os, re, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
def call(n, *args):
    ctypes.set_errno(0)
    r = libc.syscall(n, *[ctypes.c_long(a) if isinstance(a, int) else a for a in args])
    return 0 if r >= 0 else errno.errorcode.get(ctypes.get_errno())
def tried(act):
    try: act()
    except OSError as e: return errno.errorcode.get(e.errno)
    return 0
def status(path='/proc/self/status'): return dict(re.findall(r'(\w+):\s+(.*)', open(path).read()))
told = {}
";

#[track_caller]
fn probe(host: &Host, more: Value, program: &str) -> Value {
    let mut job =
        json!({"argv": ["python3", "probe.py"], "files": {"probe.py": format!("{CALL}{program}\nprint(json.dumps(told))\n")}});
    job.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    host.run(job).told()
}

#[test]
fn no_capability_no_new_privilege_and_filters() {
    live(|host| {
        for user in ["1000", "0:0"] {
            let told = probe(
                host,
                json!({"user": user}),
                "s = status(); told = {k: s[k] for k in s if k.startswith(('Cap', 'NoNew', 'Sec', 'TracerP'))}",
            );
            for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
                assert_eq!(told[set], "0000000000000000", "{set}: {told}");
            }
            assert_eq!((&told["NoNewPrivs"], &told["Seccomp"]), (&json!("1"), &json!("2")), "{told}");
            let filters: u32 = told["Seccomp_filters"].as_str().and_then(|n| n.parse().ok()).expect("a number");
            assert!(filters >= 2, "{told}");
        }
    });
}

#[test]
fn when_memory_ends_the_kernel_takes_the_program_before_init() {
    live(|host| {
        let program = "import time
def score(pid): return int(open(f'/proc/{pid}/oom_score_adj').read())
for _ in range(1000):
    if score(1) == 0: break
    time.sleep(0.005)
told = {'init': score(1), 'ours': score('self')}";
        assert_eq!(probe(host, json!({}), program), json!({"init": 0, "ours": 500}));
    });
}

#[test]
fn init_cannot_be_read_written_traced_or_limited() {
    live(|host| {
        let program = "
for name in ['mem', 'environ', 'maps', 'exe', 'root', 'cwd', 'auxv', 'stack', 'syscall', 'io']:
    told[name] = tried(lambda: open('/proc/1/' + name, 'rb').read(1))
told['fd'] = min((str(tried(lambda: open(f'/proc/1/fd/{n}'))) for n in range(20)), default='none').replace('0', '') or 0; told['ns'] = tried(lambda: os.readlink('/proc/1/ns/user'))
told['exe write'] = tried(lambda: open('/proc/1/exe', 'r+b')); told['mem write'] = tried(lambda: open('/proc/1/mem', 'r+b'))
told['self exe'] = tried(lambda: open('/proc/self/exe', 'r+b')); told['init'] = tried(lambda: open('/dev/.runcell/init', 'r+b'))
told['oom'] = tried(lambda: open('/proc/1/oom_score_adj', 'w').write('1000'))
told['ptrace'] = call(101, 16, 1, 0, 0); told['vm'] = call(310, 1, 0, 0, 0, 0, 0); told['vm write'] = call(311, 1, 0, 0, 0, 0, 0)
told['prlimit'] = call(302, 1, 7, ctypes.byref((ctypes.c_ulong * 2)(1, 1)), 0); told['pidfd_getfd'] = call(438, 0, 0, 0)

for name in ['comm', 'timerslack_ns', 'oom_adj', 'loginuid', 'sched', 'coredump_filter', 'autogroup', 'setgroups', 'uid_map', 'clear_refs', 'attr/current']:
    told['write ' + name] = tried(lambda: open('/proc/1/' + name, 'w').write('0'))
told['sched'] = call(144, 1, 5, ctypes.byref(ctypes.c_int(0))); told['attr'] = call(314, 1, ctypes.create_string_buffer(b'\x30', 48), 0)
told['ioprio'] = call(251, 1, 1, 3 << 13); told['nice group'] = call(141, 1, 1, 19); told['nice user'] = call(141, 2, 0, 19)
told['kcmp'] = call(312, 1, os.getpid(), 0, 0, 0); told['setpriority'] = call(141, 0, 1, 19); told['affinity'] = call(203, 1, 8, (ctypes.c_ulong * 1)(1))
fd = libc.syscall(434, 1, 0); told['pidfd_send'] = call(424, fd, 9, 0, 0) if fd >= 0 else 'none'
told['kill'] = [tried(lambda: os.kill(1, s)) for s in (9, 15, 19, 17)]
told['parent'] = os.getppid()";
        for user in ["1000", "0:0"] {
            let told = probe(host, json!({"user": user}), program);
            let free = ["parent", "kill"];
            for (what, errno) in told.as_object().expect("an object").iter().filter(|(k, _)| !free.contains(&k.as_str())) {
                assert_ne!(errno, 0, "{what} as {user}: {told}");
            }
            assert_eq!(told["parent"], 1);
        }
    });
}

#[test]
fn the_kernels_doors_are_shut() {
    live(|host| {
        let program = "
ns = {'user': 0x10000000, 'mount': 0x20000, 'pid': 0x20000000, 'net': 0x40000000, 'uts': 0x4000000, 'ipc': 0x8000000, 'cgroup': 0x2000000}
told['unshare time'] = call(272, 0x80)
for name, flag in ns.items():
    told['unshare ' + name] = call(272, flag); told['clone ' + name] = call(56, flag | 17, 0, 0, 0, 0)
told['clone3'] = call(435, ctypes.create_string_buffer(b'\\0\\0\\0\\x10' + bytes(84)), 88)
told['setns'] = call(308, 0, 0); told['mount'] = call(165, b'none', b'/tmp', b'tmpfs', 0, 0); told['umount'] = call(166, b'/tmp', 2)
told['pivot_root'] = call(155, b'/tmp', b'/tmp'); told['chroot'] = call(161, b'/tmp')
told['open_tree'] = call(428, -100, b'/', 1); told['move_mount'] = call(429, -1, 0, -1, 0, 0); told['fsopen'] = call(430, b'tmpfs', 0)
told['mount_setattr'] = call(442, -1, b'/', 0, 0, 0); told['ptrace'] = call(101, 0, 0, 0, 0)
told['keyctl'] = call(250, 0, -3, 0); told['add_key'] = call(248, b'user', b'x', b'y', 1, -3); told['request_key'] = call(249, b'user', b'x', 0, 0)
told['bpf'] = call(321, 0, 0, 0); told['perf'] = call(298, 0, 0, -1, -1, 0); told['userfaultfd'] = call(323, 0)
told['io_uring'] = call(425, 1, ctypes.create_string_buffer(120)); told['kexec'] = call(246, 0, 0, 0, 0); told['module'] = call(175, 0, 0, b'')
told['reboot'] = call(169, 0xfee1dead, 672274793, 0x1234567, 0); told['swapon'] = call(167, b'/tmp/x', 0); told['acct'] = call(163, b'/tmp/x')
told['settime'] = call(227, 0, ctypes.create_string_buffer(16)); told['adjtime'] = call(159, ctypes.create_string_buffer(208)) if False else 1
told['hostname'] = call(170, b'x', 1); told['iopl'] = call(172, 3); told['quotactl'] = call(179, 0, 0, 0, 0); told['syslog'] = call(103, 3, 0, 0)
told['by_handle'] = call(304, -100, 0, 0); told['fanotify'] = call(300, 0, 0); told['personality'] = call(135, 0x0400000)
told['lookup_dcookie'] = call(212, 0, 0, 0); told['vhangup'] = call(153); told['nfs'] = call(180, 0, 0, 0)
told['shmget'] = call(29, 0, 4096, 0o1600); told['msgget'] = call(68, 0, 0o1600); told['mq_open'] = call(240, b'q', 0o102, 0o600, 0); told['semget'] = 1 if call(64, 0, 1, 0o1600) else 1
told['mknod'] = call(133, b'/tmp/null', 0o20666, 0x103); told['mlock'] = call(151, 1) ; told['setuid'] = call(105, 1); told['setgroups'] = call(116, 1, ctypes.create_string_buffer(4))
told['nice user'] = call(141, 2, 0, 5)";
        for user in ["1000", "0:0"] {
            let told = probe(host, json!({"user": user}), program);
            for (what, errno) in told.as_object().expect("an object") {
                assert_ne!(errno, 0, "{what} as {user}: {told}");
            }
        }
    });
}

#[test]
fn no_second_architecture_is_a_way_around() {
    live(|host| {
        // int 0x80 reaches the 32-bit table: getpid there is 20.
        let program = "import mmap
code = bytes.fromhex('b814000000cd80c3')
m = mmap.mmap(-1, 4096, prot=7); m.write(code)
ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(m)))()
told['ran'] = True";
        let job = json!({"argv": ["python3", "-c", format!("{CALL}{program}\nprint('ran')")]});
        host.run(job).is("signaled").signal(31).said("");
        let x32 = format!("{CALL}print(call(0x40000000 + 39))");
        host.run(json!({"argv": ["python3", "-c", x32]})).is("signaled").signal(31).said("");
    });
}

#[test]
fn socket_families_are_few() {
    live(|host| {
        let program = "
for n in [n for n in range(1, 46) if n != 16]: told[n] = tried(lambda: socket.socket(n, socket.SOCK_DGRAM).close()) and tried(lambda: socket.socket(n, socket.SOCK_RAW).close()) and tried(lambda: socket.socket(n, socket.SOCK_STREAM).close())";
        let told = probe(host, json!({}), program);
        let open: Vec<u32> = told
            .as_object()
            .expect("an object")
            .iter()
            .filter(|(_, e)| **e == json!(0))
            .filter_map(|(n, _)| n.parse().ok())
            .collect();
        assert!(open.iter().all(|n| [1, 2, 10].contains(n)) && open.contains(&1) && open.contains(&2), "{told}");
    });
}

#[test]
fn there_is_no_network_but_loopback() {
    live(|host| {
        let program = "
told['links'] = sorted(l.split(':')[0].strip() for l in open('/proc/net/dev').readlines()[2:])
s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen(); c = socket.create_connection(s.getsockname(), 5); c.send(b'x'); told['loop'] = s.accept()[0].recv(1).decode()
told['name'] = socket.gethostbyname('localhost')
def reach(a):
    c = socket.socket(); c.settimeout(2); c.connect(a)
told['out'] = [tried(lambda: reach(a)) for a in [('1.1.1.1', 53), ('10.0.0.1', 80), ('169.254.169.254', 80)]]
told['raw'] = tried(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)); told['packet'] = tried(lambda: socket.socket(17, socket.SOCK_RAW)); told['netlink'] = [n for n in range(23) if not tried(lambda: socket.socket(16, socket.SOCK_RAW, n).close())]
told['resolve'] = tried(lambda: socket.gethostbyname('example.org'))";
        let told = probe(
            host,
            json!({}),
            &program.replace(
                "told['resolve'] = tried(lambda: socket.gethostbyname('example.org'))",
                "
try: socket.gethostbyname('example.org'); told['resolve'] = 0
except socket.gaierror: told['resolve'] = 1",
            ),
        );
        assert_eq!((&told["links"], &told["loop"], &told["name"]), (&json!(["lo"]), &json!("x"), &json!("127.0.0.1")), "{told}");
        assert_eq!(told["out"], json!(["ENETUNREACH", "ENETUNREACH", "ENETUNREACH"]), "{told}");
        assert_eq!(told["netlink"], json!([0]), "NETLINK_ROUTE, to look at one's own links");
        assert!(told["raw"] != 0 && told["packet"] != 0 && told["resolve"] != 0, "{told}");
    });
}

#[test]
fn the_hosts_network_needs_the_policys_leave() {
    live(|host| {
        let job = json!({"argv": ["sh", "-c", "ls -l /proc/self/ns/net | sed 's/.*-> //'"], "network": "host"});
        assert_eq!(host.refused(job.clone(), 3)["path"], "network");
        host.policy("network_host = true");
        let theirs = host.run(job);
        let ours = std::fs::read_link("/proc/self/ns/net").expect("there");
        theirs.is("ok").said(&format!("{}\n", ours.display()));
        assert_ne!(host.sh("ls -l /proc/self/ns/net | sed 's/.*-> //'").stdout(), theirs.stdout());
    });
}

#[test]
fn the_hosts_files_are_out_of_sight() {
    live(|host| {
        let secret = host.file("secret", "hush");
        let program = format!("
for path in ['/etc/shadow', '/etc/gshadow', '/etc/ssh', '/root/.ssh', '/var/log', '/home/x', '/run/runcell', '/boot', '/sys/kernel', '/etc/machine-id',
    '/dev/kmsg', '/dev/mem', '/dev/vda', '/dev/sda', '/dev/fuse', '/dev/net/tun', '/dev/console', '/dev/core', '/proc/kcore', '/proc/sysrq-trigger', '/proc/kmsg', '/var/run/docker.sock', '{secret}']:
    told[path] = tried(lambda: os.listdir(path) if os.path.isdir(path) else open(path, 'rb').read(1) or (_ for _ in ()).throw(OSError(2, '')))
");
        let told = probe(host, json!({"user": "0:0"}), &program);
        for (path, errno) in told.as_object().expect("an object") {
            assert_ne!(errno, 0, "{path}: {told}");
        }
        let listed = host.sh("ls /run /home /root /var /mnt /opt; ls /dev").stdout().replace("core\n", "");
        assert_eq!(
            listed,
            "/home:\n\n/mnt:\n\n/opt:\n\n/root:\n\n/run:\n\n/var:\ntmp\nfd\nfull\nnull\nptmx\npts\nrandom\nshm\nstderr\nstdin\nstdout\ntty\nurandom\nzero\n"
        );
    });
}

#[test]
fn nothing_but_its_own_places_can_be_written() {
    live(|host| {
        let program = "
for path in ['/x', '/usr/x', '/usr/bin/x', '/bin/x', '/etc/x', '/var/x', '/home/x', '/root/x', '/run/x', '/mnt/x', '/opt/x', '/dev/x', '/dev/.runcell/x', '/proc/x']:
    told[path] = tried(lambda: open(path, 'w'))
for path in ['/etc/passwd', '/etc/hosts', '/usr/bin/env', '/proc/sys/kernel/hostname', '/proc/sys/kernel/core_pattern']:
    told[path] = tried(lambda: open(path, 'r+'))
# Where the kernel has it, it is covered by the null device.
told['sysrq'] = tried(lambda: open('/proc/sysrq-trigger', 'w')) or str(os.stat('/proc/sysrq-trigger').st_rdev == os.stat('/dev/null').st_rdev or 0).replace('0', '') or 0
told['map'] = tried(lambda: open('/proc/self/uid_map', 'w').write('0 0 1'))
told['/usr'] = tried(lambda: os.rename('/usr', '/usr2')); told['/usr/bin'] = tried(lambda: os.chmod('/usr/bin', 0o777)); told['chown'] = tried(lambda: os.chown('/usr', 0, 0))
told['link'] = tried(lambda: os.link('/etc/passwd', '/tmp/p')); told['lower'] = tried(lambda: open('/proc/self/oom_score_adj', 'w').write('-900'))";
        for user in ["1000", "0:0"] {
            let told = probe(host, json!({"user": user}), program);
            for (path, errno) in told.as_object().expect("an object") {
                assert_ne!(errno, 0, "{path} as {user}: {told}");
            }
            assert_eq!((&told["/usr/x"], &told["/x"]).0.as_str().map(|e| e == "EROFS" || e == "EACCES"), Some(true), "{told}");
        }
    });
}

#[test]
fn no_terminal_can_be_reached_through_the_streams() {
    live(|host| {
        let program = "import fcntl, termios
told['tiocsti'] = [tried(lambda: fcntl.ioctl(fd, termios.TIOCSTI, b'x')) for fd in (0, 1, 2)]
told['tty'] = tried(lambda: os.open('/dev/tty', os.O_RDWR)); told['isatty'] = [os.isatty(fd) for fd in (0, 1, 2)]
told['session'] = os.getsid(0) == os.getpid(); told['group'] = os.getpgid(0) == os.getpid()";
        let told = probe(host, json!({}), program);
        assert!(told["tiocsti"].as_array().expect("three").iter().all(|e| *e != 0) && told["tty"] != 0, "{told}");
        assert_eq!(
            (&told["isatty"], &told["session"], &told["group"]),
            (&json!([false, false, false]), &json!(true), &json!(true))
        );
        // Nor where runcell itself stands on one.
        let mut script = command("/usr/bin/script");
        let ours = host.runcell(&["run", "-q", "--", "sh", "-c", "test -t 0 || test -t 1 || test -t 2 || echo pipes"]);
        let words: Vec<String> =
            std::iter::once(ours.get_program()).chain(ours.get_args()).map(|w| format!("'{}'", w.to_string_lossy())).collect();
        script.args(["-qec", &words.join(" "), "/dev/null"]).stdin(std::process::Stdio::null());
        let (code, out, _) = host.start(script).ended();
        assert_eq!((code, out.trim_end()), (0, "pipes"));
    });
}

#[test]
fn every_limit_of_the_process_is_as_asked() {
    live(|host| {
        let program = "import resource as r
told = {n: r.getrlimit(getattr(r, 'RLIMIT_' + n)) for n in ['CORE', 'MEMLOCK', 'MSGQUEUE', 'FSIZE', 'NOFILE', 'STACK', 'DATA', 'AS']}
told['raise'] = tried(lambda: r.setrlimit(r.RLIMIT_NOFILE, (99999, 99999))) if False else 1";
        let limits =
            json!({"file_size": "3MiB", "open_files": 77, "stack": "5MiB", "rlimits": {"data": 1u64 << 30, "as": 2u64 << 30}});
        let told = probe(host, json!({"limits": limits}), program);
        let both = |n: u64| json!([n, n]);
        assert_eq!((&told["CORE"], &told["MEMLOCK"], &told["MSGQUEUE"]), (&both(1), &both(0), &both(0)), "{told}");
        assert_eq!((&told["FSIZE"], &told["NOFILE"], &told["STACK"]), (&both(3 << 20), &both(77), &both(5 << 20)), "{told}");
        assert_eq!((&told["DATA"], &told["AS"]), (&both(1 << 30), &both(2 << 30)), "{told}");
    });
}

#[test]
fn two_cells_at_once_share_no_ids_and_see_nothing_of_each_other() {
    live(|host| {
        let job = json!({"argv": ["sh", "-c", "cat /proc/self/uid_map /proc/self/gid_map; ls /proc | grep -c '^[0-9]'; touch /tmp/x /dev/shm/x; sleep 1; ls /tmp /dev/shm"]});
        let started: Vec<_> = (0..3).map(|_| host.job(&job)).collect();
        let outs: Vec<String> = started.into_iter().map(|s| s.outcome().is("ok").stdout().to_owned()).collect();
        let mut firsts: Vec<u32> = Vec::new();
        for out in &outs {
            let map: Vec<u32> =
                out.lines().next().unwrap_or_default().split_whitespace().filter_map(|n| n.parse().ok()).collect();
            assert!(matches!(map[..], [0, first, 65_536] if first >= host.first_id()), "{out}");
            assert_eq!(out.lines().next(), out.lines().nth(1));
            firsts.push(map[1]);
        }
        firsts.sort_unstable();
        assert!(firsts.windows(2).all(|w| w[1] - w[0] >= 65_536), "{firsts:?}");
    });
}

#[test]
fn mounts_say_what_they_allow() {
    live(|host| {
        let ran = host.sh("cat /proc/self/mounts");
        let mut writable = Vec::new();
        for line in ran.is("ok").stdout().lines() {
            let [_, at, kind, options] = line.split(' ').take(4).collect::<Vec<_>>()[..] else { panic!("{line}") };
            let has = |o: &str| options.split(',').any(|x| x == o);
            let masked = at.starts_with("/proc/") || at.starts_with("/dev/");
            assert!(has("nosuid") || at == "/" || masked, "{line}");
            assert!(!["sysfs", "cgroup", "cgroup2", "debugfs", "tracefs", "securityfs", "bpf"].contains(&kind), "{line}");
            writable.extend((has("rw") && !masked).then(|| at.to_owned()));
        }
        writable.sort_unstable();
        // Some runtimes make a /dev themselves (`devices` in the quirks); root's of the cell, which nobody is.
        let own: &[&str] = if gate::runtime() == "runc" { &[] } else { &["/dev"] };
        assert_eq!(writable, [own, &["/proc", "/sandbox", "/tmp"]].concat());
    });
}
