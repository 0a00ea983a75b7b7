//! Processes that are confined and try to break out.
//!
//! This binary starts itself; the variable `CHILD` says which part to play, `KIND` as what. Each
//! attack has a process of its own, as the right answer to most is death.
#![allow(clippy::unwrap_used, reason = "a failed step of a test ends it")]

#[cfg(target_os = "linux")]
mod attacks;
#[cfg(target_os = "linux")]
mod child;
#[cfg(target_os = "linux")]
mod exercises;
#[cfg(target_os = "freebsd")]
mod freebsd;
#[cfg(target_os = "linux")]
mod parent;
#[cfg(target_os = "linux")]
mod ring;
#[cfg(target_os = "linux")]
mod sweep;
#[cfg(target_os = "linux")]
mod sys;

#[cfg(target_os = "freebsd")]
use freebsd::TESTS;
#[cfg(target_os = "linux")]
use parent::TESTS;

fn main() {
    if let Ok(part) = std::env::var("CHILD") {
        #[cfg(target_os = "linux")]
        return child::play(&part);
        #[cfg(target_os = "freebsd")]
        return freebsd::play(&part);
    }
    let filters: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    let has = |option: &str| std::env::args().any(|argument| argument == option);
    if !nix::unistd::geteuid().is_root() && !has("--list") {
        println!("not root: namespaces, the root directory and the user are not tried");
    }
    for (name, test) in TESTS {
        let wanted = filters.is_empty() || filters.iter().any(|filter| name.contains(filter));
        if !wanted || has("--ignored") {
            continue;
        }
        if has("--list") {
            println!("{name}: test");
            continue;
        }
        test();
        println!("test {name} ... ok");
    }
}
