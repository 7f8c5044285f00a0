//! What operations read: a line a letter, or JSON.

use std::io::{self, Write};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use common::dead_letters::{Discarded, Letter, Run};
use serde::Serialize;
use serde_json::Value;

/// So much of an error is shown in a list.
const ERROR_LEN: usize = 60;
/// So many bytes of a payload are shown.
const PAYLOAD_LEN: usize = 256;

type Out<'a> = &'a mut (dyn Write + Send);

/// For people or for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Text,
    Json,
}

impl Form {
    pub(super) fn of(is_json: bool) -> Self {
        if is_json { Self::Json } else { Self::Text }
    }
}

pub(super) fn json(out: Out<'_>, value: &impl Serialize) -> io::Result<()> {
    writeln!(out, "{}", serde_json::to_string_pretty(value)?)
}

pub(super) fn letters(form: Form, out: Out<'_>, letters: &[Letter]) -> io::Result<()> {
    if form == Form::Json {
        return json(out, &letters);
    }
    writeln!(
        out,
        "{:>8}  {:<20}  {:<9}  {:<9}  {:>5}  {:<20}  {:<22}  error",
        "letter", "given up", "state", "class", "tries", "consumer", "kind"
    )?;
    for letter in letters {
        let failed_at = letter.failed_at.map(|at| at.to_string()).unwrap_or_default();
        writeln!(
            out,
            "{:>8}  {:<20}  {:<9}  {:<9}  {:>5}  {:<20}  {:<22}  {}",
            letter.sequence,
            failed_at.chars().take(19).collect::<String>(),
            letter.state.name(),
            letter.class.map_or("-", |class| class.name()),
            letter.attempts.map_or_else(|| "-".to_owned(), |attempts| attempts.to_string()),
            letter.consumer,
            letter.kind.as_deref().unwrap_or("-"),
            letter.error.chars().take(ERROR_LEN).collect::<String>(),
        )?;
    }
    let count = letters.len();
    writeln!(out, "{count} letter{}", if count == 1 { "" } else { "s" })
}

pub(super) fn letter(form: Form, out: Out<'_>, whole: &Value) -> io::Result<()> {
    if form == Form::Json {
        return json(out, whole);
    }
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    for (name, value) in whole.as_object().into_iter().flatten() {
        match name.as_str() {
            "headers" | "history" | "payload_base64" | "resolution" => {}
            _ if value.is_null() => {}
            _ => writeln!(out, "{name:<18} {}", text(value))?,
        }
    }
    for (name, value) in whole.get("headers").and_then(Value::as_object).into_iter().flatten() {
        writeln!(out, "header             {name}: {}", text(value))?;
    }
    let payload = whole.get("payload_base64").and_then(Value::as_str).unwrap_or_default();
    let payload = STANDARD.decode(payload).unwrap_or_default();
    let shown = payload.get(..PAYLOAD_LEN).unwrap_or(&payload);
    writeln!(out, "payload            {}", shown.escape_ascii())?;
    for record in whole.get("history").and_then(Value::as_array).into_iter().flatten() {
        let field = |name| record.get(name).map(text).unwrap_or_default();
        let (at, outcome) = (field("resolved_at"), field("outcome"));
        writeln!(out, "history            {at} {outcome} by {}: {}", field("by"), field("reason"))?;
    }
    Ok(())
}

pub(super) fn progress(out: Out<'_>, run: &Run) -> io::Result<()> {
    writeln!(
        out,
        "{}: {} of {} sent, {} handled, {} failed again, {} cannot be sent{}",
        word(run),
        run.sent,
        run.selected,
        run.handled,
        run.failed,
        run.unsendable,
        run.why.as_ref().map(|why| format!(" ({why})")).unwrap_or_default(),
    )
}

fn word(run: &Run) -> String {
    serde_json::to_value(run.status)
        .ok()
        .and_then(|it| it.as_str().map(str::to_owned))
        .unwrap_or_default()
}

pub(super) fn discarded(form: Form, out: Out<'_>, done: Discarded) -> io::Result<()> {
    match form {
        Form::Json => json(out, &done),
        Form::Text => writeln!(out, "{} discarded, {} skipped", done.discarded, done.skipped),
    }
}

pub(super) fn runs(form: Form, out: Out<'_>, runs: &Value) -> io::Result<()> {
    if form == Form::Json {
        return json(out, runs);
    }
    for run in runs.get("items").and_then(Value::as_array).into_iter().flatten() {
        let run: Run = serde_json::from_value(run.clone())?;
        write!(out, "{} by {} for {:?} ", run.order.at, run.order.by, run.order.reason)?;
        progress(out, &run)?;
    }
    Ok(())
}

pub(super) fn report(form: Form, out: Out<'_>, report: &Value) -> io::Result<()> {
    if form == Form::Json {
        return json(out, report);
    }
    let of = |name: &str| report.get(name).cloned().unwrap_or_default();
    let text = |name: &str| of(name).as_str().unwrap_or_default().to_owned();
    writeln!(out, "{} by {}: {}", text("ended_at"), text("by"), text("reason"))?;
    writeln!(out, "{} trips compared", of("compared"))?;
    for name in ["owed", "charged", "made"] {
        let total = of(name);
        let minor = total.get("minor").cloned().unwrap_or_default();
        let trips = total.get("trips").cloned().unwrap_or_default();
        writeln!(out, "{name:<8} {trips:>8} trips  {minor}")?;
    }
    for line in of("differences").as_array().into_iter().flatten() {
        let of = |name: &str| {
            line.get(name)
                .map(|it| it.as_str().map_or_else(|| it.to_string(), str::to_owned))
                .unwrap_or_default()
        };
        let (trip, difference) = (of("trip_id"), of("difference"));
        let (owed, charged, why) = (of("owed"), of("charged"), of("why"));
        writeln!(out, "{trip} {difference}: owed {owed}, charged {charged}, {why}")?;
    }
    let verdict = if of("is_balanced") == Value::Bool(true) {
        "every fare is charged once, to the cent".to_owned()
    } else {
        format!("{} trips are not charged as they should be", of("different"))
    };
    writeln!(out, "{verdict}")
}
