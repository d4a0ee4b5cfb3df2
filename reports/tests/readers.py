"""Opens reports with programs that aren't ours. The arguments: a folder with a report SAMPLE.FORMAT for each sample and format,
of which SAMPLE.json is what the others must say; the schema of JUnit; the one of our JSON. Needs what scripts/readers installs."""

import io
import json
import math
import re
import subprocess
import sys
from pathlib import Path

from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader
from jsonschema import Draft202012Validator
from PIL import Image
from prometheus_client.openmetrics.parser import text_string_to_metric_families

folder, junit = Path(sys.argv[1]), Path(sys.argv[2])

# As https://bencher.dev/bmf.json asks for, and closed: a misspelled name is a fault.
NUMBER = {"type": "number"}
METRIC = {
    "type": "object",
    "properties": {"value": NUMBER, "lower_value": NUMBER, "upper_value": NUMBER},
    "required": ["value"],
    "additionalProperties": False,
}
BMF = {"type": "object", "additionalProperties": {"type": "object", "minProperties": 1, "additionalProperties": METRIC}}
# As github-action-benchmark's README has it.
TEXT = {"type": "string", "pattern": "^[^\\n\\u001b]*$"}
GITHUB = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {"name": TEXT, "unit": TEXT, "value": NUMBER, "range": TEXT, "extra": TEXT},
        "required": ["name", "unit", "value"],
        "additionalProperties": False,
    },
}


def told(report):
    """The overheads that may be followed over time, each with its name."""
    primary = {workload["name"]: workload["primary"] for workload in report["workloads"]}
    streams = {cell["workload"] for cell in report["cells"] if cell["unit"] == "B/s"}
    for cell in report["cells"]:
        figures = {"throughput": "cost"} if primary[cell["workload"]] == "throughput" else {}
        if cell["workload"] not in streams:
            figures |= {"p50": "p50", "p99": "p99"}
        if cell["metric"] in figures and cell["overhead"] is not None and cell["verdict"] != "invalid":
            yield cell, figures[cell["metric"]]


def one_line(text):
    return " / ".join(line.strip() for line in text.splitlines() if line.strip()).replace("\t", " ").replace("\x1b", "·")


def bmf(text, report):
    data = json.loads(text)
    Draft202012Validator(BMF).validate(data)
    count = 0
    for cell, figure in told(report):
        metric = data[f"{one_line(cell['workload'])} on {one_line(cell['environment'])}"][f"overhead-{figure}"]
        assert metric["value"] == cell["overhead"], (metric, cell)
        assert metric.get("lower_value") == cell["low"] and metric.get("upper_value") == cell["high"], (metric, cell)
        count += 1
    assert (count > 0) == (not report["invalid"]) and count == sum(len(measures) for measures in data.values()), count


def github_benchmark(text, report):
    data = json.loads(text)
    Draft202012Validator(GITHUB).validate(data)
    assert [entry["value"] for entry in data] == [cell["overhead"] for cell, _ in told(report)]
    assert not any(set("|`<>") & set(entry["name"]) for entry in data)


def openmetrics(text, report):
    families = {family.name: family for family in text_string_to_metric_families(text)}
    overheads = {
        (s.labels["workload"], s.labels["environment"], s.labels["metric"]): s.value
        for s in families["tarebench_overhead_ratio"].samples
    }
    expected = {
        (one_line(cell["workload"]), one_line(cell["environment"]), figure): cell["overhead"]
        for cell, figure in told(report)
    }
    assert overheads == expected, (overheads, expected)
    [run] = families["tarebench_run"].samples
    assert run.labels["suite"] == one_line(report["run"]["suite"])
    counts = [s.value for s in families["tarebench_latency_seconds"].samples if s.name.endswith("_count")]
    assert len(counts) == len(report["distributions"])
    invalid = [s for s in families["tarebench_verdict"].samples if s.labels["tarebench_verdict"] == "invalid"]
    assert any(s.value == 1 for s in invalid)


def hlog(path, report):
    reader = HistogramLogReader(str(path), HdrHistogram(1, 60_000_000_000, 3))
    read = {}
    while histogram := reader.get_next_interval_histogram():
        read[histogram.get_tag()] = histogram
    latencies = [(d, latency) for d in report["distributions"] for latency in {d["latency"], "service"}]
    assert len(read) == len(latencies), (sorted(read), len(latencies))
    for d, latency in latencies:
        tag = f"{one_line(d['workload'])}:{one_line(d['environment'])}:{latency}".replace(" ", "_").replace(",", "_")
        if latency == "service":
            assert read[tag].get_max_value() == d["service"]["max"], tag
    return read


def hgrm(text, histograms):
    """Tables are what HdrHistogram says of the log's histograms, within the frame that it writes itself."""
    tables = [table.splitlines()[1:] for table in text.split("# ")[1:]]
    assert len(tables) == len(histograms), len(tables)
    for lines, histogram in zip(tables, histograms.values()):
        footer = re.match(r"#\[Max += +([\d.]+), Total count += +(\d+)\]$", lines[-2])
        assert round(float(footer[1]) * 1e6) == histogram.get_max_value() and int(footer[2]) == histogram.total_count
    # Walking through a histogram takes it half a second.
    lines, histogram = tables[-1], list(histograms.values())[-1]
    theirs = io.BytesIO()
    histogram.output_percentile_distribution(theirs, 1e6, 5)
    theirs = theirs.getvalue().decode().splitlines()
    assert lines[:2] == theirs[:2] and lines[-1] == theirs[-1], (lines[:2], theirs[:2], lines[-1], theirs[-1])
    footer = re.match(r"#\[Mean += +([\d.]+), StdDeviation += +([\d.]+)\]$", lines[-3])
    assert math.isclose(float(footer[1]), histogram.get_mean_value() / 1e6, abs_tol=1e-6, rel_tol=1e-3), footer
    assert math.isclose(float(footer[2]), histogram.get_stddev() / 1e6, abs_tol=1e-6, rel_tol=1e-3), footer
    total = {i.value_iterated_to: i.total_count_to_this_value for i in histogram.get_recorded_iterator()}
    percentiles = [0.0]
    for line in lines[2:-3]:
        value, percentile, count, *rest = map(float, line.split())
        assert total[round(value * 1e6)] == count >= percentile * histogram.total_count - 1e-6, line
        assert not rest or math.isclose(rest[0], 1 / (1 - percentile), rel_tol=1e-2, abs_tol=0.005), line
        assert percentile >= percentiles[-1], line
        percentiles.append(percentile)
    assert percentiles[-1] == 1 and count == histogram.total_count


def png(path):
    with Image.open(path) as picture:
        picture.load()
        assert picture.format == "PNG" and picture.width > 800 and picture.height > 800, picture
        colours = {colour for _, colour in picture.convert("RGB").crop((0, 0, 800, 400)).getcolors(320_000)}
        assert (255, 255, 255) in colours and len(colours) > 8, colours


def strict(schema):
    """The same schema, to which a field that it doesn't describe is a fault."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {key: strict(part) for key, part in schema.items()}
    return schema | {"additionalProperties": False} if "properties" in schema else schema


published = json.loads(Path(sys.argv[3]).read_text())
Draft202012Validator.check_schema(published)
reports = sorted(folder.glob("*.json"))
assert reports, f"no reports in {folder}"
for path in reports:
    report, of = json.loads(path.read_text()), path.with_suffix
    Draft202012Validator(published).validate(report)
    Draft202012Validator(strict(published)).validate(report)
    bmf(of(".bmf").read_text(), report)
    github_benchmark(of(".github-benchmark").read_text(), report)
    openmetrics(of(".openmetrics").read_text(), report)
    png(of(".png"))
    hgrm(of(".hgrm").read_text(), hlog(of(".hlog"), report))
    subprocess.run(["xmllint", "--noout", "--schema", junit, of(".junit")], check=True, capture_output=True)
    print("read", path.stem)
