//! Cargo's build script: has the linker lay the functions that a run executes side by side (scripts/measure/hot.py says why),
//! begin with the instructions that src/os/sys.rs has for that, and take a beginning of libc's that asks less (cpuid.rs).
#![allow(clippy::print_stdout)] // a build script's way to speak
#![allow(clippy::disallowed_methods)] // what spawns for runcell is not at hand yet

mod cpuid;

use std::env;
use std::path::PathBuf;

fn main() {
    println!("cargo::rerun-if-changed=scripts/hot.ld");
    println!("cargo::rerun-if-changed=scripts/cpuid.rs");
    println!("cargo::rustc-check-cfg=cfg(first_instructions, spared)");
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|v| v == value);
    if !is("CARGO_CFG_TARGET_OS", "linux") || !is("CARGO_CFG_TARGET_ARCH", "x86_64") {
        return;
    }
    // A debug build's functions have the same names, but nobody waits for it to start.
    if is("PROFILE", "release") {
        println!("cargo::rustc-link-arg-bins=-T");
        println!("cargo::rustc-link-arg-bins={}/scripts/hot.ld", env::var("CARGO_MANIFEST_DIR").unwrap_or_default());
        println!("cargo::rustc-cfg=first_instructions");
        println!("cargo::rustc-link-arg-bins=-Wl,--entry=runcell_start");
    }
    // This is in every build: what is shipped is what is tested.
    let features = env::var("CARGO_CFG_TARGET_FEATURE").unwrap_or_default();
    if is("CARGO_CFG_TARGET_ENV", "gnu") && features.split(',').any(|feature| feature == "crt-static") {
        spared();
    }
}

/// An archive of ours comes before libc's, and nobody looks for what has been found.
fn spared() {
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    match cpuid::spare(&out) {
        Ok(()) => {
            println!("cargo::rustc-link-search=native={}", out.display());
            println!("cargo::rustc-link-lib=static=spared");
            println!("cargo::rustc-cfg=spared");
        }
        Err(why) => {
            println!("cargo::warning=starts will ask the processor what it can do, some 0.1 ms in a virtual machine: {why}");
        }
    }
}
