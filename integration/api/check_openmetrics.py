#!/usr/bin/env python3
"""Checks an OpenMetrics exposition. Exit 0: good. 1: not good, each reason on a line. 2: wrong use.

    check_openmetrics.py http://127.0.0.1:8001/hub/metrics --required required_metrics.txt
    check_openmetrics.py metrics.txt
    curl -s ... | check_openmetrics.py -

A line of the file of required names is a family (`actix_hub_sends`), a sample (`actix_hub_sends_total`)
or a sample with some of its labels (`actix_hub_sends_total{outcome="ok"}`). `#` begins a comment.
A token for the URL is read from the environment variable METRICS_TOKEN.

Needs the package prometheus_client (pip install prometheus_client).
"""

import argparse
import os
import re
import sys
import urllib.error
import urllib.request

try:
    from prometheus_client.openmetrics.parser import text_string_to_metric_families
except ImportError:
    sys.exit("check_openmetrics: pip install prometheus_client")

ACCEPT = "application/openmetrics-text; version=1.0.0"
# Base units that, as the end of a family's name, want a UNIT line.
UNITS = ("seconds", "bytes", "celsius", "meters", "ratio", "ratios", "volts", "amperes", "joules", "grams")
# Units that are none: the base unit is to be used.
NOT_BASE = ("milliseconds", "microseconds", "nanoseconds", "minutes", "hours", "kilobytes", "megabytes", "percent")
SUFFIXES = {
    "counter": ("_total", "_created"),
    "histogram": ("_bucket", "_count", "_sum", "_created"),
    "gaugehistogram": ("_bucket", "_gcount", "_gsum"),
    "summary": ("", "_count", "_sum", "_created"),
    "info": ("_info",),
}
REQUIRED = re.compile(r'^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})?$')
# Name and labels of a sample without a timestamp.
SERIES = re.compile(r'^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{((?:[^"}]|"(?:[^"\\]|\\.)*")*)\})? [^ ]+(?: # .*)?$')
LABEL = re.compile(r'\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*=\s*"((?:[^"\\]|\\.)*)"\s*(?:,|$)')


def read(source):
    """The text, and what is wrong with how it came."""
    if source == "-":
        return sys.stdin.buffer.read(), []
    if not re.match(r"https?://", source):
        with open(source, "rb") as file:
            return file.read(), []
    request = urllib.request.Request(source, headers={"Accept": ACCEPT})
    token = os.environ.get("METRICS_TOKEN")
    if token:
        request.add_header("Authorization", "Bearer " + token)
    with urllib.request.urlopen(request, timeout=10) as response:
        kind = response.headers.get("Content-Type", "")
        problems = []
        if not kind.startswith("application/openmetrics-text"):
            problems.append(f"Content-Type is {kind!r}, not application/openmetrics-text")
        elif not re.search(r"version=1\.\d+\.\d+", kind):
            problems.append(f"Content-Type {kind!r} has no version=1.0.0")
        return response.read(), problems


def described(text):
    """What the lines HELP, TYPE and UNIT say of each family."""
    meta = {}
    for line in text.split("\n"):
        parts = line.split(" ", 3)
        if parts[0] == "#" and len(parts) >= 3 and parts[1] in ("HELP", "TYPE", "UNIT"):
            meta.setdefault(parts[2], {})[parts[1]] = parts[3] if len(parts) == 4 else ""
    return meta


def check_described(meta):
    for name, lines in sorted(meta.items()):
        kind = lines.get("TYPE")
        if kind is None:
            yield f"{name}: no TYPE line"
        if not lines.get("HELP", "").strip(" ."):
            yield f"{name}: no HELP line, or an empty one"
        if kind == "counter" and name.endswith("_total"):
            yield f"{name}: the family of a counter is named without _total, its samples with it"
        unit = lines.get("UNIT")
        if unit is not None and not name.endswith("_" + unit):
            yield f"{name}: UNIT is {unit!r} but the name does not end in _{unit}"
        if unit is not None and kind in ("info", "stateset"):
            yield f"{name}: a {kind} has no unit"
        if kind in ("info", "stateset"):
            continue
        base = name.removesuffix("_total") if kind == "counter" else name
        ending = base.rsplit("_", 1)[-1] if "_" in base else None
        if ending in UNITS and unit is None:
            yield f"{name}: the name ends in a unit but there is no line # UNIT {name} {ending}"
        if ending in NOT_BASE or unit in NOT_BASE:
            yield f"{name}: {unit or ending} is no base unit (seconds, bytes, ratio ..)"


def check_sample_names(text, meta):
    """Samples that belong to no described family."""
    known = set()
    for name, lines in meta.items():
        known.update(name + suffix for suffix in SUFFIXES.get(lines.get("TYPE"), ("",)))
    told = set()
    for line in text.split("\n"):
        if not line or line.startswith("#"):
            continue
        name = re.split(r"[{ ]", line, maxsplit=1)[0]
        if name in known or name in told:
            continue
        told.add(name)
        if meta.get(name, {}).get("TYPE") == "counter":
            yield f"{name}: a sample of a counter must end in _total"
        elif name in meta:
            kind = meta[name].get("TYPE")
            yield f"{name}: a sample of a {kind} cannot be named like its family"
        else:
            yield f"{name}: no HELP and no TYPE"


def check_twice(text):
    """Series that are told twice: the parser drops the second without a word, Prometheus the scrape."""
    seen = set()
    for line in text.split("\n"):
        match = SERIES.match(line)
        if not match:
            continue
        series = match[1], tuple(sorted(LABEL.findall(match[2] or "")))
        if series in seen:
            yield f"{match[1]}{{{match[2] or ''}}}: the same series twice"
        seen.add(series)


def wanted(path):
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            line = line.split("#", 1)[0].strip()
            if not line:
                continue
            match = REQUIRED.match(line)
            labels, at = {}, 0
            inside = (match[2] or "") if match else ""
            while match and at < len(inside):
                label = LABEL.match(inside, at)
                if not label:
                    match = None
                    break
                labels[label[1]] = label[2]
                at = label.end()
            if not match:
                raise ValueError(f"{path}:{number}: {line!r} is no name of a metric")
            yield line, match[1], labels


def check_required(families, required):
    for line, name, labels in required:
        samples = [s for f in families for s in f.samples if name in (f.name, s.name)]
        if not samples:
            yield f"{line}: required and not there"
        elif not any(labels.items() <= sample.labels.items() for sample in samples):
            yield f"{line}: required, {name} is there but not with these labels"


def main():
    parser = argparse.ArgumentParser(description="Checks an OpenMetrics exposition.")
    parser.add_argument("source", help="URL, file, or - for standard input")
    parser.add_argument("required", nargs="?", help="file of required names, one a line")
    parser.add_argument("--required", dest="option", metavar="FILE", help="the same")
    arguments = parser.parse_args()
    try:
        path = arguments.option or arguments.required
        required = list(wanted(path)) if path else []
    except (OSError, ValueError) as error:
        print(f"check_openmetrics: {error}", file=sys.stderr)
        return 2
    try:
        raw, problems = read(arguments.source)
    except (OSError, urllib.error.URLError) as error:
        print(f"check_openmetrics: cannot read {arguments.source}: {error}", file=sys.stderr)
        return 1

    families, text = [], ""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        problems.append(f"it is no UTF-8: {error}")
    else:
        if "\r" in text:
            problems.append("lines must end in a line feed alone")
        meta = described(text)
        problems += check_described(meta)
        problems += check_sample_names(text, meta)
        problems += check_twice(text)
        try:
            families = list(text_string_to_metric_families(text))
        except Exception as error:  # The parser lets ValueError, KeyError, IndexError and others out.
            reason = str(error) or type(error).__name__
            problems.append(f"the strict parser refuses it: {reason}")
        else:
            if not families:
                problems.append("there is no metric in it")
            problems += check_required(families, required)

    for problem in problems:
        print(f"BAD  {problem}", file=sys.stderr)
    samples = sum(len(family.samples) for family in families)
    if problems:
        print(f"check_openmetrics: {arguments.source}: {len(problems)} problem(s)", file=sys.stderr)
        return 1
    print(f"good: {len(families)} families, {samples} samples, {len(required)} required are there")
    return 0


if __name__ == "__main__":
    sys.exit(main())
