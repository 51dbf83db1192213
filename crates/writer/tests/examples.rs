//! The example does what it says.
#![allow(clippy::unwrap_used, reason = "a test that cannot continue must stop")]

#[allow(dead_code, unreachable_pub, reason = "its `main` is for people")]
#[path = "../examples/reserve.rs"]
mod reserve;

#[test]
fn the_reserve_grows_with_ram() {
    let small = reserve::reserve(8).unwrap();
    assert!(small.starts_with("dump map 262"), "{small}");
    assert_ne!(small, reserve::reserve(64).unwrap());
}
