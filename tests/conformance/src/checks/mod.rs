//! The list.

mod create;
mod delete;
mod hibernate;
mod hostile;
mod identity;
mod numbers;
mod observe;
mod outage;
mod recovery;
mod runtime;
mod streams;

use crate::check::Check;

pub use self::numbers::numbers;

/// What the letters of the ids stand for.
pub const GROUPS: &[(char, &str)] = &[
    ('A', "Identity: the controller says what it is and can do, and says the truth"),
    ('B', "Create: one session for one id, whatever happens on the way"),
    ('C', "Observe: what is seen is what is there"),
    ('D', "Hibernate and wake"),
    ('E', "Delete: in every phase, and claimed only when it is so"),
    ('F', "Recovery: nothing has to be remembered"),
    ('G', "Runtime: time, load, streams and health"),
];

/// All checks, by id.
pub fn all() -> impl Iterator<Item = &'static Check> {
    let groups: [&'static [Check]; 10] = [
        identity::CHECKS,
        create::CHECKS,
        hostile::CHECKS,
        observe::CHECKS,
        hibernate::CHECKS,
        delete::CHECKS,
        recovery::CHECKS,
        outage::CHECKS,
        runtime::CHECKS,
        streams::CHECKS,
    ];
    let mut all: Vec<&'static Check> = groups.into_iter().flatten().collect();
    all.sort_by_key(|check| check.id);
    all.into_iter()
}

/// The list as a table of the documentation.
pub fn table() -> String {
    let mut text = String::new();
    for (letter, meaning) in GROUPS {
        text.push_str(&format!(
            "### {letter}. {meaning}\n\n| check | what is right | needs |\n|---|---|---|\n"
        ));
        for check in all().filter(|check| check.id.starts_with(*letter)) {
            let needs: Vec<String> = check.needs.iter().map(ToString::to_string).collect();
            text.push_str(&format!("| `{}` | {} | {} |\n", check.id, check.title, needs.join(", ")));
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_and_of_one_form() {
        let ids: Vec<_> = all().map(|check| check.id).collect();
        let mut unique = ids.clone();
        unique.dedup();
        assert_eq!(ids, unique);
        for id in ids {
            let (number, words) = id.split_once('-').unwrap();
            assert!(GROUPS.iter().any(|(letter, _)| number.starts_with(*letter)), "{id}");
            assert!(number[1..].parse::<u8>().is_ok() && number.len() == 3, "{id}");
            assert!(words.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'), "{id}");
        }
    }

    #[test]
    fn the_documentation_has_this_list() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/conformance.md");
        let mut text = std::fs::read_to_string(page).unwrap();
        for (name, generated) in [("numbers", format!("{}\n", numbers())), ("checks", table())] {
            let begin = format!(
                "<!-- {name}: generated; `STREAMSPACE_BLESS=1 cargo test -p streamspace-conformance` -->\n"
            );
            let end = format!("<!-- end of {name} -->");
            let (before, rest) = text.split_once(&begin).unwrap();
            let (listed, after) = rest.split_once(&end).unwrap();
            let generated = format!("\n{generated}");
            if std::env::var_os("STREAMSPACE_BLESS").is_none() {
                assert_eq!(listed, generated);
            }
            text = format!("{before}{begin}{generated}{end}{after}");
        }
        if std::env::var_os("STREAMSPACE_BLESS").is_some() {
            std::fs::write(page, text).unwrap();
        }
    }
}
