//! Texts that came from elsewhere.

/// They are cut there before they are stored or logged.
const LONGEST: usize = 4096;

/// Cuts a text at a character's edge, if it is too long, and replaces U+0000, which not every database can store.
/// Secrets have to be taken out before: a half of one would not be found any more.
pub(crate) fn shortened(text: &str) -> String {
    if text.contains('\0') {
        return shortened(&text.replace('\0', "\u{fffd}"));
    }
    if text.len() <= LONGEST {
        return text.to_owned();
    }
    let mut end = LONGEST;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut_between_characters() {
        let cut = shortened(&"ä€".repeat(LONGEST));
        assert!(cut.len() < LONGEST + 8 && cut.ends_with('…'));
        assert_eq!(shortened("short"), "short");
        assert_eq!(shortened("a\0b"), "a\u{fffd}b");
    }
}
