#!/usr/bin/env python3
"""Runs the scenarios; `namespaces.sh` starts it.

run.py --binary PATH --folder PATH --run NUMBER [scenario ...]
run.py --clean NUMBER
"""
import argparse
import os
import signal
import sys
import traceback

import net
from node import Unanswered
from scenario import Broken, Scenario
from scenarios import ALL

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def play(scenario, run, binary, folder):
    """One scenario; its line goes to stdout."""
    s = Scenario(scenario.__name__, run, binary, folder)
    try:
        scenario(s)
    except (Broken, Unanswered) as error:
        s.expect(False, str(error))
    except Exception as error:
        traceback.print_exc()
        s.expect(False, f"the script itself failed: {error!r}")
    finally:
        s.end()
    if s.why:
        s.show_logs()
    print(s.outcome(), flush=True)
    return not s.why


def end(*_):
    """Ends the run, whose scenario cleans up; that is not interrupted again."""
    for sign in SIGNALS:
        signal.signal(sign, signal.SIG_IGN)
    sys.exit(1)


def clean_what_is_left():
    """Runs that were killed left namespaces behind; a run is named after its process."""
    for name in os.listdir("/run/netns") if os.path.isdir("/run/netns") else []:
        run = name.removeprefix(net.PREFIX).split("-")[0]
        if name.startswith(net.PREFIX) and run.isdigit() and not os.path.exists(f"/proc/{run}"):
            net.clean(run)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary")
    parser.add_argument("--folder")
    parser.add_argument("--run")
    parser.add_argument("--clean")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("scenarios", nargs="*")
    options = parser.parse_args()
    if options.list:
        for scenario in ALL:
            print(f"  {scenario.__name__:15} {scenario.__doc__}")
        return 0
    if options.clean:
        net.clean(options.clean)
        return 0
    known = {scenario.__name__: scenario for scenario in ALL}
    unknown = [name for name in options.scenarios if name not in known]
    if unknown:
        print(f"unknown scenario {unknown[0]}; there are {', '.join(known)}", file=sys.stderr)
        return 2
    for sign in SIGNALS:
        signal.signal(sign, end)
    clean_what_is_left()
    wanted = [known[name] for name in options.scenarios] or ALL
    played = [play(scenario, options.run, options.binary, options.folder) for scenario in wanted]
    return 0 if all(played) else 1


if __name__ == "__main__":
    sys.exit(main())
