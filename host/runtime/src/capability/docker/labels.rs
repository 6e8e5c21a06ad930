//! Which of an object's labels are told, and how many of them there may be.
//!
//! The engine gives a container the labels of its image beside its own, and sends all of them with every look at it and
//! every event of it. An image is anybody's, and its labels may have megabytes.

use std::collections::HashMap;

use streamspace_bindings::types::{Error, ErrorKind};

use super::{Labels, error};

/// Start of the labels that are told.
const PREFIX: &str = "streamspace.";

/// Bytes of an object's labels that are told, and of those that it may be given.
const MOST: usize = 16 << 10;

/// Bytes that an image's labels may have.
const MOST_OF_IMAGE: usize = 256 << 10;

/// Bytes of labels.
pub(super) fn size<'a>(labels: impl IntoIterator<Item = (&'a String, &'a String)>) -> usize {
    labels.into_iter().map(|(key, value)| key.len() + value.len()).sum()
}

/// What is told of an object's labels: the shortest first, so that an image with many or long ones of this kind cannot
/// hide whose the object is.
pub(super) fn told(labels: impl IntoIterator<Item = (String, String)>) -> Labels {
    let mut told: Labels = labels.into_iter().filter(|(key, _)| key.starts_with(PREFIX)).collect();
    told.sort_by(|a, b| (a.0.len() + a.1.len(), &a.0).cmp(&(b.0.len() + b.1.len(), &b.0)));
    let mut bytes = 0;
    let all = told.len();
    let room = told.iter().take_while(|(key, value)| {
        bytes += key.len() + value.len();
        bytes <= MOST
    });
    let fitting = room.count();
    if fitting < all {
        tracing::debug!(left_out = all - fitting, "an object has more labels than are told");
        told.truncate(fitting);
    }
    told
}

/// That an object's own labels are not more than would be told of it.
pub(super) fn check_own(labels: &HashMap<String, String>) -> Result<(), Error> {
    match size(labels) {
        bytes if bytes > MOST => {
            Err(error(ErrorKind::Invalid, format!("the labels have {bytes} bytes; {MOST} are the most")))
        }
        _ => Ok(()),
    }
}

/// That an image does not burden its containers with labels.
pub(super) fn check_image(reference: &str, labels: &HashMap<String, String>) -> Result<(), Error> {
    match size(labels) {
        bytes if bytes > MOST_OF_IMAGE => Err(error(
            ErrorKind::FailedPrecondition,
            format!("the labels of the image `{reference}` have {bytes} bytes; {MOST_OF_IMAGE} are the most"),
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(key: &str, length: usize) -> (String, String) {
        (key.to_owned(), "x".repeat(length))
    }

    #[test]
    fn only_labels_of_ours_are_told_whatever_an_image_brings() {
        let ours = [label("streamspace.controller", 9), label("streamspace.session_id", 36)];
        let many = (0..1000).map(|n| label(&format!("streamspace.long.{n}"), 64));
        let foreign = [label("org.opencontainers.image.title", 4 << 20), label("streamspace", 1)];
        let huge = [label("streamspace.huge", 4 << 20)];
        let told = told(huge.into_iter().chain(many).chain(foreign).chain(ours.clone()));
        assert_eq!(told[..2], ours, "the short ones first");
        assert!(told.iter().all(|(key, _)| key.starts_with(PREFIX)));
        let bytes = size(told.iter().map(|(key, value)| (key, value)));
        assert!(bytes <= MOST && bytes > MOST - 100, "{bytes}");
    }

    #[test]
    fn what_could_not_be_told_is_not_taken() {
        let labels = |length| HashMap::from([label("streamspace.services", length)]);
        assert!(check_own(&labels(MOST - 20)).is_ok());
        assert_eq!(check_own(&labels(MOST)).unwrap_err().kind, ErrorKind::Invalid);
        assert!(check_image("a", &labels(MOST_OF_IMAGE - 20)).is_ok());
        let refused = check_image("a", &labels(MOST_OF_IMAGE)).unwrap_err();
        assert_eq!(refused.kind, ErrorKind::FailedPrecondition);
    }
}
