//! What describes our SQL objects is in a section of the library that nothing refers to: the linker
//! must keep it. cargo-pgrx would say so too, in flags for everything that we depend on, which then is
//! compiled once for the tests and once more for the library: bin/env.sh keeps it from that.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os != "macos") {
        println!("cargo::rustc-link-arg-cdylib=-Wl,--no-gc-sections");
    }
}
