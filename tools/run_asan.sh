#!/bin/sh
# Runs the Python tests in some processes side by side, each its share, as the
# leak sanitizer speaks when a process ends, which pytest-xdist does not hear
# of. $SANITIZER is loaded first into all of them.
#
# usage: SANITIZER=LIBRARIES run_asan.sh PYTHON LOGS PROCESSES [ARGUMENTS]
set -eu
python=$1
logs=$2
count=$3
shift 3

mkdir -p "$logs"
rm -f "$logs"/share-*
processes=
number=1
while [ "$number" -le "$count" ]; do
    # A shell has its background jobs ignore Ctrl-C, which some tests send.
    env --default-signal=INT LD_PRELOAD="$SANITIZER" \
        "$python" -m pytest -q -p no:cacheprovider --share "$number/$count" \
        "$@" > "$logs/share-$number" 2>&1 &
    processes="$processes $!"
    number=$((number + 1))
done

status=0
number=1
for process in $processes; do
    if wait "$process"; then
        echo "share $number: $(tail -n 1 "$logs/share-$number")"
    else
        status=1
        cat "$logs/share-$number"
    fi
    number=$((number + 1))
done
exit "$status"
