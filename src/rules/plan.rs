//! Job + policy + facts -> Plan. No files, no clock, no environment: same inputs, same plan.

use super::{ceilings, limits, rootfs};
use crate::model::facts::Facts;
use crate::model::fault::Fault;
use crate::model::job::{Content, ImageRef, Job, Mount, MountSource, Network, Text, User};
use crate::model::limits::{Limits, Rlimit};
use crate::model::names::BundleName;
use crate::model::paths::{GuestPath, HostPath, RelPath};
use crate::model::plan::{Fill, Plan, PlannedMount, Shape};
use crate::model::policy::Policy;
use crate::model::wire::Collect;

/// Collected files: at most so much of each, of all, and so many.
const COLLECT_FILE: u64 = 1 << 20;
const COLLECT_TOTAL: u64 = 16 << 20;
const COLLECT_FILES: u64 = 1000;
/// Each string and pointer of argv and env counts against a quarter of the stack, and 6 MiB in all (execve(2), "Limits on size").
const ARGS_MOST: u64 = 6 << 20;
/// Where a program is looked up when the job's environment names no PATH.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The least environment that programs expect; the bundle's and the job's go over it.
const ENV: [(&str, &str); 3] = [("PATH", PATH), ("HOME", "/sandbox"), ("LANG", "C.UTF-8")];

/// Makes all decisions about a job that has been merged with its template.
///
/// # Errors
/// exit 2 where the job makes no sense (with the field's path), exit 3 where host or policy stand against it.
pub fn plan(job: Job, bundle: BundleName, policy: &Policy, facts: &Facts, best_effort: bool) -> Result<Plan, Fault> {
    let limits = ceilings::effective(job.limits, &policy.ceilings, policy.over, &facts.devices)?;
    let (cgroup, enforced) = limits::enforce(&limits, facts, best_effort || policy.best_effort)?;
    let image = job.image.unwrap_or(ImageRef::Host);
    let network = job.network.unwrap_or_default();
    permitted(policy, &image, network, &job.mounts)?;
    let argv = argv(job.argv)?;
    if let Some(n) = job.fallbacks.iter().position(|name| name.as_str().is_empty()) {
        return Err(Fault::host("bundle:unusable", "a program's name is empty")
            .at(format!("fallbacks[{n}]"))
            .hint(format!("give it a name in bundle {:?}, or leave it out", bundle.as_str())));
    }
    let env = environment(job.env.0.iter().map(|(k, v)| (k.as_str(), v.as_str())));
    arguments_fit(&argv, &env, &limits)?;
    let files: Vec<(RelPath, u32, Content)> =
        job.files.0.into_iter().map(|(path, file)| (path, file.mode, file.content)).collect();
    contents_permitted(policy, &files, job.stdin.as_ref())?;
    files_fit_together(&files)?;
    let root = rootfs::plan(&image, network, &job.mounts, facts)?;
    let mounts = planned(job.mounts, &limits);
    let mut writable = writable(&mounts);
    if job.writable_root {
        writable.push("/".to_owned());
    }
    let deny_suid = mounts.iter().any(|m| matches!(m, PlannedMount::Bind { writable: true, .. }));
    let globs: Vec<String> = job.collect.unwrap_or_default().into_iter().map(String::from).collect();
    let collect = Collect {
        globs,
        file_bytes: COLLECT_FILE,
        total_bytes: COLLECT_TOTAL,
        files: COLLECT_FILES,
        whole: false,
        prune: Vec::new(),
    };
    let shape = Shape {
        bundle,
        root,
        builds: false,
        writable_root: job.writable_root,
        user: job.user.unwrap_or(User { uid: 1000, gid: 1000 }),
        network,
        mounts,
        sandbox_bytes: limits.sandbox.0,
        inodes: limits.inodes,
        shm_bytes: limits.sandbox.0,
        first_id: None,
        hard: facts.hard.clone(),
    };
    let fill = Fill {
        argv,
        fallbacks: job.fallbacks.into_iter().map(String::from).collect(),
        env,
        cwd: cwd(job.cwd)?,
        stdin: job.stdin,
        files,
        brought: Vec::new(),
        rlimits: rlimits(&limits, facts)?,
        writable,
        collect: (!collect.globs.is_empty()).then_some(collect),
        deny_suid,
    };
    Ok(Plan { shape, fill, limits, cgroup, enforced })
}

fn argv(argv: Option<Vec<Text>>) -> Result<Vec<String>, Fault> {
    let argv: Vec<String> = argv.unwrap_or_default().into_iter().map(String::from).collect();
    match argv.first().map(String::as_str) {
        None => Err(Fault::caller("job:malformed", "argv is missing: there is no program to run")
            .at("argv")
            .hint("give argv at least a program, or a bundle that has one")),
        Some("") => Err(Fault::caller("job:malformed", "the program's name is empty").at("argv[0]")),
        Some(_) => Ok(argv),
    }
}

fn cwd(cwd: Option<GuestPath>) -> Result<GuestPath, Fault> {
    let cwd = match cwd {
        Some(cwd) => cwd,
        None => GuestPath::try_from("/sandbox".to_owned()).map_err(|why| Fault::ours("internal", why))?,
    };
    // CVE-2024-21626: a working directory behind a leaked descriptor was a way out.
    match ["/proc", "/dev"].iter().any(|place| cwd.is_within(place)) {
        true => Err(Fault::caller("job:malformed", format!("cwd {cwd} is not a place to work in"))
            .at("cwd")
            .hint("use /sandbox or /tmp")),
        false => Ok(cwd),
    }
}

/// `NAME=value` lines: the least that programs expect, then the job's own.
fn environment<'a>(own: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<String> {
    let mut all: std::collections::BTreeMap<&str, &str> = ENV.into();
    all.extend(own);
    all.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}

fn arguments_fit(argv: &[String], env: &[String], limits: &Limits) -> Result<(), Fault> {
    let room = (limits.stack.0 / 4).min(ARGS_MOST);
    let size = |all: &[String]| all.iter().map(|s| s.len() as u64 + 1 + 8).sum::<u64>();
    let (args, vars) = (size(argv), size(env));
    if args + vars < room {
        return Ok(());
    }
    Err(Fault::caller(
        "job:malformed",
        format!("argv ({args} bytes) and env ({vars} bytes) exceed the {room} bytes that execve takes"),
    )
    .at(if args > vars { "argv" } else { "env" })
    .hint("pass bulk data by stdin or files, or raise limits.stack (a quarter of it is for arguments)"))
}

/// What the policy says about image, network and binds.
fn permitted(policy: &Policy, image: &ImageRef, network: Network, mounts: &[Mount]) -> Result<(), Fault> {
    let refused = |path: String, what: String, key: &str| {
        Err(Fault::host("policy:refused", format!("the policy does not allow {what}"))
            .at(path)
            .hint(format!("the operator can allow it by `{key}` in the policy file (/etc/runcell/policy.toml)")))
    };
    if let ImageRef::Directory(dir) = image
        && !policy.images.iter().any(|allowed| dir.is_within(allowed))
    {
        return refused("image".into(), format!("the image directory {dir}"), "images");
    }
    if network == Network::Host && !policy.network_host {
        return refused("network".into(), "network \"host\"".into(), "network_host = true");
    }
    for (n, mount) in mounts.iter().enumerate() {
        let MountSource::Bind { source, writable } = &mount.source else { continue };
        let allowed = |list: &[HostPath]| list.iter().any(|allowed| source.is_within(allowed));
        if !allowed(&policy.bind) {
            return refused(format!("mounts[{n}].bind"), format!("a bind mount of {source}"), &format!("bind = [\"{source}\"]"));
        }
        if *writable && !allowed(&policy.bind_writable) {
            let key = format!("bind_writable = [\"{source}\"]");
            return refused(format!("mounts[{n}].writable"), format!("a writable bind mount of {source}"), &key);
        }
    }
    Ok(())
}

/// Whether the policy lets these host files in.
///
/// # Errors
/// exit 3, naming the file.
pub fn contents_permitted(policy: &Policy, files: &[(RelPath, u32, Content)], stdin: Option<&Content>) -> Result<(), Fault> {
    let named = files.iter().map(|(path, _, content)| (format!("files.{}", path.as_str()), content));
    for (place, content) in named.chain(stdin.map(|content| ("stdin".to_owned(), content))) {
        let Content::File(path) = content else { continue };
        if !policy.files.iter().any(|allowed| path.is_within(allowed)) {
            return Err(Fault::host("policy:refused", format!("the policy does not allow the host file {path}"))
                .at(place)
                .hint("send the content as text or base64, or have the operator add its directory to `files` in the policy"));
        }
    }
    Ok(())
}

/// No file may be where another needs a directory.
fn files_fit_together(files: &[(RelPath, u32, Content)]) -> Result<(), Fault> {
    let names: std::collections::BTreeSet<&str> = files.iter().map(|(path, ..)| path.as_str()).collect();
    let clash = files.iter().find_map(|(path, ..)| path.parents().find(|p| names.contains(p)).map(|p| (path, p)));
    match clash {
        None => Ok(()),
        Some((path, parent)) => {
            Err(Fault::caller("job:malformed", format!("{parent:?} is a file, and a directory of {:?}", path.as_str()))
                .at(format!("files.{}", path.as_str())))
        }
    }
}

/// The job's mounts, outer ones first.
fn planned(mounts: Vec<Mount>, limits: &Limits) -> Vec<PlannedMount> {
    let mut mounts = mounts;
    mounts.sort_by(|a, b| a.target.cmp(&b.target));
    let one = |mount: Mount| match mount.source {
        MountSource::Bind { source, writable } => PlannedMount::Bind { source, target: mount.target, writable },
        MountSource::Tmpfs { size } => PlannedMount::Tmpfs { target: mount.target, bytes: size.0, inodes: limits.inodes },
    };
    mounts.into_iter().map(one).collect()
}

/// Where Landlock lets the program write.
fn writable(mounts: &[PlannedMount]) -> Vec<String> {
    let own = mounts.iter().filter_map(|m| match m {
        PlannedMount::Bind { target, writable: true, .. } | PlannedMount::Tmpfs { target, .. } => {
            Some(target.as_str().to_owned())
        }
        PlannedMount::Bind { .. } => None,
    });
    let replaced = |place: &str| {
        mounts.iter().any(|m| matches!(m, PlannedMount::Bind { target, writable: false, .. } if target.as_str() == place))
    };
    ["/sandbox", "/tmp"].into_iter().filter(|place| !replaced(place)).map(str::to_owned).chain(own).collect()
}

/// # Errors
/// exit 3 where one is above what this host lets us give.
fn rlimits(limits: &Limits, facts: &Facts) -> Result<Vec<(Rlimit, u64)>, Fault> {
    let mut all = std::collections::BTreeMap::from([
        // A piped core_pattern ignores 0; 1 byte means "abort" to a pipe and is below the least for a file (fs/coredump.c).
        (Rlimit::Core, 1),
        (Rlimit::Memlock, 0),
        (Rlimit::Msgqueue, 0),
        (Rlimit::Fsize, limits.file_size.0),
        (Rlimit::Nofile, limits.open_files),
        (Rlimit::Stack, limits.stack.0),
    ]);
    all.extend(limits.rlimits.iter().map(|(name, value)| (*name, *value)));
    // Whoever asks for a core of 0 means "no core": only 1 is that. Where even that is above our own hard limit, 0 must do.
    let core_top = facts.hard.get(&Rlimit::Core).copied().unwrap_or(u64::MAX);
    all.entry(Rlimit::Core).and_modify(|core| *core = if *core <= 1 { core_top.min(1) } else { *core });
    let above = all.iter().find(|(name, value)| facts.hard.get(name).is_some_and(|hard| *value > hard));
    if let Some((name, value)) = above {
        let place = match name {
            Rlimit::Nofile => "limits.open_files",
            Rlimit::Fsize => "limits.file_size",
            Rlimit::Stack => "limits.stack",
            _ => "limits.rlimits",
        };
        let hard = facts.hard.get(name).copied().unwrap_or(0);
        return Err(Fault::host(
            "rlimit:hard",
            format!("{value} is above the {hard} that runcell itself was started with ({name:?})"),
        )
        .at(place)
        .hint("ask for less, raise the hard limit where runcell is started (ulimit -H), or give it CAP_SYS_RESOURCE"));
    }
    Ok(all.into_iter().collect())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::model::facts::{EntryKind, HostDir, ImageFacts, Layout};

    /// A well-equipped imaginary host.
    pub(crate) fn facts(layout: Layout) -> Facts {
        let controllers: &[&str] = match layout {
            Layout::V2 => &["cpu", "cpuset", "io", "memory", "pids"],
            Layout::V1 => &["cpu", "cpuset", "blkio", "memory", "pids", "cpuacct"],
        };
        let link = |path: &str, to: &str| HostDir::Symlink { path: path.into(), to: to.into() };
        Facts {
            layout,
            controllers: controllers.iter().map(|c| (*c).to_owned()).collect(),
            swap_limit: true,
            swap_bytes: 0,
            hard: [(Rlimit::Nofile, 1 << 20), (Rlimit::Stack, u64::MAX), (Rlimit::Core, u64::MAX)].into(),
            cpus: 2,
            landlock_abi: Some(6),
            host_dirs: vec![HostDir::Directory("/usr".into()), link("/bin", "usr/bin"), link("/lib", "usr/lib")],
            host_etc: vec![
                ("/etc/alternatives".into(), EntryKind::Directory { mode: 0o755 }),
                ("/etc/ld.so.cache".into(), EntryKind::File),
            ],
            seen: Default::default(),
            sources: [("/srv/data".to_owned(), EntryKind::Directory { mode: 0o755 })].into(),
            devices: [("/dev/vda".to_owned(), "254:0".to_owned())].into(),
            image: ImageFacts::default(),
        }
    }

    fn planned(json: &str, policy: &str) -> Result<Plan, Fault> {
        let job: Job = serde_json::from_str(json).expect(json);
        let bundle = BundleName::try_from("default".to_owned()).expect("a name");
        plan(job, bundle, &toml::from_str(policy).expect(policy), &facts(Layout::V2), false)
    }

    #[test]
    fn faults_name_their_field_and_whose_they_are() {
        for (json, code, path) in [
            ("{}", "job:malformed", "argv"),
            (r#"{"argv":[""]}"#, "job:malformed", "argv[0]"),
            (r#"{"argv":["a"],"cwd":"/proc/self/fd/7"}"#, "job:malformed", "cwd"),
            (r#"{"argv":["a"],"network":"host"}"#, "policy:refused", "network"),
            (r#"{"argv":["a"],"mounts":[{"target":"/d","bind":"/etc"}]}"#, "policy:refused", "mounts[0].bind"),
            (r#"{"argv":["a"],"files":{"x":"1","x/y":"2"}}"#, "job:malformed", "files.x/y"),
            (r#"{"argv":["a"],"limits":{"wall":0}}"#, "job:malformed", "limits.wall"),
        ] {
            let fault = planned(json, "").expect_err(json);
            assert_eq!((fault.code, fault.path.as_deref()), (code, Some(path)), "{json}");
        }
    }

    #[test]
    fn binds_need_the_policy_and_writable_ones_its_second_word() {
        let ro = r#"{"argv":["a"],"mounts":[{"target":"/d","bind":"/srv/data"}]}"#;
        let rw = r#"{"argv":["a"],"mounts":[{"target":"/d","bind":"/srv/data","writable":true}]}"#;
        let near = r#"{"argv":["a"],"mounts":[{"target":"/d","bind":"/srv/database"}]}"#;
        let (one, both) = ("bind = ['/srv/data']", "bind = ['/srv']\nbind_writable = ['/srv/data']");
        assert!(planned(ro, one).is_ok() && planned(rw, both).is_ok());
        assert!(planned(near, one).is_err());
        assert_eq!(planned(rw, one).expect_err("ro only").path.as_deref(), Some("mounts[0].writable"));
        let plan = planned(rw, both).expect("fine");
        assert!(plan.fill.deny_suid && plan.fill.writable.contains(&"/d".to_owned()));
        assert!(!planned(ro, both).expect("fine").fill.writable.contains(&"/d".to_owned()));
    }

    #[test]
    fn host_files_need_the_policy_where_it_narrows_them() {
        let job = r#"{"argv":["a"],"files":{"x":{"file":"/etc/shadow"}}}"#;
        assert!(planned(job, "").is_ok());
        assert_eq!(planned(job, "files = ['/srv']").expect_err("narrowed").path.as_deref(), Some("files.x"));
    }

    #[test]
    fn too_large_an_argv_is_told_before_the_kernel_says_e2big() {
        let many = vec!["x".repeat(100_000); 60];
        let json = serde_json::to_string(&serde_json::json!({"argv": many})).expect("json");
        assert_eq!(planned(&json, "").expect_err("too large").path.as_deref(), Some("argv"));
    }

    #[test]
    fn limits_above_our_own_are_told_before_the_start() {
        let fault = planned(r#"{"argv":["a"],"limits":{"open_files":1048576}}"#, "").map(drop);
        assert!(fault.is_ok());
        let mut poor = facts(Layout::V2);
        poor.hard.insert(Rlimit::Nofile, 1023);
        let job: Job = serde_json::from_str(r#"{"argv":["a"]}"#).expect("a job");
        let bundle = BundleName::try_from("default".to_owned()).expect("a name");
        let fault = plan(job, bundle, &Policy::default(), &poor, false).expect_err("refused");
        assert_eq!((fault.code, fault.path.as_deref()), ("rlimit:hard", Some("limits.open_files")));
    }

    #[test]
    fn what_takes_a_programs_place_has_a_name() {
        let names = ["sh", ""].map(|name| Text::try_from(name.to_owned()).expect("a text"));
        let job: Job = serde_json::from_str(r#"{"argv":["bash"]}"#).expect("a job");
        let bundle = BundleName::try_from("own".to_owned()).expect("a name");
        let of = |names: &[Text]| {
            let job = Job { fallbacks: names.to_vec(), ..job.clone() };
            plan(job, bundle.clone(), &Policy::default(), &facts(Layout::V2), false)
        };
        assert_eq!(of(&names[..1]).expect("fine").fill.fallbacks, ["sh"]);
        let fault = of(&names).expect_err("one has none");
        assert_eq!((fault.code, fault.path.as_deref()), ("bundle:unusable", Some("fallbacks[1]")));
    }

    #[test]
    fn no_core_is_no_core() {
        let core = |json: &str| {
            let plan = planned(json, "").expect("fine");
            plan.fill.rlimits.into_iter().find(|(name, _)| *name == Rlimit::Core).map(|(_, value)| value)
        };
        assert_eq!(core(r#"{"argv":["a"]}"#), Some(1));
        assert_eq!(
            core(r#"{"argv":["a"],"limits":{"rlimits":{"core":0}}}"#),
            Some(1),
            "0 would start a piped core_pattern's program"
        );
        assert_eq!(core(r#"{"argv":["a"],"limits":{"rlimits":{"core":9}}}"#), Some(9));
    }

    #[test]
    fn nothing_of_our_environment_is_in_the_plan() {
        let plan = planned(r#"{"argv":["a"],"env":{"LANG":"de"}}"#, "").expect("fine");
        assert_eq!(plan.fill.env, ["HOME=/sandbox".to_owned(), "LANG=de".into(), format!("PATH={PATH}")]);
    }
}
