//! One case each: what an archive becomes, or why it is refused. Nothing outside the tree ever changes (`Room::apply`).

use super::make::{Head, Tar, record};
use super::room::{Result, Room, privileged};
use runcell::archive::layer::Bounds;
use runcell::archive::listing::{Content, Item};

const BOUNDS: Bounds = Bounds { bytes: 1 << 20, entries: 200, depth: 16, path: 1000 };

#[track_caller]
fn refused(tar: &[u8], code: &str, says: &str) {
    match Room::new().apply(tar, &BOUNDS) {
        Err(fault) => assert!(fault.code == code && fault.message.contains(says), "{fault:?} is not {code}: {says}"),
        Ok(result) => panic!("became {:?}, not {code}: {says}", result.items),
    }
}

/// Kind, and what is inside.
fn says(item: &Item) -> String {
    match &item.content {
        Content::Directory { opaque: false } => "d".into(),
        Content::Directory { opaque: true } => "opaque".into(),
        Content::File { size, .. } => format!("f{size}"),
        Content::Symlink(target) => format!("l{}", String::from_utf8_lossy(target)),
        Content::Fifo => "p".into(),
        Content::Whiteout => "w".into(),
        Content::Device => "c".into(),
        Content::Socket => "s".into(),
    }
}

/// Applies, and holds everything below the root against `path what` words.
#[track_caller]
fn becomes(tar: &[u8], expected: &[(&str, &str)]) -> Result {
    let result = Room::new().apply(tar, &BOUNDS).unwrap();
    let found: Vec<(&str, String)> =
        result.items.iter().filter(|(path, _)| !path.is_empty()).map(|(path, i)| (&path[..], says(i))).collect();
    let expected: Vec<(&str, String)> = expected.iter().map(|(path, what)| (*path, (*what).to_owned())).collect();
    assert_eq!(found, expected);
    result
}

#[test]
fn plain_things_are_as_they_were() {
    if !privileged("plain_things_are_as_they_were") {
        return;
    }
    let tar = Tar::new()
        .head(Head::new(b'5', b"./").mode(0o1777).owner(3, 4))
        .head(Head::new(b'5', b"./a/").mode(0o500).owner(1000, 2000).mtime(77))
        .raw(Head::new(b'0', b"./a/suid").mode(0o6755).owner(65535, 65535).size(3).mtime(5), b"abc")
        .head(Head::new(b'2', b"a/link").link(b"/etc/passwd").owner(7, 8).mtime(9))
        .head(Head::new(b'6', b"a/fifo").mode(0o622).mtime(10))
        .hard_link("a/same", "./a/suid")
        .raw(Head::new(b'7', b"contiguous").size(1), b"x")
        .raw(Head::new(0, b"old").size(1), b"x")
        .head(Head::new(b'0', b"olddir/"))
        .end();
    let all = [
        ("a", "d"),
        ("a/fifo", "p"),
        ("a/link", "l/etc/passwd"),
        ("a/same", "f3"),
        ("a/suid", "f3"),
        ("contiguous", "f1"),
        ("old", "f1"),
        ("olddir", "d"),
    ];
    let result = becomes(&tar, &all);
    let of = |path: &str| {
        let a = &result.items[path].attributes;
        (a.mode, a.uid, a.gid, a.mtime.seconds)
    };
    assert_eq!(of(""), (0o1777, 3, 4, 1_000_000_000));
    assert_eq!(of("a"), (0o500, 1000, 2000, 77));
    assert_eq!(of("a/suid"), (0o6755, 65535, 65535, 5));
    assert_eq!(of("a/same"), of("a/suid"));
    assert_eq!(of("a/link"), (0o777, 7, 8, 9));
    assert_eq!(of("a/fifo"), (0o622, 0, 0, 10));
    assert_eq!((result.applied.bytes, result.applied.implied.len()), (5, 0));
}

// ---- names ---------------------------------------------------------------------------------------------------------------

#[test]
fn absolute_names_lie_in_the_tree() {
    becomes(&Tar::new().file("/etc/passwd", b"x").file("//b", b"").end(), &[("b", "f0"), ("etc", "d"), ("etc/passwd", "f1")]);
}

#[test]
fn dots_and_slashes_are_nothing() {
    becomes(&Tar::new().file("./a/.//b", b"x").dir("a/./").end(), &[("a", "d"), ("a/b", "f1")]);
}

#[test]
fn parent_names_are_refused() {
    for name in ["../file", "a/../../file", "..", "/../file", "a/..", "./../outside/file"] {
        refused(&Tar::new().file(name, b"evil").end(), "archive:malformed", "leads out");
        refused(&Tar::new().dir(name).end(), "archive:malformed", "leads out");
    }
}

#[test]
fn parent_names_by_extended_headers_are_refused() {
    refused(&Tar::new().pax(&[(b"path", b"../file")]).file("good", b"evil").end(), "archive:malformed", "leads out");
    refused(&Tar::new().extended(b'L', b"../file\0").file("good", b"evil").end(), "archive:malformed", "leads out");
    refused(&Tar::new().head(Head::new(b'0', b"file").bytes(345, b"..")).end(), "archive:malformed", "leads out");
}

#[test]
fn empty_names_are_refused() {
    refused(&Tar::new().head(Head::new(b'0', b"")).end(), "archive:malformed", "no name");
}

#[test]
fn the_root_is_a_directory() {
    for name in ["/", "./", "."] {
        let kind = if name == "." { b'0' } else { b'2' };
        refused(&Tar::new().head(Head::new(kind, name.as_bytes()).link(b"x")).end(), "archive:malformed", "root of the tree");
    }
    refused(&Tar::new().hard_link("/", "a").end(), "archive:malformed", "");
}

#[test]
fn nul_in_a_pax_name_is_refused() {
    refused(&Tar::new().pax(&[(b"path", b"a\0b")]).file("x", b"").end(), "archive:malformed", "NUL");
    refused(&Tar::new().pax(&[(b"linkpath", b"a\0b")]).symlink("x", "y").end(), "archive:malformed", "NUL");
}

#[test]
fn long_names_come_by_gnu_pax_and_prefix() {
    let (long, path) = ("n".repeat(255), "p/".repeat(15) + &"q".repeat(200));
    let target = "t".repeat(900);
    let tar = Tar::new()
        .extended(b'L', format!("{long}\0").as_bytes())
        .file("short", b"a")
        .pax(&[(b"path", path.as_bytes())])
        .file("short", b"b")
        .extended(b'K', format!("{target}\0").as_bytes())
        .extended(b'L', b"link\0")
        .symlink("short", "short")
        .head(Head::new(b'0', b"rest").bytes(345, b"prefix/of"))
        .head(Head::new(b'0', b"gnu").bytes(257, b"ustar  \0").bytes(345, b"0000000"))
        .end();
    let result = Room::new().apply(&tar, &BOUNDS).unwrap();
    for path in [&long, &path, "prefix/of/rest", "gnu"] {
        assert!(matches!(result.items[path].content, Content::File { .. }), "{path}");
    }
    assert_eq!(says(&result.items["link"]), format!("l{target}"));
}

#[test]
fn names_beyond_bounds_are_refused() {
    refused(&Tar::new().pax(&[(b"path", &[b'x'; 256])]).file("x", b"").end(), "archive:too_large", "255 bytes");
    refused(
        &Tar::new().pax(&[(b"path", &[&[b'x'; 200][..]; 6].join(&b'/'))]).file("x", b"").end(),
        "archive:too_large",
        "1000 bytes",
    );
    refused(&Tar::new().dir(&"d/".repeat(17)).end(), "archive:too_large", "16 directories deep");
}

#[test]
fn names_are_bytes() {
    let name = b"\xff\xfe\n\t\\\" =,\x01";
    let tar = Tar::new().head(Head::new(b'0', name)).head(Head::new(b'2', b"l").link(b"\xc3\x28 \n")).end();
    let result = Room::new().apply(&tar, &BOUNDS).unwrap();
    let paths: Vec<&[u8]> = result.items.values().map(|i| &i.path[..]).collect();
    assert!(paths.contains(&&name[..]), "{paths:?}");
    assert_eq!(result.items["l"].content, Content::Symlink(b"\xc3\x28 \n".to_vec()));
}

// ---- ways out by links ---------------------------------------------------------------------------------------------------

#[test]
fn nothing_goes_through_a_symlink() {
    for target in ["../outside", "/tmp", ".", "real", "loop", "/proc/self/root"] {
        let tar = Tar::new().dir("real").symlink("loop", target).file("loop/evil", b"x").end();
        refused(&tar, "archive:malformed", "is a symlink");
        let deep = Tar::new().dir("real").symlink("loop", target).dir("loop/a/b").end();
        refused(&deep, "archive:malformed", "is a symlink");
        let whiteout = Tar::new().dir("real").symlink("loop", target).file("loop/.wh.file", b"").end();
        refused(&whiteout, "archive:malformed", "is a symlink");
        let opaque = Tar::new().dir("real").symlink("loop", target).file("loop/.wh..wh..opq", b"").end();
        refused(&opaque, "archive:malformed", "is a symlink");
        let from = Tar::new().dir("real").symlink("loop", target).hard_link("x", "loop/file").end();
        refused(&from, "archive:malformed", "the way there is no directory");
    }
}

#[test]
fn a_file_replaces_a_symlink_and_not_its_target() {
    becomes(&Tar::new().symlink("a", "../file").file("a", b"evil").end(), &[("a", "f4")]);
    becomes(&Tar::new().symlink("a", "../outside").dir("a").file("a/file", b"x").end(), &[("a", "d"), ("a/file", "f1")]);
    becomes(&Tar::new().symlink("a", "../file").head(Head::new(b'6', b"a")).end(), &[("a", "p")]);
}

#[test]
fn attributes_do_not_go_through_symlinks() {
    let tar = Tar::new()
        .head(Head::new(b'2', b"a").link(b"../file").mode(0o777).mtime(1))
        .pax(&[(b"SCHILY.xattr.user.x", b"1")])
        .symlink("b", "../file")
        .end();
    let result = becomes(&tar, &[("a", "l../file"), ("b", "l../file")]);
    assert!(result.applied.notices.lines.iter().any(|l| l.contains("user.x")), "{:?}", result.applied.notices);
}

#[test]
fn symlinks_may_point_anywhere() {
    becomes(&Tar::new().symlink("a", "/../../etc").symlink("b", "b").end(), &[("a", "l/../../etc"), ("b", "lb")]);
}

#[test]
fn symlinks_without_a_target_are_refused() {
    refused(&Tar::new().symlink("a", "").end(), "archive:malformed", "target");
    refused(&Tar::new().pax(&[(b"linkpath", &[b'x'; 4096])]).symlink("a", "b").end(), "archive:malformed", "target");
}

#[test]
fn hard_links_stay_in_the_layer() {
    refused(&Tar::new().hard_link("a", "../file").end(), "archive:malformed", "leads out");
    refused(&Tar::new().hard_link("a", "/etc/passwd").end(), "archive:malformed", "no such file");
    refused(&Tar::new().hard_link("a", "later").file("later", b"").end(), "archive:malformed", "no such file");
    refused(&Tar::new().dir("d").hard_link("a", "d").end(), "archive:malformed", "directory");
    refused(&Tar::new().file(".wh.gone", b"").hard_link("a", "gone").end(), "archive:malformed", "no such file");
    refused(&Tar::new().file("f", b"").hard_link("a", "f/x").end(), "archive:malformed", "no directory");
    refused(&Tar::new().hard_link("a", "").end(), "archive:malformed", "no name");
}

#[test]
fn a_hard_link_to_a_symlink_is_that_symlink() {
    let tar = Tar::new().symlink("out", "../file").hard_link("same", "out").file("same", b"evil").end();
    becomes(&tar, &[("out", "l../file"), ("same", "f4")]);
}

#[test]
fn a_hard_link_to_itself_is_nothing() {
    becomes(
        &Tar::new().file("a", b"x").hard_link("a", "a").hard_link("b", "a").hard_link("a", "b").end(),
        &[("a", "f1"), ("b", "f1")],
    );
}

#[test]
fn writing_a_link_anew_does_not_write_the_other_end() {
    let result = becomes(&Tar::new().file("a", b"x").hard_link("b", "a").file("b", b"yz").end(), &[("a", "f1"), ("b", "f2")]);
    assert_eq!(result.applied.bytes, 3);
}

// ---- the same place twice ------------------------------------------------------------------------------------------------

#[test]
fn the_last_file_wins() {
    becomes(&Tar::new().file("a", b"first").file("a", b"2").end(), &[("a", "f1")]);
    becomes(&Tar::new().file("a", b"first").symlink("a", "x").end(), &[("a", "lx")]);
    becomes(&Tar::new().file("a", b"first").dir("a").end(), &[("a", "d")]);
}

#[test]
fn directories_merge_and_the_last_attributes_win() {
    let tar = Tar::new().dir("a").file("a/f", b"").head(Head::new(b'5', b"a").mode(0o700).mtime(3)).end();
    let result = becomes(&tar, &[("a", "d"), ("a/f", "f0")]);
    assert_eq!((result.items["a"].attributes.mode, result.items["a"].attributes.mtime.seconds), (0o700, 3));
}

#[test]
fn files_replace_empty_directories_alone() {
    becomes(&Tar::new().dir("a").file("a", b"x").end(), &[("a", "f1")]);
    becomes(
        &Tar::new().dir("a").dir("a/b").file("a/b", b"x").file("a/c", b"").end(),
        &[("a", "d"), ("a/b", "f1"), ("a/c", "f0")],
    );
    refused(&Tar::new().file("a/f", b"").file("a", b"x").end(), "archive:malformed", "replaces a directory");
}

#[test]
fn files_have_nothing_below_them() {
    refused(&Tar::new().file("a", b"").file("a/b", b"").end(), "archive:malformed", "is no directory");
    refused(&Tar::new().head(Head::new(b'6', b"a")).dir("a/b").end(), "archive:malformed", "is no directory");
}

#[test]
fn directories_without_entries_are_implied() {
    let result = becomes(&Tar::new().file("a/b/c", b"").dir("a").end(), &[("a", "d"), ("a/b", "d"), ("a/b/c", "f0")]);
    let implied: Vec<&[u8]> = result.applied.implied.iter().map(|p| &p[..]).collect();
    assert_eq!(implied, [&b""[..], b"a/b"]);
    let b = &result.items["a/b"].attributes;
    assert_eq!((b.mode, b.uid, b.mtime.seconds), (0o755, 0, 0));
}

// ---- whiteouts -----------------------------------------------------------------------------------------------------------

#[test]
fn whiteouts_hide_lower_layers() {
    let result = becomes(&Tar::new().file("a/.wh.b", b"").file(".wh.c", b"").end(), &[("a", "d"), ("a/b", "w"), ("c", "w")]);
    assert_eq!(result.applied.opaque.len(), 0);
}

#[test]
fn whiteouts_do_not_hide_their_own_layer() {
    for tar in [Tar::new().file(".wh.a", b"").file("a", b"x"), Tar::new().file("a", b"x").file(".wh.a", b"")] {
        assert_eq!(becomes(&tar.end(), &[("a", "f1")]).applied.opaque.len(), 0);
    }
    // A directory would let the lower one shine through, if it were not opaque.
    for tar in [
        Tar::new().file(".wh.a", b"").dir("a").file("a/f", b""),
        Tar::new().dir("a").file("a/f", b"").file(".wh.a", b""),
        Tar::new().file(".wh.a", b"").file("a/f", b""),
    ] {
        let result = becomes(&tar.end(), &[("a", "opaque"), ("a/f", "f0")]);
        assert!(result.applied.opaque.iter().eq([b"a"]), "{:?}", result.applied.opaque);
    }
}

#[test]
fn opaque_directories_are_reported() {
    for tar in [
        Tar::new().dir("a").file("a/.wh..wh..opq", b"").file("a/f", b""),
        Tar::new().file("a/f", b"").file("a/.wh..wh..opq", b""),
    ] {
        let result = becomes(&tar.end(), &[("a", "opaque"), ("a/f", "f0")]);
        assert!(result.applied.opaque.iter().eq([b"a"]));
    }
    let result = Room::new().apply(&Tar::new().file(".wh..wh..opq", b"").end(), &BOUNDS).unwrap();
    assert!(result.applied.opaque.iter().eq([b""]) && says(&result.items[""]) == "opaque");
}

#[test]
fn an_opaque_directory_that_is_none_in_the_end_is_not_reported() {
    let result = becomes(&Tar::new().file("a/.wh..wh..opq", b"").file("a", b"x").end(), &[("a", "f1")]);
    assert_eq!(result.applied.opaque.len(), 0);
}

#[test]
fn whiteouts_of_nothing_are_refused() {
    for name in [".wh.", ".wh..", ".wh...", "a/.wh...", "a/.wh."] {
        refused(&Tar::new().file(name, b"").end(), "archive:malformed", "whiteout of nothing");
    }
    refused(&Tar::new().file(".wh.a/b", b"").end(), "archive:malformed", "below a whiteout");
}

#[test]
fn leftovers_of_aufs_are_ignored() {
    becomes(
        &Tar::new().dir(".wh..wh.plnk").file(".wh..wh.plnk/1.2", b"xyz").file(".wh..wh.aufs", b"").file("a", b"").end(),
        &[("a", "f0")],
    );
}

// ---- devices, owners, attributes -----------------------------------------------------------------------------------------

#[test]
fn devices_are_skipped_with_a_notice() {
    let tar =
        Tar::new().head(Head::new(b'3', b"dev/null").bytes(329, b"0000001\x000000003\0")).head(Head::new(b'4', b"dev/sda")).end();
    let result = becomes(&tar, &[]);
    assert_eq!(result.applied.notices.lines.len(), 2);
}

#[test]
fn a_device_is_no_smuggled_whiteout() {
    becomes(&Tar::new().head(Head::new(b'3', b"etc").bytes(329, b"0000000\x000000000\0")).end(), &[]);
}

#[test]
fn owners_beyond_a_cells_are_refused() {
    refused(&Tar::new().head(Head::new(b'0', b"a").owner(65536, 0)).end(), "archive:malformed", "uid 65536");
    refused(&Tar::new().pax(&[(b"gid", b"4294967296")]).file("a", b"").end(), "archive:malformed", "gid 4294967296");
    refused(
        &Tar::new().head(Head::new(b'0', b"a").bytes(108, b"\xff\xff\xff\xff\xff\xff\xff\xff")).end(),
        "archive:malformed",
        "uid is negative",
    );
}

#[test]
fn attributes_that_travel_are_kept_and_others_dropped() {
    if !privileged("attributes_that_travel_are_kept_and_others_dropped") {
        return;
    }
    let capability = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let tar = Tar::new()
        .pax(&[
            (b"SCHILY.xattr.user.kept", b"va\0l=\n"),
            (b"SCHILY.xattr.security.capability", capability),
            (b"SCHILY.xattr.security.selinux", b"x"),
            (b"SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
            (b"SCHILY.xattr.user.overlay.opaque", b"y"),
            (b"SCHILY.xattr.system.posix_acl_access", b"x"),
        ])
        .head(Head::new(b'0', b"a").owner(5, 5).mode(0o4755))
        .pax(&[(b"SCHILY.xattr.user.d", b"1"), (b"SCHILY.xattr.trusted.overlay.opaque", b"y")])
        .dir("d")
        .end();
    let result = becomes(&tar, &[("a", "f0"), ("d", "d")]);
    let a = &result.items["a"].attributes;
    assert_eq!(a.xattrs.keys().map(|k| &k[..]).collect::<Vec<_>>(), [&b"security.capability"[..], b"user.kept"]);
    assert_eq!((&a.xattrs[&b"user.kept"[..]][..], a.mode), (&b"va\0l=\n"[..], 0o4755));
    assert_eq!(result.items["d"].attributes.xattrs.len(), 1);
    assert_eq!(result.applied.notices.lines.len(), 2, "{:?}", result.applied.notices);
}

#[test]
fn attributes_that_are_none_are_refused() {
    if !privileged("attributes_that_are_none_are_refused") {
        return;
    }
    refused(
        &Tar::new().pax(&[(b"SCHILY.xattr.security.capability", b"junk")]).file("a", b"").end(),
        "archive:malformed",
        "that is none",
    );
    refused(&Tar::new().pax(&[(b"SCHILY.xattr.user.", b"x")]).file("a", b"").end(), "archive:malformed", "that is none");
    let long = [b"SCHILY.xattr.user.", &[b'x'; 300][..]].concat();
    refused(&Tar::new().pax(&[(&long, b"x")]).file("a", b"").end(), "archive:malformed", "that is none");
}

#[test]
fn times_are_exact_to_the_nanosecond() {
    let tar = Tar::new().pax(&[(b"mtime", b"1700000000.123456789")]).dir("d").pax(&[(b"mtime", b"-1.5")]).file("d/f", b"").end();
    let result = becomes(&tar, &[("d", "d"), ("d/f", "f0")]);
    assert_eq!(result.items["d"].attributes.mtime.to_string(), "1700000000.123456789");
    assert_eq!(result.items["d/f"].attributes.mtime.to_string(), "-1.5");
    refused(&Tar::new().pax(&[(b"mtime", b"soon")]).file("a", b"").end(), "archive:malformed", "is no time");
}

// ---- headers -------------------------------------------------------------------------------------------------------------

#[test]
fn what_is_no_tar_is_refused() {
    refused(&[b'x'; 2048], "archive:malformed", "wrong checksum");
    let mut tar = Tar::new().file("a", b"x").end();
    tar[0] ^= 1;
    refused(&tar, "archive:malformed", "wrong checksum");
}

#[test]
fn truncated_archives_are_refused_wherever_they_end() {
    let whole = Tar::new().dir("d").file("a", &[7; 700]).pax(&[(b"path", b"long")]).file("b", b"x").end();
    let end = whole.len() - 1024;
    for cut in [0, 1, 511, 512, 600, 1024, 1100, 1536, 2048, 2100, 2560, 3000, end - 1, end, end + 100] {
        refused(&whole[..cut], "archive:malformed", if cut > end { "truncated" } else { "" });
    }
    // One block of zeros is enough for all tools.
    Room::new().apply(&whole[..end + 512], &BOUNDS).unwrap();
}

#[test]
fn nothing_follows_the_end() {
    let tar = [Tar::new().file("a", b"").end(), Tar::new().file("../file", b"evil").end()].concat();
    refused(&tar, "archive:malformed", "follows the end");
    becomes(&[Tar::new().file("a", b"").end(), vec![0; 20 * 512]].concat(), &[("a", "f0")]);
}

#[test]
fn sizes_that_overflow_are_refused() {
    let most = b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff";
    refused(&Tar::new().head(Head::new(b'0', b"a").bytes(124, most)).end(), "archive:too_large", "more than 1048576 bytes");
    refused(&Tar::new().pax(&[(b"size", b"18446744073709551615")]).file("a", b"").end(), "archive:malformed", "beyond 64 bits");
    refused(&Tar::new().pax(&[(b"size", b"18446744073709551616")]).file("a", b"").end(), "archive:malformed", "is no number");
    refused(&Tar::new().head(Head::new(b'0', b"a").bytes(124, &[0xff; 12])).end(), "archive:malformed", "size is negative");
    refused(&Tar::new().head(Head::new(b'0', b"a").bytes(124, b"12x")).end(), "archive:malformed", "is no number");
}

#[test]
fn more_than_the_bounds_is_refused() {
    refused(
        &Tar::new().file("a", &vec![0; 600_000]).file("b", &vec![0; 600_000]).end(),
        "archive:too_large",
        "more than 1048576 bytes",
    );
    let many = (0..201).fold(Tar::new(), |tar, n| tar.file(&format!("{n}"), b""));
    refused(&many.end(), "archive:too_large", "more than 200 entries");
    // Entries that come to nothing count as well.
    let ignored = (0..201).fold(Tar::new(), |tar, _| tar.file(".wh..wh.aufs", b""));
    refused(&ignored.end(), "archive:too_large", "more than 200 entries");
}

#[test]
fn bodies_where_none_belong_are_refused() {
    for kind in [b'1', b'2', b'5', b'6', b'3'] {
        let inner = Tar::new().file("../file", b"evil").0;
        let tar = Tar::new().file("f", b"").raw(Head::new(kind, b"a").link(b"f").size(inner.len() as u64), &inner).end();
        refused(&tar, "archive:malformed", "has content");
    }
}

#[test]
fn unknown_kinds_are_refused() {
    for kind in [b'M', b'N', b'X', b'Z', b'D', 0xff] {
        refused(&Tar::new().head(Head::new(kind, b"a")).end(), "archive:unsupported", "entry");
    }
}

#[test]
fn size_by_pax_rules_where_the_next_entry_begins() {
    let inner = Tar::new().file("../file", b"evil").0;
    let tar = Tar::new().pax(&[(b"size", inner.len().to_string().as_bytes())]).raw(Head::new(b'0', b"a"), &inner).end();
    becomes(&tar, &[("a", "f1024")]);
}

#[test]
fn global_headers_may_comment_and_no_more() {
    becomes(&Tar::new().extended(b'g', &record(b"comment", b"0123")).file("a", b"").end(), &[("a", "f0")]);
    let owned = Tar::new().extended(b'g', &record(b"mtime", b"3")).file("a", b"").pax(&[(b"mtime", b"4")]).file("b", b"").end();
    let result = becomes(&owned, &[("a", "f0"), ("b", "f0")]);
    assert_eq!((result.items["a"].attributes.mtime.seconds, result.items["b"].attributes.mtime.seconds), (3, 4));
    for (key, value) in [
        (&b"path"[..], &b"x"[..]),
        (b"linkpath", b"x"),
        (b"size", b"1"),
        (b"GNU.sparse.map", b"0,1"),
        (b"SCHILY.xattr.user.a", b""),
    ] {
        refused(&Tar::new().extended(b'g', &record(key, value)).file("a", b"").end(), "archive:malformed", "global header");
    }
}

#[test]
fn extended_headers_are_bounded() {
    let many = (0..17).fold(Tar::new(), |tar, _| tar.pax(&[(b"comment", b"x")]));
    refused(&many.file("a", b"").end(), "archive:malformed", "more than 16 extended headers");
    for kind in [b'x', b'L', b'g', b'K'] {
        refused(&Tar::new().head(Head::new(kind, b"a").size(1 << 30)).end(), "archive:too_large", "extended header");
    }
}

#[test]
fn extended_headers_describe_something() {
    refused(&Tar::new().pax(&[(b"path", b"a")]).end(), "archive:malformed", "behind an extended header");
    refused(&Tar::new().extended(b'x', b"8 path=x\n").file("a", b"").end(), "archive:malformed", "malformed record");
    becomes(&Tar::new().extended(b'V', b"label").file("a", b"").end(), &[("a", "f0")]);
}

// ---- holes ---------------------------------------------------------------------------------------------------------------

fn content(size: u64, pieces: &[(usize, &[u8])]) -> [u8; 32] {
    use sha2::Digest as _;
    let mut bytes = vec![0; size as usize];
    pieces.iter().for_each(|(at, piece)| bytes[*at..at + piece.len()].copy_from_slice(piece));
    sha2::Sha256::digest(&bytes).into()
}

fn old_gnu(pieces: &[(u64, u64)], size: u64, stored: u64, extended: bool) -> Head {
    let mut head = Head::new(b'S', b"holes").bytes(257, b"ustar  \0").size(stored);
    for (n, (offset, length)) in pieces.iter().enumerate() {
        head = head.bytes(386 + n * 24, format!("{offset:011o}\0{length:011o}\0").as_bytes());
    }
    head.bytes(482, &[u8::from(extended)]).bytes(483, format!("{size:011o}\0").as_bytes())
}

#[test]
fn files_with_holes_have_holes() {
    let (a, b) = (&[1u8; 512][..], &[2u8; 512][..]);
    let body = [a, b].concat();
    let is = content(900_000, &[(4096, a), (800_000, b)]);
    let map = b"2\n4096\n512\n800000\n512\n";
    let mut with_map = map.to_vec();
    with_map.resize(512, 0);
    with_map.extend(&body);
    let name: (&[u8], &[u8]) = (b"GNU.sparse.name", b"holes");
    let mut second = vec![0; 512];
    second[..24].copy_from_slice(format!("{:011o}\0{:011o}\0", 800_000, 512).as_bytes());
    second.extend(&body);
    let tars = [
        Tar::new().raw(old_gnu(&[(4096, 512), (800_000, 512)], 900_000, 1024, false), &body),
        // The second piece in a block of its own.
        Tar::new().raw(old_gnu(&[(4096, 512), (5000, 0), (6000, 0), (7000, 0)], 900_000, 1024, true), &second),
        Tar::new()
            .pax(&[
                name,
                (b"GNU.sparse.size", b"900000"),
                (b"GNU.sparse.offset", b"4096"),
                (b"GNU.sparse.numbytes", b"512"),
                (b"GNU.sparse.offset", b"800000"),
                (b"GNU.sparse.numbytes", b"512"),
            ])
            .file("GNUSparseFile.1/x", &body),
        Tar::new().pax(&[name, (b"GNU.sparse.size", b"900000"), (b"GNU.sparse.map", b"4096,512,800000,512")]).file("y", &body),
        Tar::new()
            .pax(&[name, (b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"), (b"GNU.sparse.realsize", b"900000")])
            .file("z", &with_map),
    ];
    for (n, tar) in tars.into_iter().enumerate() {
        let room = Room::new();
        let result = room.apply(&tar.file("behind", b"x").end(), &BOUNDS).unwrap();
        assert_eq!(result.items["holes"].content, Content::File { size: 900_000, sha256: is }, "{n}");
        assert_eq!(says(&result.items["behind"]), "f1", "{n}");
        let blocks = std::os::unix::fs::MetadataExt::blocks(&room.path().join("holes").metadata().unwrap());
        assert!(blocks * 512 < 100_000, "form {n} occupies {blocks} blocks");
    }
}

#[test]
fn maps_of_holes_must_fit() {
    let body = [1u8; 512];
    let map =
        |map: &[u8], size: &[u8]| Tar::new().pax(&[(b"GNU.sparse.size", size), (b"GNU.sparse.map", map)]).file("a", &body).end();
    refused(&map(b"100,512", b"600"), "archive:malformed", "overlap or lie outside");
    refused(&map(b"0,256,128,256", b"600"), "archive:malformed", "overlap or lie outside");
    refused(&map(b"18446744073709551615,512", b"600"), "archive:malformed", "overlap or lie outside");
    refused(&map(b"0,100", b"600"), "archive:malformed", "its body has 512");
    refused(&map(b"0,512,600", b"600"), "archive:malformed", "offset without a length");
    refused(&map(b"0,512", b"4398046511104"), "archive:too_large", "more than 1048576 bytes");
    refused(&map(b"a,b", b"600"), "archive:malformed", "is no number");
    refused(&Tar::new().pax(&[(b"GNU.sparse.map", b"0,512")]).file("a", &body).end(), "archive:malformed", "the file's size");
    let version: &[(&[u8], &[u8])] = &[(b"GNU.sparse.major", b"2"), (b"GNU.sparse.minor", b"0"), (b"GNU.sparse.realsize", b"9")];
    refused(&Tar::new().pax(version).file("a", &body).end(), "archive:malformed", "unknown version 2.0");
    let one: &[(&[u8], &[u8])] = &[(b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"), (b"GNU.sparse.realsize", b"9")];
    let mut endless = b"65537\n".to_vec();
    endless.resize(512, 0);
    refused(&Tar::new().pax(one).file("a", &endless).end(), "archive:malformed", "more than 65536 pieces");
    refused(&Tar::new().pax(one).file("a", b"1\n5").end(), "archive:malformed", "");
    refused(&Tar::new().pax(one).file("a", &[b'1'; 512]).end(), "archive:malformed", "is no number");
}

#[test]
fn maps_of_holes_do_not_go_on_for_ever() {
    let mut block = vec![0; 512];
    for n in 0..21 {
        block[n * 24..n * 24 + 24].copy_from_slice(b"00000000000\x0000000000000\0");
    }
    block[504] = 1;
    let mut tar = Tar::new().raw(old_gnu(&[(0, 0), (0, 0), (0, 0), (0, 0)], 9, 0, true), b"").0;
    (0..4000).for_each(|_| tar.extend(&block));
    refused(&tar, "archive:malformed", "more than 65536 pieces");
}
