//! Ends that no program should come to.

use std::hint::black_box;

use streamspace_sdk::{Outcome, Result};

use crate::good;

/// Bytes above every memory that the host gives.
const FAR_OUTSIDE: usize = 0xffff_0000;

#[allow(clippy::panic)]
pub(crate) fn panic() -> Result<Outcome> {
    panic!("hostile on purpose: all is lost")
}

/// An `unreachable` instruction.
pub(crate) fn abort() -> Result<Outcome> {
    std::process::abort()
}

pub(crate) fn exit() -> Result<Outcome> {
    std::process::exit(0)
}

pub(crate) fn overflow_the_stack() -> Result<Outcome> {
    fn deeper(depth: u64) -> u64 {
        let frame = black_box([depth; 8]);
        if black_box(true) { deeper(depth + 1) + frame[7] } else { depth }
    }
    black_box(deeper(0));
    Ok(good())
}

pub(crate) fn index() -> Result<Outcome> {
    let three = black_box(vec![1, 2, 3]);
    black_box(three[black_box(7)]);
    Ok(good())
}

pub(crate) fn read_far_outside() -> Result<Outcome> {
    // SAFETY: none. The sandbox has to end the call here.
    #[allow(unsafe_code)]
    black_box(unsafe { std::ptr::read_volatile(black_box(FAR_OUTSIDE) as *const u64) });
    Ok(good())
}

pub(crate) fn write_far_outside() -> Result<Outcome> {
    // SAFETY: none. The sandbox has to end the call here.
    #[allow(unsafe_code)]
    unsafe {
        std::ptr::write_volatile(black_box(FAR_OUTSIDE) as *mut u64, u64::MAX);
    }
    Ok(good())
}

/// Says far more on its standard streams than anybody keeps, and then why it ends.
#[allow(clippy::panic)]
pub(crate) fn chat_and_panic() -> Result<Outcome> {
    for line in 0..1000 {
        println!("line {line} of much too many");
        eprintln!("line {line} of much too many");
    }
    panic!("the last words")
}
