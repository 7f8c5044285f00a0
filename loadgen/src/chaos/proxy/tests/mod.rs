//! The proxies without a broker: frames, chance, counts.
