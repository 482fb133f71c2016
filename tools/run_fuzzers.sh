#!/bin/sh
# usage: run_fuzzers.sh DIRECTORY SECONDS [NAME]
#
# Runs each fuzzer of the directory, or fuzz_NAME alone, for so many seconds.
# Seeds come from fuzz/corpus/NAME and words from fuzz/dict/NAME.dict; inputs
# that reach new code are kept in build/fuzz/NAME, a failing one in
# build/fuzz/NAME-crash-*.
set -eu

directory=$1
seconds=$2
ran=0
for source in fuzz/fuzz_${3:-*}.c; do
    [ -e "$source" ] || continue
    name=$(basename "$source" .c)
    name=${name#fuzz_}
    mkdir -p "build/fuzz/$name"
    set -- "build/fuzz/$name"
    if [ -d "fuzz/corpus/$name" ]; then
        set -- "$@" "fuzz/corpus/$name"
    fi
    if [ -e "fuzz/dict/$name.dict" ]; then
        set -- "-dict=fuzz/dict/$name.dict" "$@"
    fi
    echo "fuzz_$name: $seconds s"
    log="build/fuzz/$name.log"
    if ! "$directory/fuzz_$name" "-max_total_time=$seconds" -timeout=10 \
        -rss_limit_mb=2048 "-artifact_prefix=build/fuzz/$name-" \
        "$@" >"$log" 2>&1; then
        tail -n 60 "$log"
        echo "fuzz_$name: FAILED" >&2
        exit 1
    fi
    tail -n 1 "$log"
    ran=$((ran + 1))
done
if [ "$ran" -eq 0 ]; then
    echo "no fuzzer was found" >&2
    exit 1
fi
