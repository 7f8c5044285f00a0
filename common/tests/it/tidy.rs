//! Holds the architecture's invariants that can be read off the source.

use std::{
    fs,
    path::{Path, PathBuf},
};

use common::failpoint;

const SERVICES: [&str; 4] = ["driver", "rider", "location", "trip"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn sources(folder: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root()).unwrap().display().to_string();
                found.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found
}

/// The lines of a file that are code, without its unit tests.
fn code(text: &str) -> impl Iterator<Item = &str> {
    let end = text.find("#[cfg(test)]").unwrap_or(text.len());
    text[..end].lines().filter(|line| !line.trim_start().starts_with("//"))
}

fn offenders(files: &[(String, String)], forbidden: &[&str]) -> Vec<String> {
    files
        .iter()
        .flat_map(|(name, text)| {
            code(text)
                .filter(|line| forbidden.iter().any(|word| line.contains(word)))
                .map(move |line| format!("{name}: {}", line.trim()))
        })
        .collect()
}

fn none(what: &str, offenders: &[String]) {
    assert!(offenders.is_empty(), "{what}:\n{}", offenders.join("\n"));
}

#[test]
fn rules_see_no_clock_no_chance_and_no_broker() {
    for service in SERVICES {
        let files = sources(&root().join(service).join("src/domain"));
        let forbidden =
            ["async ", ".await", "tokio", "async_nats", "rand::", "::now(", "::fresh(", "nats::"];
        none("in the domain", &offenders(&files, &forbidden));
    }
}

#[test]
fn no_service_knows_another() {
    for service in SERVICES {
        let manifest = fs::read_to_string(root().join(service).join("Cargo.toml")).unwrap();
        for other in SERVICES.into_iter().filter(|other| *other != service) {
            assert!(
                !manifest.lines().any(|line| line.starts_with(other)),
                "{service} depends on {other}"
            );
        }
    }
}

#[test]
fn only_the_owner_appends_to_its_histories() {
    // Appending goes through the event store, and the event store through a `Recorder`: one each.
    for (owner, service) in SERVICES.into_iter().flat_map(|o| SERVICES.map(|s| (o, s))) {
        if owner == service || !["driver", "trip"].contains(&owner) {
            continue;
        }
        let files = sources(&root().join(service).join("src"));
        let theirs = format!("SOURCE: &'static str = \"{owner}\"");
        none("a second writer", &offenders(&files, &[theirs.as_str()]));
    }
}

#[test]
fn nobody_feeds_people_from_a_streams_own_subjects() {
    // Who subscribes there also hears what the compare-and-set refused: ghosts.
    for service in SERVICES {
        let files = sources(&root().join(service).join("src"));
        let plain =
            ["subscribe(\"trip.event", "subscribe(\"driver.event", "subscribe(\"rider.event"];
        none("a plain subscription", &offenders(&files, &plain));
    }
}

#[test]
fn only_one_place_acknowledges() {
    for folder in SERVICES.into_iter().chain(["loadgen"]) {
        let mut files = sources(&root().join(folder).join("src"));
        // There it is the simulated broker that is told.
        files.retain(|(name, _)| !name.starts_with("loadgen/src/sim/"));
        none(
            "an ack outside of the loops",
            &offenders(&files, &["AckKind", ".ack_with(", ".double_ack"]),
        );
    }
}

#[test]
fn every_file_says_what_it_is_for() {
    let silent: Vec<String> = SERVICES
        .into_iter()
        .chain(["common", "loadgen"])
        .flat_map(|folder| sources(&root().join(folder)))
        .filter(|(_, text)| !text.starts_with("//!"))
        .map(|(name, _)| name)
        .collect();
    none("files without a first line", &silent);
}

#[test]
fn tests_wait_for_facts_and_never_sleep() {
    let sleepers: Vec<String> = SERVICES
        .into_iter()
        .chain(["common", "loadgen"])
        .flat_map(|folder| sources(&root().join(folder).join("tests")))
        // This file names what it forbids.
        .filter(|(name, text)| !name.ends_with("tidy.rs") && text.contains("sleep("))
        .map(|(name, _)| name)
        .collect();
    none("sleeping tests", &sleepers);
}

#[test]
fn every_failpoint_is_one_place_in_the_code() {
    let mut reached: Vec<String> = SERVICES
        .iter()
        .chain(&["common"])
        .flat_map(|folder| sources(&root().join(folder).join("src")))
        .filter(|(name, _)| !name.ends_with("failpoint.rs"))
        .flat_map(|(_, text)| code(&text).map(str::to_owned).collect::<Vec<_>>())
        .filter_map(|line| {
            let (_, after) = line.split_once("failpoint::reach(\"")?;
            after.split_once('"').map(|(name, _)| name.to_owned())
        })
        .collect();
    reached.sort();
    let mut listed = failpoint::ALL.map(|point| point.name.to_owned());
    listed.sort();
    assert_eq!(reached, listed);
}

#[test]
fn nothing_is_measured_that_is_not_declared() {
    // Through the facade's macros any name would do; through a declaration only those that one file
    // names and explains.
    for folder in SERVICES.into_iter().chain(["common", "loadgen"]) {
        let files = sources(&root().join(folder).join("src"));
        let free = ["counter!(", "gauge!(", "histogram!("];
        none("a metric without a declaration", &offenders(&files, &free));
        let elsewhere: Vec<_> = files
            .into_iter()
            .filter(|(name, _)| !name.starts_with("common/src/metrics/"))
            .collect();
        let new = ["Counter::new(", "Gauge::new(", "Histogram::new("];
        none("a metric declared elsewhere", &offenders(&elsewhere, &new));
    }
}

#[test]
fn one_place_looks_at_the_clock_on_the_wall() {
    // Rules and deadlines use broker time. What else knows the time of day would compare two
    // machines' clocks sooner or later.
    let looks = ["SystemTime", "now_utc(", "now_local(", "Utc::now", "UNIX_EPOCH"];
    for folder in SERVICES.into_iter().chain(["common", "loadgen"]) {
        let files: Vec<_> = sources(&root().join(folder).join("src"))
            .into_iter()
            .filter(|(name, _)| !name.starts_with("common/src/clock/"))
            .collect();
        none("a look at the wall clock", &offenders(&files, &looks));
        // A simulated phone has a clock of its own; a service has the broker's.
        if folder != "loadgen" {
            none("a service with a clock of its own", &offenders(&files, &["machine_time("]));
        }
    }
}
