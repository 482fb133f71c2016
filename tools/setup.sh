#!/bin/sh
# Installs the system packages that a make target needs, where it may, and
# otherwise names them and stops.
#
#   tools/setup.sh build    what `make demo` needs: compiler, headers, Python
#   tools/setup.sh test     also what the tests need: Node, npm, curl, Chromium,
#                           openssl
#   tools/setup.sh dev      also what the checks need: clang, valgrind, ...
#
# Only what is missing is installed: a tool that came from elsewhere counts.
set -eu

kind=${1:-build}
here=$(dirname "$0")
missing_debian=
missing_fedora=
missing_homebrew=

# missing DEBIAN FEDORA HOMEBREW: remember packages to install ('' for none).
missing() {
    missing_debian="$missing_debian $1"
    missing_fedora="$missing_fedora $2"
    missing_homebrew="$missing_homebrew $3"
}

have() {
    command -v "$1" >/dev/null 2>&1
}

compiles() {
    printf '%s\n' "$1" | ${CC:-cc} $2 -fsyntax-only -x c - >/dev/null 2>&1
}

has_header() {
    flags=
    if have pkg-config; then
        flags=$(pkg-config --cflags "$2" 2>/dev/null || true)
    fi
    compiles "#include <$1>" "$flags"
}

look_for_build() {
    if ! have "${CC:-cc}" || ! compiles '#include <stdio.h>' ''; then
        missing 'gcc libc6-dev' gcc llvm
        # Without a compiler no header can be looked for.
        missing 'libssl-dev zlib1g-dev' 'openssl-devel zlib-devel' 'openssl@3'
    else
        has_header openssl/ssl.h openssl ||
            missing libssl-dev openssl-devel openssl@3
        has_header zlib.h zlib || missing zlib1g-dev zlib-devel zlib
    fi
    have make || missing make make make
    python=$("$here/find_python.sh")
    if [ -z "$python" ]; then
        missing 'python3 python3-dev python3-venv' \
            'python3 python3-devel' python
    else
        "$python" -c "$HAS_HEADER" || missing "$(debian_python -dev)" \
            python3-devel python
        "$python" -c 'import ensurepip, venv' 2>/dev/null ||
            missing "$(debian_python -venv)" python3 python
    fi
}

HAS_HEADER='
import os, sys, sysconfig
path = os.path.join(sysconfig.get_path("include"), "Python.h")
sys.exit(not os.path.exists(path))'

# Debian's name of a package that belongs to the chosen Python.
debian_python() {
    "$python" -c "import sys
print('python%d.%d$1' % sys.version_info[:2])"
}

look_for_test() {
    have node || missing nodejs nodejs node
    # Node from elsewhere than Debian brings npm; Debian's does not.
    have npm || missing npm nodejs-npm node
    have curl || missing curl curl curl
    have openssl || missing openssl openssl openssl@3
    have chromium || have chromium-browser || have google-chrome ||
        missing chromium chromium chromium
}

look_for_dev() {
    if ! have clang || ! links clang; then
        missing 'clang libclang-rt-14-dev' 'clang compiler-rt' llvm
    fi
    { have gcc && links gcc; } || missing gcc 'gcc libasan libubsan' gcc
    have clang-format || missing clang-format clang-tools-extra clang-format
    have clang-tidy || missing clang-tidy clang-tools-extra llvm
    have valgrind || missing valgrind valgrind ''
    have pkg-config || missing pkg-config pkgconf-pkg-config pkgconf
}

# links COMPILER: whether it has its sanitizers.
links() {
    directory=$(mktemp -d)
    status=0
    printf 'int main(void) { return 0; }\n' |
        "$1" -fsanitize=address,undefined -x c - -o "$directory/probe" \
            >/dev/null 2>&1 || status=1
    rm -rf "$directory"
    return $status
}

look() {
    missing_debian=
    missing_fedora=
    missing_homebrew=
    look_for_build
    case $kind in
    build) ;;
    test) look_for_test ;;
    dev)
        look_for_test
        look_for_dev
        ;;
    *)
        echo "setup.sh: unknown kind '$kind'" >&2
        exit 2
        ;;
    esac
}

# clean WORDS: the words with single spaces between them.
clean() {
    # shellcheck disable=SC2086
    set -- $1
    echo "$*"
}

name_packages() {
    {
        echo
        echo "twspy needs packages that are not installed here$1."
        echo "Install them, then give the same command again:"
        echo
        echo "  Debian 12, Ubuntu:  apt-get install $(clean "$missing_debian")"
        echo "  Fedora:             dnf install $(clean "$missing_fedora")"
        echo "  Homebrew:           brew install $(clean "$missing_homebrew")"
        echo
    } >&2
    exit 1
}

install_packages() {
    have apt-get || name_packages ''
    root=
    if [ "$(id -u)" -ne 0 ]; then
        if have sudo && sudo -n true 2>/dev/null; then
            root='sudo -n'
        else
            name_packages ', and only root may install them'
        fi
    fi
    packages=$(clean "$missing_debian")
    echo "Installing: $packages" >&2
    {
        $root apt-get update -q &&
            $root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y \
                --no-install-recommends $packages
    } >&2 || name_packages ' and apt-get could not install them'
}

look
if [ -n "$(clean "$missing_debian")" ]; then
    install_packages
    look
    if [ -n "$(clean "$missing_debian")" ]; then
        name_packages ' even after apt-get installed some'
    fi
fi
