#!/bin/sh
# Prints the Python to build with: 3.11 or newer, preferring one that has its
# headers and can make a virtual environment. Prints nothing if there is none.
# PYTHON in the environment is tried first.
set -eu

first=
for name in ${PYTHON:-} python3.13 python3.12 python3.11 python3; do
    # Run it: a name can be there that leads to no interpreter.
    path=$("$name" -c '
import os, sys, sysconfig
if sys.version_info >= (3, 11):
    header = os.path.join(sysconfig.get_path("include"), "Python.h")
    print(sys.executable)
    try:
        import ensurepip, venv
        print("complete" if os.path.exists(header) else "")
    except ImportError:
        pass
' 2>/dev/null) || continue
    [ -n "$path" ] || continue
    case $path in
    *complete)
        printf '%s\n' "$path" | head -n 1
        exit 0
        ;;
    esac
    [ -n "$first" ] || first=$(printf '%s\n' "$path" | head -n 1)
done
[ -z "$first" ] || printf '%s\n' "$first"
