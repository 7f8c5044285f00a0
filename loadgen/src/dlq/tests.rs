//! The flags, without a service.

use clap::Parser;
use common::{consumer::Class, dead_letters::State};

use super::{DlqCommand, DlqConfig, args::Which};

#[derive(Debug, Parser)]
struct Cli {
    #[command(flatten)]
    dlq: DlqConfig,
}

fn parse(line: &str) -> Result<DlqConfig, clap::Error> {
    Ok(Cli::try_parse_from(std::iter::once("dlq").chain(line.split_whitespace()))?.dlq)
}

#[test]
fn letters_are_chosen_by_number_or_by_filter_and_never_by_neither_or_both() {
    let which = |line: &str| match parse(line).unwrap().command {
        DlqCommand::Replay { which, .. } | DlqCommand::Discard { which, .. } => which.which(),
        other => panic!("{other:?}"),
    };
    assert!(matches!(which("replay 7 --reason mended"), Ok(Which::One(7))));
    let Ok(Which::Many(filter)) = which("discard --class hung --state open --reason stray") else {
        panic!("a filter");
    };
    assert_eq!((filter.class, filter.state), (Some(Class::Hung), Some(State::Open)));
    assert!(which("replay --reason mended").is_err());
    assert!(which("replay 7 --stream TRIP --reason mended").is_err());
}

#[test]
fn every_order_needs_a_reason() {
    assert!(parse("replay 7").is_err());
    assert!(parse("discard 7").is_err());
    assert!(parse("list --class odd").is_err());
    assert!(parse("list --json --trip-url http://ops.example:7004").unwrap().json);
}
