#!/bin/sh
# Runs the Python tests of some directories in processes side by side, as the
# leak sanitizer speaks, and counters of coverage are written, when a process
# ends by itself; those of pytest-xdist do not. Files are dealt out by their
# size. $SANITIZER is loaded first into all.
#
# usage: SANITIZER=LIBRARIES run_asan.sh PYTHON LOGS PROCESSES DIRECTORY...
#        SANITIZER=LIBRARIES run_asan.sh PYTHON LOGS 1 PYTEST_ARGUMENT...
set -eu
python=$1
logs=$2
count=$3
shift 3

# A shell has its background jobs ignore Ctrl-C, which some tests send.
run() {
    env --default-signal=INT LD_PRELOAD="$SANITIZER" \
        "$python" -m pytest -p no:cacheprovider "$@"
}

if [ "$count" -eq 1 ]; then
    run "$@"
    exit
fi

mkdir -p "$logs"
rm -f "$logs"/*
find "$@" -name 'test_*.py' -exec wc -c {} + | sort -rn |
    awk -v count="$count" -v logs="$logs" '
        $2 == "total" { next }
        {
            least = 1
            for (i = 2; i <= count; i++)
                if (size[i] < size[least]) least = i
            size[least] += $1
            print $2 > (logs "/share-" least)
        }'

processes=
for share in "$logs"/share-*; do
    # shellcheck disable=SC2046
    run -q $(cat "$share") > "$share.log" 2>&1 &
    processes="$processes $!"
done
status=0
for process in $processes; do
    wait "$process" || status=1
done
for share in "$logs"/share-*.log; do
    if [ "$status" -eq 0 ]; then
        tail -n 1 "$share"
    else
        cat "$share"
    fi
done
exit "$status"
