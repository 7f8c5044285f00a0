//! What operations say and hear about dead letters.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use common::dead_letters::{Filter, Letter, Resolution, Whole};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// A message that could not be handled, whole.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct LetterWhole {
    #[serde(flatten)]
    letter: Letter,
    /// Who did what about it, when and why; oldest first.
    history: Vec<Resolution>,
    headers: BTreeMap<String, String>,
    payload_base64: String,
}

impl From<Whole> for LetterWhole {
    fn from(whole: Whole) -> Self {
        let headers = whole.headers.iter().filter_map(|(name, values)| {
            Some((name.to_string(), values.first()?.as_str().to_owned()))
        });
        Self {
            headers: headers.collect(),
            payload_base64: STANDARD.encode(&whole.payload),
            letter: whole.letter,
            history: whole.history,
        }
    }
}

/// Why something is done. It is kept.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct Why {
    /// In words; up to 500 bytes.
    pub(super) reason: String,
}

/// An order to send one letter back.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct ReplayOne {
    /// In words; up to 500 bytes.
    pub(super) reason: String,
    /// Even if it was handled or discarded before.
    #[serde(default)]
    pub(super) again: bool,
}

/// An order to send letters back.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct ReplayMany {
    /// Which; at least one field, so that nobody replays everything by mistake.
    pub(super) filter: Filter,
    /// In words; up to 500 bytes.
    pub(super) reason: String,
    /// How many each second; 1 to 500.
    #[serde(default)]
    pub(super) rate_per_s: Option<u32>,
    /// Also those that were handled or discarded before.
    #[serde(default)]
    pub(super) again: bool,
}

/// An order to discard letters.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct DiscardMany {
    /// Which; at least one field.
    pub(super) filter: Filter,
    /// In words; up to 500 bytes.
    pub(super) reason: String,
}

/// A replay was ordered and begins.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Started {
    /// Its id: how far it is, is at `/v1/ops/dlq/replays/{run}`.
    pub(super) run: Uuid,
}
