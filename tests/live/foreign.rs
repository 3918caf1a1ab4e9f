//! Images made by tools that are not ours (umoci, skopeo, Debian's docker-registry), and ours taken back by them.

use super::gate;
use super::harness::{Host, command, on_the_host, until};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;

const TOOLS: [&str; 4] = ["umoci", "skopeo", "docker-registry", "mmdebstrap"];

/// Runs a test where the tools are; says aloud where they are not, which in the rig is a failure.
#[track_caller]
fn with_tools(name: &str, test: impl FnOnce(&Host)) {
    on_the_host(|host| match TOOLS.iter().find(|tool| !Path::new("/usr/bin").join(tool).exists()) {
        None => test(host),
        Some(missing) => gate::say(&format!("SKIPPED {name}: no {missing} (apt-get install {missing})")),
    });
}

#[track_caller]
fn tool(words: &[&str]) -> String {
    let done = command(words[0]).args(&words[1..]).output().expect("the tool is there");
    assert!(done.status.success(), "{words:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8_lossy(&done.stdout).into_owned()
}

#[track_caller]
fn answer(host: &Host, words: &[&str]) -> Value {
    let (code, out, err) = host.words(words);
    assert_eq!(code, 0, "{words:?}: {out}{err}");
    serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}"))
}

fn text(path: &Path) -> String {
    path.to_str().expect("a path of ours").to_owned()
}

/// A layout of layers with files that change, go, come back as something else, and directories that hide what was there.
fn layout(host: &Host, layers: u32) -> String {
    let layout = text(&host.dir("layout"));
    let image = format!("{layout}:made");
    tool(&["umoci", "init", "--layout", &layout]);
    tool(&["umoci", "new", "--image", &image]);
    for n in 0..layers {
        let root = host.dir(&format!("layer{n}"));
        let put = |path: &str, content: &str, mode: u32| {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            std::fs::write(&path, content).expect("written");
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).expect("ours");
        };
        if n == 0 {
            std::fs::create_dir_all(root.join("bin")).expect("made");
            std::fs::copy("/usr/bin/busybox", root.join("bin/busybox")).expect("the gate has looked");
            for applet in ["sh", "find", "stat", "sha256sum", "sort", "cat", "readlink", "xargs"] {
                symlink("busybox", root.join("bin").join(applet)).expect("made");
            }
            put("srv/setuid", "x", 0o4755);
            put("srv/private", "x", 0o600);
            std::os::unix::fs::chown(root.join("srv/private"), Some(7), Some(8)).expect("as root");
            std::fs::hard_link(root.join("srv/setuid"), root.join("srv/hard link")).expect("made");
            symlink("/nowhere/at all", root.join("srv/link")).expect("made");
            put("srv/\u{e9} '$(x)'\n", "odd", 0o644);
        }
        put("etc/number", &n.to_string(), 0o644);
        put(&format!("var/{n}/file"), &"v".repeat(n as usize * 1000), 0o640);
        if n >= 3 {
            put(&format!("var/.wh.{}", n - 3), "", 0o644);
        }
        match n {
            5 => put("srv/.wh.private", "", 0o644),
            7 => put("opt/deep/er/file", "x", 0o644),
            8 => put("opt/.wh..wh..opq", "", 0o644),
            9 => put("opt/after", "y", 0o644),
            10 => put("srv/.wh.link", "", 0o644),
            11 => put("srv/link/now", "a directory", 0o644),
            _ => {}
        }
        let tar = text(&host.dir(&format!("layer{n}.tar")));
        tool(&["tar", "-C", &text(&root), "--sort=name", "-cf", &tar, "."]);
        tool(&["umoci", "raw", "add-layer", "--image", &image, &tar]);
    }
    tool(&[
        "umoci",
        "config",
        "--image",
        &image,
        "--config.cmd",
        "/bin/cat",
        "--config.cmd",
        "/etc/number",
        "--config.env",
        "MADE=by umoci",
        "--config.workingdir",
        "/srv",
        "--config.user",
        "9:10",
    ]);
    layout
}

/// One line each thing below a root, the cell's own mount points left out: kind, mode, owner, size, and link target or content.
fn described(root: &Path) -> BTreeMap<String, String> {
    let own = ["dev", "proc", "sandbox", "tmp"].map(|name| root.join(name));
    let (mut all, mut todo) = (BTreeMap::new(), vec![root.to_owned()]);
    while let Some(path) = todo.pop() {
        let meta = path.symlink_metadata().expect("there");
        let kind = meta.file_type();
        let content = match () {
            () if kind.is_dir() => {
                todo.extend(std::fs::read_dir(&path).expect("ours").flatten().map(|e| e.path()).filter(|p| !own.contains(p)));
                String::new()
            }
            () if kind.is_symlink() => text(&std::fs::read_link(&path).expect("ours")),
            () if kind.is_file() => String::from_utf8_lossy(&std::fs::read(&path).expect("ours")).chars().take(4000).collect(),
            () => format!("device {}", kind.is_char_device()),
        };
        let size = if kind.is_file() { meta.len() } else { 0 };
        let place = text(path.strip_prefix(root).expect("below"));
        all.insert(place, format!("{:o} {}:{} {size} {content}", meta.mode(), meta.uid(), meta.gid()));
    }
    all
}

#[test]
fn a_tree_of_twelve_layers_is_what_umoci_unpacks() {
    as_umoci_unpacks_it("a_tree_of_twelve_layers_is_what_umoci_unpacks", 12, false);
}

#[test]
fn so_is_one_of_many_layers_which_cells_have_as_one() {
    as_umoci_unpacks_it("so_is_one_of_many_layers_which_cells_have_as_one", 26, true);
}

/// How many trees lie in the store.
fn trees(host: &Host) -> usize {
    std::fs::read_dir(host.root().join("store/layers")).expect("a shelf").count()
}

#[track_caller]
fn as_umoci_unpacks_it(name: &str, layers: u32, flat: bool) {
    with_tools(name, |host| {
        let layout = layout(host, layers);
        let imported = answer(host, &["image", "import", &layout, "--name", "made:1"]);
        assert_eq!(imported["layers"], layers, "{imported}");
        let kept = layers as usize + usize::from(flat);
        assert_eq!(trees(host), kept);
        let unpacked = host.dir("unpacked");
        tool(&["umoci", "unpack", "--image", &format!("{layout}:made"), &text(&unpacked)]);
        let expected = described(&unpacked.join("rootfs"));

        // What a program of the image sees, told by a program of the image.
        let walk = r#"find / -xdev ! -path '/dev*' ! -path '/proc*' ! -path '/sandbox*' ! -path '/tmp*' -print0 | xargs -0 stat -c '%f %u:%g %n'"#;
        let job =
            json!({"image": "made:1", "argv": ["/bin/sh", "-c", walk], "user": "0:0", "cwd": "/", "limits": {"wall": "20s"}});
        let ran = host.run(job);
        // The name with a line break would be two lines here; it is held by what is unpacked below.
        let seen: BTreeMap<String, String> = ran
            .is("ok")
            .stdout()
            .lines()
            .filter_map(|line| {
                let mut words = line.splitn(3, ' ');
                let (mode, owner, name) = (words.next()?, words.next()?, words.next().filter(|name| !name.contains("$(x)"))?);
                Some((name.trim_start_matches('/').to_owned(), format!("{:o} {owner}", u32::from_str_radix(mode, 16).ok()?)))
            })
            .collect();
        for (name, line) in expected.iter().filter(|(name, _)| !name.contains('\n')) {
            let found = seen.get(name).unwrap_or_else(|| panic!("{name:?} is not seen: {seen:#?}"));
            assert!(line.starts_with(&format!("{found} ")), "{name:?}: {line} as umoci, {found} as seen");
        }
        assert_eq!(seen.len(), expected.keys().filter(|name| !name.contains('\n')).count(), "{seen:#?}");

        let by_default = host.run(json!({"image": "made:1"}));
        by_default.is("ok").said(&(layers - 1).to_string());
        let job = json!({"image": "made:1", "argv": ["/bin/sh", "-c", "echo $MADE; pwd; cat /opt/after; echo; : > /tmp/f; stat -c '%u %g' /tmp/f"]});
        host.run(job).is("ok").said("by umoci\n/srv\ny\n9 10\n");
        assert_eq!(answer(host, &["image", "verify", "made:1"])["differences"], json!([]));

        // Ours, exported and unpacked by umoci, is the same to the byte.
        let out = text(&host.dir("exported"));
        let exported = answer(host, &["image", "export", "made:1", "--out", &out, "--tag", "back"]);
        assert_eq!(exported["digest"], imported["digest"]);
        let again = host.dir("again");
        tool(&["umoci", "unpack", "--image", &format!("{out}:back"), &text(&again)]);
        assert_eq!(described(&again.join("rootfs")), expected);
        tool(&["skopeo", "inspect", &format!("oci:{out}:back")]);
        let error = host.words(&["image", "export", "made:1", "--out", &out]);
        assert_eq!(error.0, 2, "not into what is there: {}", error.1);

        // The one tree is the image's as its layers are.
        answer(host, &["gc"]);
        assert_eq!(trees(host), kept);
        answer(host, &["image", "remove", "made:1"]);
        answer(host, &["gc"]);
        assert_eq!(trees(host), 0);
    });
}

#[test]
fn every_form_of_an_image_is_one_image() {
    with_tools("every_form_of_an_image_is_one_image", |host| {
        let layout = layout(host, 12);
        let digest = answer(host, &["image", "import", &layout, "--name", "a"])["digest"].clone();
        let saved = text(&host.dir("saved.tar"));
        tool(&["skopeo", "copy", "-q", &format!("oci:{layout}:made"), &format!("docker-archive:{saved}:org/tool:7")]);
        let imported = answer(host, &["image", "import", &saved, "--name", "b"]);
        assert_eq!((&imported["digest"], &imported["layers_known"]), (&digest, &json!(12)), "{imported}");
        assert!(imported["archive_names"][0].as_str().is_some_and(|name| name.ends_with("org/tool:7")), "{imported}");
        tool(&["gzip", "-k", &saved]);
        assert_eq!(answer(host, &["image", "import", &format!("{saved}.gz")])["digest"], digest);
        let tar = text(&host.dir("layout.tar"));
        tool(&["tar", "-C", &layout, "-cf", &tar, "."]);
        assert_eq!(answer(host, &["image", "import", &tar, "--pick", "made"])["digest"], digest);
        let zstd = text(&host.dir("zstd"));
        tool(&["skopeo", "copy", "-q", "--dest-compress-format", "zstd", &format!("oci:{layout}:made"), &format!("dir:{zstd}")]);
        let (code, out, _) = host.words(&["image", "import", &layout, "--platform", "linux/s390x"]);
        assert!(code == 2 && out.contains("linux/s390x") && out.contains("linux/amd64"), "{out}");

        // A layer whose bytes are not those of its digest.
        let blobs = std::fs::read_dir(Path::new(&layout).join("blobs/sha256")).expect("ours").flatten();
        let largest = blobs.max_by_key(|e| e.metadata().map_or(0, |m| m.len())).expect("some").path();
        let mut bytes = std::fs::read(&largest).expect("ours");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&largest, bytes).expect("ours");
        answer(host, &["image", "remove", "a"]);
        answer(host, &["image", "remove", "b"]);
        let (code, out, _) = host.words(&["image", "import", &layout, "--name", "c"]);
        // A bit of a gzip stream may break the stream before its digest is known.
        assert!(code == 2 && (out.contains("archive:mismatch") || out.contains("archive:malformed")), "{out}");
        let left = std::fs::read_dir(host.root().join("store/images")).expect("ours").count();
        assert_eq!(left, 0);
    });
}

#[test]
fn an_image_is_pulled_from_a_registry() {
    with_tools("an_image_is_pulled_from_a_registry", |host| {
        let layout = layout(host, 2);
        let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("loopback is up").port();
        // The password as htpasswd -B keeps it.
        let accounts = host.file("htpasswd", "avatar:$2b$04$wPZY6lLY5ngGhH/4tCN/reHbZt5W6umUWin6mO8VXX74qPoYQXt9y\n");
        let storage = text(&host.dir("registry"));
        let config = host.file(
            "registry.yml",
            format!(
                "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {storage}}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n\
                 auth: {{htpasswd: {{realm: test, path: {accounts}}}}}\n"
            ),
        );
        let mut registry = command("docker-registry");
        let quiet = std::process::Stdio::null;
        let mut registry = registry.args(["serve", &config]).stdout(quiet()).stderr(quiet()).spawn().expect("starts");
        until("the registry answers", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        let reference = format!("localhost:{port}/team/made:3");
        tool(&[
            "skopeo",
            "copy",
            "-q",
            "--dest-tls-verify=false",
            "--dest-creds=avatar:open sesame",
            &format!("oci:{layout}:made"),
            &format!("docker://{reference}"),
        ]);
        let key = json!({"auths": {format!("localhost:{port}"): {"auth": "YXZhdGFyOm9wZW4gc2VzYW1l"}}});
        let wrong = json!({"auths": {format!("localhost:{port}"): {"auth": "YXZhdGFyOm9wZW4gYmFybGV5"}}});
        let (key, wrong) = (host.file("auth.json", key.to_string()), host.file("wrong.json", wrong.to_string()));
        let pull = |name: &str, key: &str| {
            host.words(&["image", "pull", &format!("localhost:{port}/{name}"), "--insecure", "--authfile", key])
        };
        let pulled = pull("team/made:3", &key);
        let missing = pull("team/none:3", &key);
        let refused = pull("team/made:3", &wrong);
        registry.kill().and_then(|()| registry.wait()).expect("ours");
        assert_eq!(pulled.0, 0, "{}{}", pulled.1, pulled.2);
        for told in [missing, refused] {
            assert!(told.0 == 3 && told.1.contains("pull:failed") && told.1.contains("skopeo login"), "{}", told.1);
        }
        host.run(json!({"image": reference})).is("ok").said("1");
        assert_eq!(std::fs::read_dir(host.root().join("store/bench")).expect("ours").count(), 0);
    });
}

/// A repository with one package, which mmdebstrap makes a root filesystem of: devices, apt's own directories and all.
#[test]
fn a_tar_of_mmdebstrap_runs() {
    with_tools("a_tar_of_mmdebstrap_runs", |host| {
        let (package, repository) = (host.dir("package"), host.dir("repository"));
        for dir in [package.join("DEBIAN"), package.join("bin"), package.join("etc"), repository.clone()] {
            std::fs::create_dir_all(dir).expect("made");
        }
        std::fs::copy("/usr/bin/busybox", package.join("bin/busybox")).expect("the gate has looked");
        for applet in ["sh", "cat", "stat"] {
            symlink("busybox", package.join("bin").join(applet)).expect("made");
        }
        std::fs::write(package.join("etc/said"), "by a package\n").expect("written");
        let about = "Package: boxed\nVersion: 1\nArchitecture: all\nMaintainer: tests <tests@localhost>\nDescription: a shell\n";
        std::fs::write(package.join("DEBIAN/control"), about).expect("written");
        let deb = repository.join("boxed.deb");
        tool(&["dpkg-deb", "--root-owner-group", "--build", &text(&package), &text(&deb)]);
        let (sum, size) = (tool(&["sha256sum", &text(&deb)]), deb.metadata().expect("there").len());
        let sum = sum.split(' ').next().expect("a digest");
        let listed = format!("{about}Filename: ./boxed.deb\nSize: {size}\nSHA256: {sum}\n");
        std::fs::write(repository.join("Packages"), listed).expect("written");
        let tar = text(&host.dir("boxed.tar"));
        let source = format!("deb [trusted=yes] copy:{} ./", text(&repository));
        tool(&[
            "mmdebstrap",
            "--quiet",
            "--mode=root",
            "--variant=extract",
            "--include=boxed",
            "--format=tar",
            "",
            &tar,
            &source,
        ]);

        let imported = answer(host, &["image", "import", &tar, "--name", "boxed"]);
        let devices = imported["notices"].to_string();
        assert!(devices.contains("dev/null") && devices.contains("dev/console"), "{imported}");
        let ran = host
            .run(json!({"image": "boxed", "argv": ["/bin/sh", "-c", "cat /etc/said; stat -c %u:%a /var/lib/apt/lists/partial"]}));
        ran.is("ok").said("by a package\n42:700\n");
        assert_eq!(answer(host, &["image", "verify", "boxed"])["differences"], json!([]));
    });
}
