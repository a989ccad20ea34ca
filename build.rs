//! Link options that depend on the system that is built for.

use std::env::var;
use std::path::Path;
use std::process::Command;
use std::{fs, io};

/// The first glibc whose loader knows packed relative relocations.
const PACKED_SINCE: (u32, u32) = (2, 36);
/// The functions that start the daemon and answer, as patterns of symbols; made by `packaging/order/record`.
const FUNCTIONS: &str = "packaging/order/functions";

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={FUNCTIONS}");
    let is_linux = var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux");
    let is_gnu = is_linux && var("CARGO_CFG_TARGET_ENV").is_ok_and(|env| env == "gnu");
    if is_gnu && var("HOST").ok() == var("TARGET").ok() && glibc().is_some_and(|version| version >= PACKED_SINCE) {
        // 0.4 MiB less to load at every start.
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
    if is_linux && var("PROFILE").is_ok_and(|profile| profile == "release") && !is_linked_otherwise() {
        let script = Path::new(&var("OUT_DIR").expect("cargo says where to write")).join("order.ld");
        fs::write(&script, order(&fs::read_to_string(FUNCTIONS)?))?;
        println!("cargo::rustc-link-arg-bins=-Wl,-T,{}", script.display());
    }
    Ok(())
}

/// Returns whether somebody asks for another linker than the usual one, which may not read linker scripts.
fn is_linked_otherwise() -> bool {
    var("RUSTC_LINKER").is_ok() || var("CARGO_ENCODED_RUSTFLAGS").is_ok_and(|flags| flags.contains("link"))
}

/// Writes a linker script, of the kind that adds to the linker's own, which lays out functions one after the other and before
/// all others: 3 MiB less of the file is in memory (docs/performance.md). What is named and not there is passed by.
fn order(functions: &str) -> String {
    let section = |name: &str| format!("    *(.text.{name} .text.unlikely.{name} .text.startup.{name})\n");
    let sections: String = functions.lines().map(section).collect();
    format!("SECTIONS {{\n  .text : {{\n{sections}    *(.text .text.*)\n  }}\n}} INSERT AFTER .init;\n")
}

/// Asks this machine for the version of its glibc.
fn glibc() -> Option<(u32, u32)> {
    let output = Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let (major, minor) = text.trim().strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.split('.').next()?.parse().ok()?))
}
