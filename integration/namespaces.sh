#!/usr/bin/env bash
# Whole nodes, each a process in a network namespace of its own, under the faults of real networks.
set -euo pipefail
cd "$(dirname "$0")/.."
here=integration/namespaces

usage() {
  cat <<'END'
integration/namespaces.sh [SCENARIO ...]

Runs the scenarios, or all of them, one after the other, and prints one JSON object for each:
scenario, settled_ms, acked, lost, duplicated, reordered, failed, unanswered_ms, ok, and why if not.
Progress goes to stderr, the nodes' logs to target/namespaces/SCENARIO/. The exit status is 0 if all
hold. Needs root; installs iproute2 and nftables if they are missing. The machine's own network is not
touched: the bridge has a namespace of its own.

Environment:
  PROFILE=release   the profile that is built (default dev)
  STARTS=30         starts of wildcard (default 3)
  LIVES=100         lives of crash_loop (default 20)
  CUT=6             seconds for which a link stays cut after calls must go on
  RUST_LOG=debug    what the nodes log (default info)

Scenarios:
END
  python3 "$here/run.py" --list
}

for argument in "$@"; do
  case $argument in
    -h | --help) usage; exit 0 ;;
    -*) usage >&2; exit 2 ;;
  esac
done
if [ "$(id -u)" != 0 ]; then
  echo "network namespaces need root" >&2
  exit 2
fi
if ! command -v ip >/dev/null || ! command -v nft >/dev/null; then
  apt-get update -q >/dev/null
  apt-get install -y -q iproute2 nftables >/dev/null
fi

profile=${PROFILE:-dev}
cargo build --locked --example namespaces_node --profile "$profile"
folder=$profile
[ "$profile" = dev ] && folder=debug
binary=${CARGO_TARGET_DIR:-target}/$folder/examples/namespaces_node

child=
clean() {
  trap - EXIT
  # First the driver, which ends its nodes; then whatever it could not.
  if [ -n "$child" ]; then
    kill "$child" 2>/dev/null || true
    wait "$child" 2>/dev/null || true
  fi
  python3 "$here/run.py" --clean $$
}
trap clean EXIT
trap 'exit 130' INT TERM HUP
mkdir -p target/namespaces
PYTHONDONTWRITEBYTECODE=1 python3 "$here/run.py" --binary "$binary" --folder target/namespaces --run $$ "$@" &
child=$!
status=0
wait "$child" || status=$?
child=
exit "$status"
