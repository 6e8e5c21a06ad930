//! Texts of plugins, servers and engines, in the host's own.

/// Enough of a name to know it again, in bytes; a plugin may call an object anything, at any length.
const ENOUGH: usize = 256;

/// The beginning of a text.
pub(super) fn beginning(text: &str) -> &str {
    let mut end = text.len().min(ENOUGH);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// The same as one line.
pub(super) fn printable(text: &str) -> String {
    beginning(text).chars().map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).collect()
}

/// An error and what caused it, in one line: the outermost alone says only "error in the hyper legacy client".
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters_and_stays_one_line() {
        let long = "ä".repeat(ENOUGH);
        assert_eq!(beginning(&long).len(), ENOUGH);
        assert_eq!(beginning(&format!("a{long}")).len(), ENOUGH - 1);
        assert_eq!(printable("GET /a\nFORGED \u{202e}x"), "GET /a?FORGED ?x");
    }
}
