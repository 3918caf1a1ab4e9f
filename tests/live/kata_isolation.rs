//! Two hostile avatars of one kata, at the same time: each tries to read, write, signal, trace, reach and exhaust the other, the
//! host, and what runcell keeps.

use super::dojo::{Dojo, digest};
use super::harness::{in_rig, live, until};
use serde_json::{Value, json};

/// What each has that the other is not to get at: files, processes, sockets of all kinds.
const HAVE: &str = r"import ctypes, errno, json, os, re, signal, socket, stat, sys, threading, time
me, other = sys.argv[1], sys.argv[2]
open('/sandbox/secret', 'w').write('secret of ' + me); open('/tmp/secret', 'w').write('secret of ' + me); open('/dev/shm/secret', 'w').write('secret of ' + me)
servers = []
def serve(family, address):
    s = socket.socket(family); s.bind(address); s.listen(); servers.append(s)
    threading.Thread(target=lambda: s.accept(), daemon=True).start()
serve(socket.AF_UNIX, '\0' + me); serve(socket.AF_UNIX, '/tmp/' + me); port = lambda name: 7000 + sum(name.encode()); serve(socket.AF_INET, ('127.0.0.1', port(me)))
open('/shared/' + me, 'w').write('here')
began = time.monotonic()
while not os.path.exists('/shared/' + other):
    if time.monotonic() - began > 60: sys.exit('the other never came')
    time.sleep(0.01)
told = {}
libc = ctypes.CDLL(None, use_errno=True); libc.syscall.restype = ctypes.c_long
def call(n, *args):
    ctypes.set_errno(0)
    return 0 if libc.syscall(n, *args) >= 0 else errno.errorcode.get(ctypes.get_errno())
def tried(act):
    try: act()
    except OSError as e: return errno.errorcode.get(e.errno) or str(e)
    return 0
";

/// What each tries; 0 stands for what worked.
const TRY: &str = r"
pids = [int(p) for p in os.listdir('/proc') if p.isdigit()]
told['strangers'] = [p for p in pids if p != 1 and p != os.getpid() and os.stat(f'/proc/{p}').st_uid != os.getuid()]
told['seen'] = len(pids)
told['cmdlines'] = sum(other in open(f'/proc/{p}/cmdline').read().split('\0')[1:3] for p in pids if p not in (1, os.getpid()))
told['abstract'] = tried(lambda: socket.socket(socket.AF_UNIX).connect('\0' + other))
told['unix'] = tried(lambda: socket.socket(socket.AF_UNIX).connect('/tmp/' + other))
told['tcp'] = tried(lambda: socket.create_connection(('127.0.0.1', port(other)), timeout=1))
told['udp out'] = tried(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('10.0.0.1', 9)))
for p in ['/proc/1/root', '/proc/1/cwd', '/proc/1/fd', '/proc/1/mem', '/proc/1/environ']:
    told['open ' + p] = tried(lambda: os.listdir(p) if p.endswith(('root', 'cwd', 'fd')) else open(p, 'rb').read(1))
told['kill all'] = [tried(lambda: os.kill(p, 9)) for p in range(2, 40) if p not in pids and str(p) not in os.listdir('/proc/self/task')]
told['kill all'] = [e for e in told['kill all'] if e == 0]
told['ptrace'] = call(101, 16, 1, 0, 0); told['vm'] = call(310, 1, 0, 0, 0, 0, 0); told['pidfd'] = call(438, 0, 0, 0)
for place in json.loads(sys.argv[3]):
    told['host ' + place] = tried(lambda: os.stat(place))
told['setuid there'] = tried(lambda: os.chmod('/shared/' + me, 0o4755))
told['mknod there'] = tried(lambda: os.mknod('/shared/node', 0o666 | stat.S_IFCHR, os.makedev(1, 1)))
told['link there'] = tried(lambda: os.link('/sandbox/secret', '/shared/hard'))
told['link usr'] = tried(lambda: os.link('/usr/bin/env', '/shared/env'))
told['chown'] = tried(lambda: os.chown('/shared/' + me, 40000, 40000))
told['chown root'] = tried(lambda: os.chown('/shared/' + me, 0, 0))
told['up'] = sorted(os.listdir('/shared/..')) == sorted(os.listdir('/'))
told['mv'] = tried(lambda: os.rename('/shared', '/sandbox/shared'))
told['umount'] = call(166, b'/shared', 2); told['unshare'] = call(272, 0x10000000)
os.symlink('/sandbox/secret', f'/shared/to-{me}'); os.symlink('/proc/self/root/../../../etc/shadow', f'/shared/shadow-{me}')
while not os.path.lexists(f'/shared/shadow-{other}'): time.sleep(0.01)
told['by link'] = open(f'/shared/to-{other}').read()
told['shadow'] = tried(lambda: open(f'/shared/shadow-{other}').read())
told['owner'] = [os.stat('/shared/' + other).st_uid, os.getuid()]
told['map'] = open('/proc/self/uid_map').read().split()
told['xattr'] = tried(lambda: os.setxattr('/shared/' + me, 'trusted.x', b'1')); told['caps'] = tried(lambda: os.setxattr('/shared/' + me, 'security.capability', bytes(20)))
open('/sandbox/own', 'w').write('made by ' + me)
open(f'/shared/done-{me}', 'w').close()
while not os.path.exists(f'/shared/done-{other}'): time.sleep(0.01)
print(json.dumps(told))
";

#[test]
fn two_hostile_avatars_get_nothing_of_each_other_or_the_host() {
    live(|host| {
        let dojo = Dojo::new(host, &["--shared"]);
        let program = format!("{HAVE}{TRY}");
        let names = [("lion", "bear"), ("bear", "lion")];
        let ids: Vec<u64> = names.iter().map(|(me, _)| dojo.avatar(me, &json!({"attack.py": program, "mine": "mine"}))).collect();
        let store = host.root().join("store");
        let places = json!([
            store.join("katas"),
            store,
            host.root(),
            host.dir("policy.toml"),
            "/sys/fs/cgroup",
            "/proc/1/root/etc/shadow",
            "/etc/shadow",
            "/root/.bashrc",
            "/run",
            "/var/lib/runcell/katas"
        ]);
        let there: Vec<Value> = places.as_array().expect("a list").clone();
        let begun = names.map(|(me, other)| {
            dojo.begin(
                me,
                &json!({"argv": ["python3", "attack.py", me, other, places.to_string()], "limits": {"wall": "150s"}}),
                &[],
            )
        });
        let told: Vec<Value> = begun.into_iter().map(|started| started.outcome().told()).collect();
        for ((me, other), told) in names.iter().zip(&told) {
            let none = json!([]);
            assert_eq!((&told["strangers"], &told["kill all"], &told["cmdlines"]), (&none, &none, &json!(0)), "{me}: {told}");
            for what in [
                "abstract",
                "unix",
                "tcp",
                "udp out",
                "open /proc/1/root",
                "open /proc/1/cwd",
                "open /proc/1/fd",
                "open /proc/1/mem",
                "open /proc/1/environ",
                "ptrace",
                "vm",
                "pidfd",
                "setuid there",
                "mknod there",
                "link there",
                "link usr",
                "chown",
                "chown root",
                "mv",
                "umount",
                "unshare",
                "shadow",
                "xattr",
                "caps",
            ] {
                assert_ne!(told[what], 0, "{me}: {what}: {told}");
                assert_ne!(told[what], Value::Null, "{me}: {what} was not tried");
            }
            for place in &there {
                let place = place.as_str().expect("a path");
                // /run is there, and the cell's own, with nothing in it.
                assert!(place == "/run" || told[format!("host {place}")] != 0, "{me} sees {place}: {told}");
            }
            assert_eq!(
                (told["up"].as_bool(), told["by link"].as_str()),
                (Some(true), Some(&*format!("secret of {me}"))),
                "{other}: {told}"
            );
            assert_eq!(told["owner"][0], told["owner"][1], "what is shared is everybody's own: {told}");
        }
        let first = |n: usize| told[n]["map"][1].as_str().and_then(|id| id.parse::<u64>().ok()).expect("a map");
        assert_eq!(vec![first(0), first(1)], ids, "each has its own ids for life");
        assert!(ids[0].abs_diff(ids[1]) >= 65_536);
        for (me, _) in names {
            let home = dojo.home(me);
            assert_eq!(home["own"].0, digest(format!("made by {me}").as_bytes()));
            assert_eq!(
                (home["mine"].0.clone(), home["secret"].0.clone()),
                (digest(b"mine"), digest(format!("secret of {me}").as_bytes()))
            );
        }
        host.is_responsive();
        dojo.retire();
    });
}

#[test]
fn one_who_takes_all_there_is_leaves_the_other_his() {
    live(|host| {
        let dojo = Dojo::new(host, &[]);
        let greedy = "import os
def grab(act):
    kept = []
    try:
        while len(kept) < 200000: kept.append(act(len(kept)))
    except OSError: pass
    return kept
if os.fork() == 0:
    a = grab(lambda n: os.open('/dev/null', 0)); [os.close(f) for f in a]
    grab(lambda n: open(f'/tmp/{n}', 'w').close()); grab(lambda n: open(f'/sandbox/{n}', 'w').close())
def bomb():
    while True:
        try: os.fork()
        except OSError: pass
bomb()";
        dojo.avatar("hyena", &json!({"greedy.py": greedy}));
        dojo.script(
            "mouse",
            "n=0; for i in $(seq 50); do (true) && n=$((n + 1)); done; head -c 1000000 /dev/zero > f; echo $n; wc -c < f",
        );
        let hyena = dojo.begin(
            "hyena",
            &json!({"argv": ["python3", "greedy.py"], "limits": {"wall": if in_rig() { "60s" } else { "15s" }}}),
            &[],
        );
        let run = hyena.run_id();
        until("it is greedy", || super::leftovers::processes().iter().filter(|(_, group, _)| group.contains(&run)).count() > 20);
        dojo.press("mouse", &json!({})).is("ok").said("50\n1000000\n");
        let hyena = hyena.outcome();
        assert!(
            ["wall_time", "memory"].contains(&hyena.verdict().as_str()),
            "{}",
            hyena.json.chars().take(500).collect::<String>()
        );
        dojo.press("mouse", &json!({})).is("ok");
        assert_eq!(dojo.names("mouse"), ["cyber-dojo.sh", "f"]);
        dojo.retire();
    });
}
