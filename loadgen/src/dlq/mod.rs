//! Operations from a terminal, on any deployment that can be reached: dead letters (through the trip
//! service) and the nightly comparison of charges (through the rider service).

mod args;
mod mend;
mod office;
mod print;
#[cfg(test)]
mod tests;

use std::{
    io::{self, Write},
    time::Duration,
};

use common::dead_letters::{Discarded, Filter, Letter, Page, Run};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::{args::Which, office::Office, print::Form};
pub use self::{
    args::{DlqCommand, DlqConfig, Door, ReconcileConfig},
    mend::{Mended, mend},
};

/// How often the progress of a replay is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Pages of so many letters.
const PAGE: usize = 1_000;

/// A replay or a comparison was ordered.
#[derive(Debug, Deserialize)]
struct Ordered {
    run: Uuid,
}

/// Carries out one command on dead letters. `false`: it was carried out, and did not go well.
///
/// # Errors
/// When the service cannot be asked, or refuses.
pub async fn run(
    config: DlqConfig,
    out: &mut (dyn Write + Send),
    stop: CancellationToken,
) -> anyhow::Result<bool> {
    let form = Form::of(config.json);
    let office = Office::enter(&config.trip_url, config.door).await?;
    match config.command {
        DlqCommand::List { filter, limit } => {
            let letters = letters(&office, &filter.filter(), limit).await?;
            print::letters(form, out, &letters)?;
        }
        DlqCommand::Show { letter } => {
            let whole: Value = office.get(&format!("/v1/ops/dlq/{letter}")).await?;
            print::letter(form, out, &whole)?;
        }
        DlqCommand::Replay { which, reason, rate, again } => {
            let ordered: Ordered = match which.which()? {
                Which::One(letter) => {
                    let body = json!({ "reason": reason, "again": again });
                    office.post(&format!("/v1/ops/dlq/{letter}/replay"), &body).await?
                }
                Which::Many(filter) => {
                    let body = json!({
                        "filter": filter, "reason": reason, "again": again, "rate_per_s": rate,
                    });
                    office.post("/v1/ops/dlq/replay", &body).await?
                }
            };
            let run = watch(&office, ordered.run, form, out, &stop).await?;
            return Ok(run.why.is_none() && run.failed == 0);
        }
        DlqCommand::Discard { which, reason } => {
            let discarded: Discarded = match which.which()? {
                Which::One(letter) => {
                    let body = json!({ "reason": reason });
                    office.post(&format!("/v1/ops/dlq/{letter}/discard"), &body).await?
                }
                Which::Many(filter) => {
                    let body = json!({ "filter": filter, "reason": reason });
                    office.post("/v1/ops/dlq/discard", &body).await?
                }
            };
            print::discarded(form, out, discarded)?;
        }
        DlqCommand::Runs => {
            let runs: Value = office.get("/v1/ops/dlq/replays").await?;
            print::runs(form, out, &runs)?;
        }
    }
    Ok(true)
}

async fn letters(office: &Office, filter: &Filter, limit: usize) -> anyhow::Result<Vec<Letter>> {
    #[derive(Serialize)]
    struct Query<'a> {
        #[serde(flatten)]
        filter: &'a Filter,
        cursor: u64,
        limit: usize,
    }
    let (mut cursor, mut letters) = (0, Vec::new());
    while letters.len() < limit {
        let query = Query { filter, cursor, limit: PAGE.min(limit - letters.len()) };
        let query = serde_urlencoded::to_string(&query)?;
        let page: Page = office.get(&format!("/v1/ops/dlq?{query}")).await?;
        letters.extend(page.items);
        match page.next_cursor {
            Some(next) => cursor = next,
            None => break,
        }
    }
    Ok(letters)
}

/// Follows a replay to its end, or until told to stop; it goes on without us.
async fn watch(
    office: &Office,
    run: Uuid,
    form: Form,
    out: &mut (dyn Write + Send),
    stop: &CancellationToken,
) -> anyhow::Result<Run> {
    let path = format!("/v1/ops/dlq/replays/{run}");
    let mut shown = None;
    loop {
        let now: Run = office.get(&path).await?;
        if form == Form::Text && shown.as_ref() != Some(&now) {
            print::progress(out, &now)?;
            shown = Some(now.clone());
        }
        if now.is_over() || stop.is_cancelled() {
            if form == Form::Json {
                print::json(out, &now)?;
            }
            return Ok(now);
        }
        stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await;
    }
}

/// Shows the last comparison of charges with the log, or has one made. `false`: it found something.
///
/// # Errors
/// When the service cannot be asked, or refuses.
pub async fn reconcile(
    config: ReconcileConfig,
    out: &mut (dyn Write + Send),
    stop: CancellationToken,
) -> anyhow::Result<bool> {
    let office = Office::enter(&config.rider_url, config.door).await?;
    let path = "/v1/reconciliation";
    let ordered: Option<Ordered> = match &config.now {
        Some(reason) => Some(office.post(path, &json!({ "reason": reason })).await?),
        None => None,
    };
    let report = loop {
        let found: Option<Value> = office.find(path).await?;
        let is_it = |report: &Value| match &ordered {
            Some(ordered) => report.get("run") == Some(&json!(ordered.run)),
            None => true,
        };
        match found {
            Some(report) if is_it(&report) => break report,
            None if ordered.is_none() => anyhow::bail!("nothing was compared yet"),
            Some(_) | None if stop.is_cancelled() => anyhow::bail!("it is not done yet"),
            Some(_) | None => stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await,
        };
    };
    print::report(Form::of(config.json), out, &report)?;
    Ok(report.get("is_balanced") == Some(&json!(true)))
}

/// [`run`] on standard output.
///
/// # Errors
/// As [`run`].
pub async fn run_here(config: DlqConfig, stop: CancellationToken) -> anyhow::Result<bool> {
    run(config, &mut io::stdout(), stop).await
}

/// [`reconcile`] on standard output.
///
/// # Errors
/// As [`reconcile`].
pub async fn reconcile_here(
    config: ReconcileConfig,
    stop: CancellationToken,
) -> anyhow::Result<bool> {
    reconcile(config, &mut io::stdout(), stop).await
}
