//! What the writer writes, the applier reads: the same tree, and the same bytes each time.

use super::make::{Head, Tar};
use super::room::{Room, privileged};
use runcell::archive::layer::Bounds;
use runcell::archive::listing::{self, Item};
use runcell::archive::writer::{Form, Written, write};
use std::os::fd::AsFd;

fn written(room: &Room, form: Form) -> (Vec<u8>, Written) {
    let mut bytes = Vec::new();
    let written = write(room.tree().as_fd(), form, &mut bytes).unwrap();
    (bytes, written)
}

fn listed(room: &Room) -> Vec<Item> {
    listing::scan(room.tree().as_fd()).collect::<Result<_, _>>().unwrap()
}

#[test]
fn a_layer_comes_back_as_it_was() {
    if !privileged("a_layer_comes_back_as_it_was") {
        return;
    }
    let long = "n".repeat(120);
    let tar = Tar::new()
        .head(Head::new(b'5', b"./").mode(0o711).owner(1, 2).mtime(5))
        .pax(&[(b"mtime", b"1700000000.25"), (b"SCHILY.xattr.user.a", b"b\0")])
        .dir("d")
        .pax(&[(b"mtime", b"-7.75"), (b"SCHILY.xattr.user.a", b"\xff")])
        .raw(Head::new(b'0', b"d/file").mode(0o4711).owner(65535, 7).size(3), b"abc")
        .hard_link("d/link", "d/file")
        .hard_link("z", "d/link")
        .file(&format!("d/{long}"), &[1; 1000])
        .symlink("d/symlink", &long)
        .head(Head::new(b'6', b"fifo").mode(0o600))
        .file("d/.wh.gone", b"")
        .file(&format!(".wh.{long}"), b"")
        .head(Head::new(b'0', b"\xff\xfe"))
        .file("opaque/.wh..wh..opq", b"")
        .file("opaque/x", b"")
        .file("empty", b"")
        .end();
    let first = Room::new();
    let applied = first.apply(&tar, &Bounds::default()).unwrap().applied;
    for path in &applied.opaque {
        let dir = first.path().join(String::from_utf8(path.clone()).unwrap());
        let fd = std::fs::File::open(dir).unwrap();
        runcell::os::sys::set_xattr(fd.as_fd(), c"trusted.overlay.opaque", b"y").unwrap();
    }
    let (bytes, how) = written(&first, Form::Layer);
    assert_eq!(written(&first, Form::Layer).0, bytes, "the same tree, other bytes");
    assert_eq!((how.bytes, how.notices.lines.len()), (1003, 0));
    let second = Room::new();
    let again = second.apply(&bytes, &Bounds::default()).unwrap().applied;
    assert_eq!(again.opaque, applied.opaque);
    assert_eq!(again.implied.len(), 0);
    let unmarked: Vec<Item> = listed(&first)
        .into_iter()
        .map(|mut item| {
            if let listing::Content::Directory { opaque } = &mut item.content {
                *opaque = false;
            }
            item
        })
        .collect();
    assert_eq!(listed(&second), unmarked);
    let links = |room: &Room| std::os::unix::fs::MetadataExt::nlink(&room.path().join("z").metadata().unwrap());
    assert_eq!((links(&first), links(&second)), (3, 3));
}

#[test]
fn a_root_filesystem_is_taken_without_what_no_layer_has() {
    let room = Room::new();
    std::fs::write(room.path().join("file"), "x").unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(room.path().join("socket")).unwrap();
    std::fs::write(room.path().join(".wh.file"), "y").unwrap();
    let (bytes, how) = written(&room, Form::Root);
    assert_eq!(how.entries, 3);
    assert!(how.notices.lines[0].contains("socket"), "{:?}", how.notices);
    // Such a name is a file there, and nothing that a layer could have.
    let fault = write(room.tree().as_fd(), Form::Layer, std::io::sink()).unwrap_err();
    assert_eq!(fault.code, "archive:unrepresentable");
    assert!(bytes.len() % 512 == 0 && bytes.ends_with(&[0; 1024]));
}

#[test]
fn differences_are_named() {
    let room = Room::new();
    let tar = Tar::new().dir("d").file("d/changed", b"1").file("d/gone", b"").symlink("l", "a").file("mode", b"").end();
    room.apply(&tar, &Bounds::default()).unwrap();
    let expected = listed(&room);
    let at = |name: &str| room.path().join(name);
    std::fs::write(at("d/changed"), "2").unwrap();
    std::fs::remove_file(at("d/gone")).unwrap();
    std::fs::remove_file(at("l")).unwrap();
    std::os::unix::fs::symlink("b", at("l")).unwrap();
    std::fs::set_permissions(at("mode"), std::os::unix::fs::PermissionsExt::from_mode(0o4755)).unwrap();
    std::fs::write(at("new"), "").unwrap();
    let all = listing::differences(expected.into_iter().map(Ok), listing::scan(room.tree().as_fd()), 100).unwrap();
    let of = |path: &str| all.iter().find(|d| d.path == path.as_bytes()).map(|d| d.what.clone()).unwrap_or_default();
    assert!(of("d/changed").starts_with("content differs; time is "), "{all:?}");
    assert_eq!(of("d/gone"), "missing");
    assert!(of("l").starts_with("target is b, not a; time is "), "{all:?}");
    assert_eq!(of("mode"), "mode is 4755, not 0644");
    assert_eq!(of("new"), "not of this layer");
    assert!(of("").starts_with("time is ") && of("d").starts_with("time is "), "{all:?}");
    assert_eq!(all.len(), 7);
}
