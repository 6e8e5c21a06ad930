//! Hands events on to those who listen. The table of the store is the source; nothing here is the only copy.

mod feed;
mod subscription;

pub(crate) use feed::Feed;
pub(crate) use subscription::{News, Subscription};
