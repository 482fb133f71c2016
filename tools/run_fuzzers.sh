#!/bin/sh
# usage: run_fuzzers.sh DIRECTORY JOBS SECONDS|replay [NAME]
#
# Runs each fuzzer of the directory, or fuzz_NAME alone, for so many seconds,
# JOBS of them at a time. Seeds come from fuzz/corpus/NAME and words from
# fuzz/dict/NAME.dict; inputs that reach new code are kept in
# build/fuzz/NAME, a failing one in build/fuzz/NAME-crash-*.
#
# replay: no more than each input of fuzz/corpus/NAME, once.
set -eu

directory=$1
jobs=$2
seconds=$3

if [ "$jobs" = one ]; then
    name=$4
    log="build/fuzz/$name.log"
    mkdir -p "build/fuzz/$name"
    if [ "$seconds" = replay ]; then
        if [ ! -d "fuzz/corpus/$name" ]; then
            echo "fuzz_$name has no corpus in fuzz/corpus/$name" >&2
            exit 1
        fi
        set -- -runs=0
    else
        set -- "-max_total_time=$seconds" "build/fuzz/$name"
    fi
    if [ -d "fuzz/corpus/$name" ]; then
        set -- "$@" "fuzz/corpus/$name"
    fi
    if [ -e "fuzz/dict/$name.dict" ]; then
        set -- "-dict=fuzz/dict/$name.dict" "$@"
    fi
    if ! "$directory/fuzz_$name" -timeout=10 -rss_limit_mb=2048 \
        "-artifact_prefix=build/fuzz/$name-" "$@" >"$log" 2>&1; then
        tail -n 60 "$log"
        echo "fuzz_$name: FAILED" >&2
        exit 1
    fi
    echo "fuzz_$name: $(grep -E '^#[0-9]+.DONE' "$log")"
    exit 0
fi

names=
for source in fuzz/fuzz_${4:-*}.c; do
    [ -e "$source" ] || continue
    name=$(basename "$source" .c)
    names="$names ${name#fuzz_}"
done
if [ -z "$names" ]; then
    echo "no fuzzer was found" >&2
    exit 1
fi
# Where all are run, each has seeds: `replay` or not, they come first.
if [ $# -lt 4 ]; then
    for name in $names; do
        if [ ! -d "fuzz/corpus/$name" ]; then
            echo "fuzz_$name has no corpus in fuzz/corpus/$name" >&2
            exit 1
        fi
    done
fi
# It fails where one of them does.
printf '%s\n' $names | xargs -P "$jobs" -n 1 "$0" "$directory" one "$seconds"
