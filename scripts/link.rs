//! Cargo's build script: has the linker lay the functions that a run executes side by side (scripts/measure/hot.py says why), and
//! begin with the instructions that src/os/sys.rs has for that.
#![allow(clippy::print_stdout)] // a build script's way to speak

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=scripts/hot.ld");
    println!("cargo::rustc-check-cfg=cfg(first_instructions)");
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|v| v == value);
    // A debug build's functions have the same names, but nobody waits for it to start.
    if is("PROFILE", "release") && is("CARGO_CFG_TARGET_OS", "linux") && is("CARGO_CFG_TARGET_ARCH", "x86_64") {
        println!("cargo::rustc-link-arg-bins=-T");
        println!("cargo::rustc-link-arg-bins={}/scripts/hot.ld", env::var("CARGO_MANIFEST_DIR").unwrap_or_default());
        println!("cargo::rustc-cfg=first_instructions");
        println!("cargo::rustc-link-arg-bins=-Wl,--entry=runcell_start");
    }
}
