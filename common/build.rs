//! Compiles the contract (`proto/`) without `protoc`.

use std::{env, error::Error, fs, path::Path};

const FILES: [&str; 6] = ["archive", "common", "trip", "driver", "rider", "location"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = FILES.map(|name| format!("ride/v1/{name}.proto"));
    let descriptors = protox::compile(files, ["proto"])?;
    let out = env::var("OUT_DIR")?;
    // The descriptors travel in the binary: any tool can show a message without the source.
    fs::write(Path::new(&out).join("ride.binpb"), prost::Message::encode_to_vec(&descriptors))?;
    prost_build::Config::new().compile_fds(descriptors)?;
    Ok(())
}
