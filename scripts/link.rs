//! Cargo's build script: has the linker lay the functions that a run executes side by side (scripts/measure/hot.py says why).
#![allow(clippy::print_stdout)] // a build script's way to speak

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=scripts/hot.ld");
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|v| v == value);
    // A debug build's functions have the same names, but nobody waits for it to start.
    if is("PROFILE", "release") && is("CARGO_CFG_TARGET_OS", "linux") && is("CARGO_CFG_TARGET_ARCH", "x86_64") {
        println!("cargo::rustc-link-arg-bins=-T");
        println!("cargo::rustc-link-arg-bins={}/scripts/hot.ld", env::var("CARGO_MANIFEST_DIR").unwrap_or_default());
    }
}
