//! Subjects and filters: which filter takes which subject, which filters overlap, and what a
//! stream's republish makes of a subject.

/// Whether `filter` (with `*` and `>`) takes the literal `subject`.
pub(super) fn matches(filter: &str, subject: &str) -> bool {
    covers(filter, subject, false)
}

/// Whether every subject that `narrow` takes is one that `wide` takes.
pub(super) fn is_subset(narrow: &str, wide: &str) -> bool {
    covers(wide, narrow, true)
}

fn covers(wide: &str, narrow: &str, narrow_is_filter: bool) -> bool {
    let (mut wide, mut narrow) = (wide.split('.'), narrow.split('.'));
    loop {
        match (wide.next(), narrow.next()) {
            (Some(">"), Some(_)) | (None, None) => return true,
            (Some("*"), Some(">")) if narrow_is_filter => return false,
            (Some("*"), Some(_)) => {}
            (Some(wide), Some(narrow)) if wide == narrow => {}
            _ => return false,
        }
    }
}

/// Whether some subject is taken by both.
pub(super) fn overlap(one: &str, other: &str) -> bool {
    let (mut one, mut other) = (one.split('.'), other.split('.'));
    loop {
        match (one.next(), other.next()) {
            (Some(">"), Some(_)) | (Some(_), Some(">")) | (None, None) => return true,
            (Some("*"), Some(_)) | (Some(_), Some("*")) => {}
            (Some(one), Some(other)) if one == other => {}
            _ => return false,
        }
    }
}

/// Whether a message may be published to it: tokens, none empty, none a wildcard.
pub(super) fn is_literal(subject: &str) -> bool {
    !subject.is_empty()
        && subject.split('.').all(|token| !matches!(token, "" | "*" | ">"))
        && !subject.contains(char::is_whitespace)
}

/// The subject that `destination` makes of a subject that `source` takes: its wildcards stand, in
/// order, for what the source's wildcards took.
pub(super) fn transformed(source: &str, destination: &str, subject: &str) -> Option<String> {
    if !matches(source, subject) {
        return None;
    }
    let tokens: Vec<&str> = subject.split('.').collect();
    let mut stars = Vec::new();
    let mut rest = String::new();
    for (at, token) in source.split('.').enumerate() {
        match token {
            "*" => stars.extend(tokens.get(at)),
            ">" => rest = tokens.get(at..).unwrap_or_default().join("."),
            _ => {}
        }
    }
    let mut stars = stars.into_iter().copied();
    let made = destination.split('.').map(|token| match token {
        "*" => stars.next().unwrap_or_default(),
        ">" => rest.as_str(),
        literal => literal,
    });
    Some(made.collect::<Vec<_>>().join("."))
}

#[cfg(test)]
mod tests {
    use super::{is_literal, is_subset, matches, overlap, transformed};

    #[test]
    fn a_filter_takes_what_its_wildcards_stand_for() {
        assert!(matches("trip.event.>", "trip.event.3.x"));
        assert!(matches("trip.*.3", "trip.event.3"));
        assert!(!matches("trip.event.>", "trip.event"));
        assert!(!matches("trip.*", "trip.event.3"));
    }

    #[test]
    fn filters_overlap_when_some_subject_fits_both() {
        assert!(overlap("a.*.c", "a.b.>"));
        assert!(overlap("a.>", "a.b"));
        assert!(!overlap("a.b", "a.b.c"));
        assert!(is_subset("a.b.*", "a.>") && !is_subset("a.>", "a.*"));
    }

    #[test]
    fn republish_keeps_what_the_wildcards_took() {
        let made = transformed("trip.event.>", "live.trip.event.>", "trip.event.3.x");
        assert_eq!(made.as_deref(), Some("live.trip.event.3.x"));
        assert_eq!(transformed("a.*.b.*", "x.*.*", "a.1.b.2").as_deref(), Some("x.1.2"));
        assert_eq!(transformed("a.>", "b.>", "c.d"), None);
    }

    #[test]
    fn nobody_publishes_to_a_wildcard() {
        assert!(is_literal("a.b") && !is_literal("a.*") && !is_literal("a..b") && !is_literal(""));
    }
}
