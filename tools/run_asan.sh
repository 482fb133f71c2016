#!/bin/sh
# Runs the Python tests in two processes side by side, as the leak sanitizer
# speaks when a process ends, which pytest-xdist does not hear of. With
# arguments: just those, in one. $SANITIZER is loaded first into both.
#
# usage: SANITIZER=LIBRARIES run_asan.sh PYTHON LOG [pytest arguments]
set -eu
python=$1
log=$2
shift 2

# A shell has its background jobs ignore Ctrl-C, which some tests send.
run() {
    env --default-signal=INT LD_PRELOAD="$SANITIZER" \
        "$python" -m pytest -p no:cacheprovider "$@"
}

if [ $# -gt 0 ]; then
    run "$@"
    exit
fi
run --ignore tests/integration > "$log" 2>&1 &
others=$!
status=0
run tests/integration || status=$?
wait "$others" || status=$?
cat "$log"
exit "$status"
