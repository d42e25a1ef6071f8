#!/usr/bin/env python3
"""Checks alert rules with metrics that were scraped from real hubs while something was wrong.

    check_alerts.py SCRAPES alerts.yml

SCRAPES has a folder for each alert, with files NNN-PHASE-NODE as `cargo test --test integration seen`
leaves them. They become samples 15 s apart; promtool has to find that the alert is not firing in the
phases `calm` and at the end of `after`, and fires at the end of `fault`. Exit 1 if it does not.
"""

import json
import os
import re
import subprocess
import sys
import tempfile

ALERTS = {"ActixHubLinkMissing", "ActixHubNodeSuspect", "ActixHubJoinerStuck", "ActixHubWaitingForSeeds"}
STEP = 15
SAMPLE = re.compile(r"^(actix_hub_[a-z_]+)(?:\{(.*)\})? ([^ ]+)$")


def series_of(folder):
    """Values by series, one for each scrape (`_`: not there), and the last scrape of each phase."""
    series, ends, count = {}, {}, 0
    for name in sorted(os.listdir(folder)):
        number, phase, node = name.split("-", 2)
        at = int(number)
        count, ends[phase] = max(count, at + 1), at
        own = f'job="actix-hub", instance="{node}"'
        series.setdefault(f"up{{{own}}}", {})[at] = "1"
        with open(os.path.join(folder, name), encoding="utf-8") as file:
            for line in file:
                found = SAMPLE.match(line.strip())
                if found and not found[1].endswith("_bucket"):
                    labels = f"{own}, {found[2]}" if found[2] else own
                    series.setdefault(f"{found[1]}{{{labels}}}", {})[at] = found[3]
    # A node that is not scraped any more, or not yet, has no value.
    rows = {name: " ".join(values.get(at, "_") for at in range(count)) for name, values in series.items()}
    return rows, ends


def test_of(alert, folder):
    rows, ends = series_of(folder)
    checks = []
    for phase, at in ends.items():
        expected = [{"labels": f'{{alertname="{alert}"}}', "value": 1}] if phase == "fault" else []
        checks.append((phase, at, expected))
    if not any(phase == "fault" for phase, *_ in checks):
        sys.exit(f"{alert}: there is no phase fault")
    # Whether it fires, not for how many nodes.
    firing = f'group by (alertname) (ALERTS{{alertname="{alert}", alertstate="firing"}})'
    return {
        "name": f"{alert}, with real metrics",
        "interval": f"{STEP}s",
        "input_series": [{"series": name, "values": values} for name, values in rows.items()],
        "promql_expr_test": [
            {"expr": firing, "eval_time": f"{at * STEP}s", "exp_samples": expected} for _, at, expected in checks
        ],
    }


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    scrapes, rules = sys.argv[1], os.path.abspath(sys.argv[2])
    found = set(os.listdir(scrapes))
    if found != ALERTS:
        sys.exit(f"scrapes of {sorted(ALERTS)} are expected, there are {sorted(found)}")
    tests = [test_of(alert, os.path.join(scrapes, alert)) for alert in sorted(found)]
    with tempfile.NamedTemporaryFile("w", suffix=".yml") as file:
        # JSON is YAML.
        json.dump({"rule_files": [rules], "evaluation_interval": f"{STEP}s", "tests": tests}, file)
        file.flush()
        sys.exit(subprocess.run(["promtool", "test", "rules", file.name], check=False).returncode)


main()
