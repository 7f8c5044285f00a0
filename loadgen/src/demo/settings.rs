//! Settings that services are given as flags, the same for tasks of one process and for processes
//! of their own.

use common::auth::AuthConfig;

/// What cars drive in city traffic, as a factor on the roads' free-flow speed; see `location`.
const TRAFFIC: f64 = 0.65;
/// What no car drives, km/h, in life.
const PLAUSIBLE_KMH: f64 = 200.0;

/// Who may call, and a key to make tokens with.
pub(crate) fn auth(keys: &AuthConfig) -> Vec<String> {
    let issuer = keys.dev_issuer_key.iter().flat_map(|key| flag("--dev-issuer-key", key));
    flag("--auth-public-key", &keys.auth_public_key).into_iter().chain(issuer).collect()
}

/// Cars that move so many times faster than life, and are believed when they do.
pub(crate) fn motion(speed_scale: f64, plausible_scale: f64) -> Vec<String> {
    let speed = TRAFFIC * speed_scale;
    let plausible = PLAUSIBLE_KMH * plausible_scale;
    let mut flags = Vec::from(flag("--speed-factor", &speed.to_string()));
    flags.extend(flag("--ping-speed-max-kmh", &plausible.to_string()));
    flags
}

/// A value may begin with a dash, so it is not given as an argument of its own.
pub(crate) fn flag(name: &str, value: &str) -> [String; 1] {
    [format!("{name}={value}")]
}

/// A secret of this run's own.
pub(crate) fn fresh_secret() -> String {
    rand::random::<[u8; 32]>().iter().map(|byte| format!("{byte:02x}")).collect()
}
