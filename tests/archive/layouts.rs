//! OCI layouts and docker-archives, whole and broken.

use super::make::{Head, Tar};
use super::room::Room;
use runcell::archive::compression::Compression;
use runcell::archive::layer::Bounds;
use runcell::archive::layout::{Contents, Layout};
use runcell::archive::platform::Platform;
use runcell::archive::unpack::unpack;
use runcell::model::fault::Fault;
use runcell::model::reference::Digest;
use serde_json::{Value, json};
use sha2::Digest as _;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

fn digest(bytes: &[u8]) -> Digest {
    Digest::of_sha256(sha2::Sha256::digest(bytes).into())
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

/// Files of a layout in the making.
#[derive(Clone, Default)]
struct Files(Vec<(String, Vec<u8>)>);

impl Files {
    fn blob(&mut self, media_type: &str, bytes: Vec<u8>) -> Value {
        let digest = digest(&bytes);
        let descriptor = json!({"mediaType": media_type, "digest": digest, "size": bytes.len()});
        self.0.push((format!("blobs/sha256/{}", digest.hex()), bytes));
        descriptor
    }

    fn document(&mut self, media_type: &str, value: &Value) -> Value {
        self.blob(media_type, value.to_string().into_bytes())
    }

    /// An image of these layers, each with its media type and the form that is stored.
    fn image(&mut self, architecture: &str, layers: &[(&str, Vec<u8>, Vec<u8>)]) -> Value {
        let ids: Vec<Digest> = layers.iter().map(|(_, plain, _)| digest(plain)).collect();
        let config = self.document(CONFIG, &config(architecture, &ids));
        let layers: Vec<Value> = layers.iter().map(|(media, _, stored)| self.blob(media, stored.clone())).collect();
        self.document(MANIFEST, &json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers}))
    }

    fn index(mut self, manifests: &[Value]) -> Self {
        self.0.push(("oci-layout".into(), b"{\"imageLayoutVersion\":\"1.0.0\"}".to_vec()));
        self.0.push(("index.json".into(), json!({"schemaVersion": 2, "manifests": manifests}).to_string().into_bytes()));
        self
    }

    fn tar(&self) -> Tar {
        self.0.iter().fold(Tar::new(), |tar, (name, bytes)| tar.file(name, bytes))
    }

    fn directory(&self) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("blobs/sha256")).unwrap();
        self.0.iter().for_each(|(name, bytes)| std::fs::write(dir.path().join(name), bytes).unwrap());
        dir
    }

    fn spoil(mut self, name: &str, with: impl Fn(&mut Vec<u8>)) -> Self {
        self.0.iter_mut().filter(|(n, _)| n.contains(name)).for_each(|(_, bytes)| with(bytes));
        self
    }
}

fn config(architecture: &str, ids: &[Digest]) -> Value {
    json!({"os": "linux", "architecture": architecture, "created": "2024-01-01T00:00:00Z", "rootfs": {"type": "layers", "diff_ids": ids},
        "config": {"Env": ["A=b"], "Cmd": ["sh"], "Entrypoint": null, "WorkingDir": "/w", "User": "1:2", "Labels": {"k": "v"}, "Volumes": {}}})
}

fn annotated(mut descriptor: Value, name: &str) -> Value {
    descriptor["annotations"] = json!({"org.opencontainers.image.ref.name": name});
    descriptor
}

fn on(mut descriptor: Value, platform: Value) -> Value {
    descriptor["platform"] = platform;
    descriptor
}

fn archive(tar: Tar) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&tar.end()).unwrap();
    file.rewind().unwrap();
    file
}

fn open(files: &Files) -> Result<Layout, Fault> {
    Ok(Layout::open_archive(archive(files.tar()))?.unwrap())
}

fn amd64() -> Platform {
    Platform::parse("linux/amd64").unwrap()
}

fn only(layout: &Layout) -> Result<Contents, Fault> {
    layout.contents(layout.choose(&amd64(), None)?)
}

fn layer(name: &str) -> Vec<u8> {
    Tar::new().dir("d").file(&format!("d/{name}"), name.as_bytes()).end()
}

/// Unpacks all layers, each into a tree of its own; says which file each had.
fn unpacked(layout: &Layout, contents: &Contents) -> Result<Vec<(String, Compression)>, Fault> {
    let mut out = Vec::new();
    for source in &contents.layers {
        let room = Room::new();
        let tree = room.tree();
        let done = unpack(layout.layer(source)?, Some(&source.diff_id), tree.as_fd(), std::io::sink(), &Bounds::default())?;
        assert_eq!((&done.diff_id, done.size), (&source.diff_id, source.size));
        assert!(source.digest.as_ref().is_none_or(|d| *d == done.blob));
        let name = std::fs::read_dir(room.path().join("d")).unwrap().next().unwrap().unwrap().file_name();
        out.push((name.into_string().unwrap(), done.compression));
    }
    Ok(out)
}

fn three_layers(files: &mut Files) -> Value {
    let (one, two, three) = (layer("one"), layer("two"), layer("three"));
    let stored = (gzip(&two), zstd::encode_all(&three[..], 3).unwrap());
    let (gz, zst) = (format!("{LAYER}+gzip"), format!("{LAYER}+zstd"));
    files.image("amd64", &[(LAYER, one.clone(), one), (&gz, two, stored.0), (&zst, three, stored.1)])
}

#[test]
fn layouts_are_read_from_directories_and_archives() {
    let mut files = Files::default();
    let manifest = annotated(three_layers(&mut files), "latest");
    let files = files.index(&[manifest]);
    let dir = files.directory();
    let opened = Layout::open_directory(OwnedFd::from(File::open(dir.path()).unwrap())).unwrap();
    for layout in [opened.unwrap(), open(&files).unwrap()] {
        let contents = only(&layout).unwrap();
        assert_eq!(contents.names, ["latest"]);
        assert_eq!((&contents.config.env[..], &contents.config.cmd[..]), (&["A=b".to_owned()][..], &["sh".to_owned()][..]));
        assert_eq!(
            (&contents.config.working_dir[..], &contents.config.user[..], &contents.config.labels["k"][..]),
            ("/w", "1:2", "v")
        );
        assert_eq!(contents.digest, digest(&contents.config_bytes));
        let all = [("one", Compression::Plain), ("two", Compression::Gzip), ("three", Compression::Zstd)];
        assert_eq!(unpacked(&layout, &contents).unwrap(), all.map(|(n, c)| (n.to_owned(), c)));
    }
}

#[test]
fn platforms_are_chosen_also_within_inner_indexes() {
    let mut files = Files::default();
    let amd = on(files.image("amd64", &[(LAYER, layer("amd"), layer("amd"))]), json!({"os": "linux", "architecture": "amd64"}));
    let arm = on(
        files.image("arm64", &[(LAYER, layer("arm"), layer("arm"))]),
        json!({"os": "linux", "architecture": "arm64", "variant": "v8"}),
    );
    let mut says = on(files.image("unknown", &[]), json!({"os": "unknown", "architecture": "unknown"}));
    says["annotations"] = json!({"vnd.docker.reference.type": "attestation-manifest"});
    let inner = files.document(INDEX, &json!({"schemaVersion": 2, "manifests": [amd, arm, says]}));
    let files = files.index(&[annotated(inner, "v1")]);
    let layout = open(&files).unwrap();
    assert_eq!(layout.images().len(), 2);
    for (platform, file) in [("linux/amd64", "amd"), ("linux/arm64", "arm"), ("linux/arm64/v8", "arm")] {
        let chosen = layout.choose(&Platform::parse(platform).unwrap(), Some("v1")).unwrap();
        assert_eq!(unpacked(&layout, &layout.contents(chosen).unwrap()).unwrap()[0].0, file, "{platform}");
    }
    let none = layout.choose(&Platform::parse("linux/s390x").unwrap(), None).unwrap_err();
    assert!(none.message.contains("linux/s390x") && none.message.contains("linux/arm64/v8"), "{none:?}");
}

#[test]
fn several_images_must_be_told_apart() {
    let mut files = Files::default();
    let one = files.image("amd64", &[(LAYER, layer("one"), layer("one"))]);
    let two = files.image("amd64", &[(LAYER, layer("two"), layer("two"))]);
    let layout = open(&files.index(&[annotated(one.clone(), "a"), annotated(two, "b"), annotated(one, "c")])).unwrap();
    assert_eq!(layout.choose(&amd64(), None).unwrap_err().code, "archive:unsupported");
    assert!(layout.choose(&amd64(), Some("d")).unwrap_err().message.contains("no image \"d\""));
    let b = layout.contents(layout.choose(&amd64(), Some("b")).unwrap()).unwrap();
    assert_eq!(unpacked(&layout, &b).unwrap()[0].0, "two");
}

#[track_caller]
fn refused(result: Result<impl Sized, Fault>, code: &str, says: &str) {
    let fault = result.err().unwrap();
    assert!(fault.code == code && fault.message.contains(says), "{fault:?} is not {code}: {says}");
}

#[test]
fn blobs_that_differ_are_refused() {
    let mut files = Files::default();
    let manifest = three_layers(&mut files);
    let contents = only(&open(&files.clone().index(std::slice::from_ref(&manifest))).unwrap()).unwrap();
    let files = files.index(&[manifest]);
    for (n, source) in contents.layers.iter().enumerate() {
        let name = source.digest.as_ref().unwrap().hex();
        let flip = |bytes: &mut Vec<u8>| {
            let at = bytes.len() / 2;
            bytes[at] ^= 1;
        };
        for spoilt in [
            files.clone().spoil(name, flip),
            files.clone().spoil(name, |b| b.truncate(b.len() - 1)),
            files.clone().spoil(name, |b| b.push(0)),
        ] {
            let layout = open(&spoilt).unwrap();
            let fault = unpacked(&layout, &only(&layout).unwrap()).unwrap_err();
            assert!(["archive:mismatch", "archive:malformed"].contains(&fault.code), "{n}: {fault:?}");
        }
    }
    // White space makes other bytes of the same document.
    let spoilt = files.spoil(contents.digest.hex(), |bytes| bytes[0] = b' ');
    refused(open(&spoilt).map(drop), "archive:mismatch", "other content");
}

#[test]
fn layers_that_are_not_of_the_configuration_are_refused() {
    let mut files = Files::default();
    let manifest = files.image("amd64", &[(LAYER, layer("promised"), layer("other"))]);
    let layout = open(&files.index(&[manifest])).unwrap();
    refused(unpacked(&layout, &only(&layout).unwrap()), "archive:mismatch", "configuration says");
}

#[test]
fn malformed_layouts_are_refused() {
    let with = |change: &dyn Fn(&mut Value)| {
        let mut files = Files::default();
        let mut manifest = three_layers(&mut files);
        change(&mut manifest);
        open(&files.index(&[manifest])).and_then(|layout| only(&layout))
    };
    refused(with(&|m| m["digest"] = json!("sha256:../../../../etc/passwd")), "archive:malformed", "digest");
    refused(with(&|m| m["digest"] = json!(digest(b"absent"))), "archive:malformed", "lacks");
    refused(with(&|m| m["size"] = json!(1)), "archive:mismatch", "descriptor says 1");
    refused(with(&|m| m["size"] = json!(5 << 20)), "archive:too_large", "at most");
    refused(with(&|m| m["size"] = json!(-1)), "archive:malformed", "manifests[0].size");
    refused(with(&|m| m["mediaType"] = json!("text/html")), "archive:unsupported", "no image for");

    let mut files = Files::default();
    let odd = files.image("amd64", &[("application/x-squashfs", layer("a"), layer("a"))]);
    refused(only(&open(&files.index(&[odd])).unwrap()), "archive:unsupported", "application/x-squashfs");
    let mut files = Files::default();
    let chart = files.document("application/vnd.cncf.helm.config.v1+json", &json!({}));
    let artifact = files.document(MANIFEST, &json!({"schemaVersion": 2, "config": chart, "layers": []}));
    refused(open(&files.index(&[artifact])).map(drop), "archive:unsupported", "something else than an image");
    let mut files = Files::default();
    let config = files.document(CONFIG, &config("amd64", &[digest(b"x")]));
    let fewer = files.document(MANIFEST, &json!({"schemaVersion": 2, "config": config, "layers": []}));
    refused(only(&open(&files.index(&[fewer])).unwrap()), "archive:malformed", "0 layers, and its configuration names 1");
    let mut files = Files::default();
    let mut deep = three_layers(&mut files);
    for _ in 0..6 {
        deep = files.document(INDEX, &json!({"schemaVersion": 2, "manifests": [deep]}));
    }
    refused(open(&files.index(&[deep])).map(drop), "archive:too_large", "indexes within indexes");
    let broken = Files(vec![("oci-layout".into(), vec![]), ("index.json".into(), b"{\"manifests\": [] garbage".to_vec())]);
    refused(open(&broken).map(drop), "archive:malformed", "index.json");
    let huge = Files(vec![("oci-layout".into(), vec![]), ("index.json".into(), vec![b' '; (4 << 20) + 1])]);
    refused(open(&huge).map(drop), "archive:too_large", "index.json");
}

#[test]
fn blobs_of_a_directory_lie_in_it() {
    let mut files = Files::default();
    let manifest = three_layers(&mut files);
    let files = files.index(&[manifest]);
    let (dir, outside) = (files.directory(), tempfile::tempdir().unwrap());
    let blobs = dir.path().join("blobs");
    std::fs::rename(&blobs, outside.path().join("blobs")).unwrap();
    std::os::unix::fs::symlink(outside.path().join("blobs"), &blobs).unwrap();
    let opened = Layout::open_directory(OwnedFd::from(File::open(dir.path()).unwrap()));
    refused(opened, "archive:malformed", "leads elsewhere");
}

#[test]
fn what_is_no_layout_is_none() {
    assert!(Layout::open_archive(archive(Tar::new().file("etc/passwd", b"x"))).unwrap().is_none());
    assert!(Layout::open_archive(archive(Tar::new().file("index.json", b"{}"))).unwrap().is_none());
    let empty = tempfile::tempdir().unwrap();
    assert!(Layout::open_directory(OwnedFd::from(File::open(empty.path()).unwrap())).unwrap().is_none());
    let mut compressed = tempfile::tempfile().unwrap();
    compressed.write_all(&gzip(&Tar::new().end())).unwrap();
    refused(Layout::open_archive(compressed).map(drop), "archive:unsupported", "compressed as a whole");
}

// ---- docker-archive ------------------------------------------------------------------------------------------------------

fn saved(tar: Tar, config_name: &str, layers: &[&str]) -> Tar {
    let manifest = json!([{"Config": config_name, "RepoTags": ["tool:1", "tool:2"], "Layers": layers}]);
    tar.file("repositories", b"{}").file("manifest.json", manifest.to_string().as_bytes())
}

#[test]
fn docker_archives_share_layers_by_links() {
    let (one, two) = (layer("one"), layer("two"));
    let ids = [digest(&one), digest(&two), digest(&one), digest(&two)];
    let config = config("amd64", &ids).to_string();
    let name = format!("{}.json", digest(config.as_bytes()).hex());
    let tar = Tar::new()
        .dir("a")
        .file("a/layer.tar", &one)
        .file("b/layer.tar", &gzip(&two))
        .symlink("c/layer.tar", "../a/layer.tar")
        .hard_link("d/layer.tar", "b/layer.tar")
        .file(&name, config.as_bytes());
    let tar = saved(tar, &name, &["a/layer.tar", "b/layer.tar", "c/layer.tar", "d/layer.tar"]);
    let layout = Layout::open_archive(archive(tar)).unwrap().unwrap();
    let contents = layout.contents(layout.choose(&amd64(), Some("tool:2")).unwrap()).unwrap();
    assert_eq!(contents.names, ["tool:1", "tool:2"]);
    let names: Vec<String> = unpacked(&layout, &contents).unwrap().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["one", "two", "one", "two"]);
}

#[test]
fn docker_archives_with_links_to_nowhere_are_refused() {
    let one = layer("one");
    let config = config("amd64", &[digest(&one)]).to_string();
    for (target, says) in
        [("../../../../etc/passwd", "lacks"), ("layer.tar", "leads nowhere"), ("/etc/passwd", "lacks"), ("none", "lacks")]
    {
        let tar = saved(Tar::new().symlink("a/layer.tar", target).file("c.json", config.as_bytes()), "c.json", &["a/layer.tar"]);
        let layout = Layout::open_archive(archive(tar)).unwrap().unwrap();
        refused(only(&layout), "archive:malformed", says);
    }
    let out = saved(Tar::new().file("c.json", config.as_bytes()), "c.json", &["../../etc/passwd"]);
    refused(only(&Layout::open_archive(archive(out)).unwrap().unwrap()), "archive:malformed", "leads out");
}

#[test]
fn docker_archives_are_verified_by_their_configuration() {
    let one = layer("one");
    let config = config("amd64", &[digest(b"another")]).to_string();
    let tar = saved(Tar::new().file("a/layer.tar", &one).file("c.json", config.as_bytes()), "c.json", &["a/layer.tar"]);
    let layout = Layout::open_archive(archive(tar)).unwrap().unwrap();
    refused(unpacked(&layout, &only(&layout).unwrap()), "archive:mismatch", "configuration says");
    let name = format!("{}.json", digest(b"other").hex());
    let tar = saved(Tar::new().file("a/layer.tar", &one).file(&name, config.as_bytes()), &name, &["a/layer.tar"]);
    refused(Layout::open_archive(archive(tar)).map(drop), "archive:mismatch", "other content");
}

// ---- streams -------------------------------------------------------------------------------------------------------------

#[test]
fn faults_of_a_stream_reach_the_caller_whole() {
    let plain = Tar::new().file("big", &vec![5; 3 << 20]).end();
    let (gz, zst) = (gzip(&plain), zstd::encode_all(&plain[..], 3).unwrap());
    let bounds = Bounds::default();
    let unpack = |bytes: &[u8], bounds: &Bounds| {
        let room = Room::new();
        let tree = room.tree();
        unpack(bytes, None, tree.as_fd(), std::io::sink(), bounds)
    };
    assert_eq!(unpack(&gz, &bounds).unwrap().diff_id, unpack(&zst, &bounds).unwrap().diff_id);
    refused(unpack(&gz[..gz.len() - 3], &bounds), "archive:malformed", "gzip stream is truncated");
    refused(unpack(&zst[..zst.len() - 3], &bounds), "archive:malformed", "zstd stream is truncated");
    refused(unpack(&plain[..1 << 20], &bounds), "archive:malformed", "truncated");
    refused(unpack(b"BZh91AY&SY", &bounds), "archive:unsupported", "bzip2");
    refused(unpack(&gz, &Bounds { bytes: 1 << 20, ..bounds }), "archive:too_large", "bytes");
}

#[test]
fn a_bomb_ends_at_its_bound() {
    // 64 GiB of zeros in a file, and the same behind the end of an archive: neither is read to its end.
    let head = Tar::new().head(Head::new(b'0', b"bomb").bytes(124, b"\x80\0\0\0\0\0\0\x10\0\0\0\0")).0;
    for begin in [head, Tar::new().end()] {
        let room = Room::new();
        let tree = room.tree();
        let bomb = begin.chain(std::io::repeat(0).take(64 << 30));
        let result = unpack(bomb, None, tree.as_fd(), std::io::sink(), &Bounds { bytes: 1 << 20, ..Bounds::default() });
        refused(result, "archive:too_large", "bytes");
    }
}
