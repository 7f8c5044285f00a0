//! Makes a road file from OpenStreetMap data: `import-roads INPUT OUTPUT --name CITY`.
//! INPUT is an `.osm.pbf` file, or GeoJSON of ways as Overpass exports it.

use std::fs::File;
use std::io::{BufReader, Write as _};
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Parser;
use location::roads::survey::Survey;
use location::roads::{Bounds, RoadGraph, osm};

#[derive(Debug, Parser)]
#[command(version, about)]
struct Arguments {
    /// An `.osm.pbf` file, or GeoJSON of ways.
    input: PathBuf,
    /// The road file to write.
    output: PathBuf,
    /// The city's name.
    #[arg(long)]
    name: String,
    /// Where the data comes from and of what day; kept in the file.
    #[arg(long, default_value = "OpenStreetMap")]
    source: String,
    /// Keep only what lies inside `south,west,north,east` (degrees).
    #[arg(long, value_parser = parse_bounds, allow_hyphen_values = true)]
    area: Option<Bounds>,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let mut survey = Survey::new(arguments.area);
    let input = &arguments.input;
    let reading = || format!("reading `{}`", input.display());
    if input.extension().is_some_and(|extension| extension == "pbf") {
        osm::pbf::survey(input, &mut survey).with_context(reading)?;
    } else {
        let file = BufReader::new(File::open(input).with_context(reading)?);
        osm::geojson::survey(file, &mut survey).with_context(reading)?;
    }
    let map = survey.finish(arguments.name, arguments.source)?;
    let packed = map.pack()?;
    let graph = RoadGraph::from_bytes(&packed).context("the file just made does not read")?;
    std::fs::write(&arguments.output, &packed)
        .with_context(|| format!("writing `{}`", arguments.output.display()))?;
    let metres: f64 = map
        .segments
        .iter()
        .map(|s| f64::from(s.decimetres) / 10.0 * if s.is_oneway { 1.0 } else { 2.0 })
        .sum();
    writeln!(
        std::io::stdout(),
        "{}: {} junctions, {} segments, {} directed edges, {:.0} directed km, {} bends, {} bytes",
        graph.name(),
        graph.junction_count(),
        map.segments.len(),
        graph.directed_edge_count(),
        metres / 1000.0,
        map.bend_count(),
        packed.len(),
    )?;
    Ok(())
}

fn parse_bounds(text: &str) -> Result<Bounds, String> {
    let degrees: Vec<f64> = text
        .split(',')
        .map(|part| part.trim().parse().map_err(|_| part))
        .collect::<Result<_, _>>()
        .map_err(|part| format!("`{part}` is not a number"))?;
    match degrees.as_slice() {
        [south, west, north, east] if south < north && west < east => {
            Ok(Bounds { south: *south, west: *west, north: *north, east: *east })
        }
        _ => Err("expected `south,west,north,east`".to_owned()),
    }
}
