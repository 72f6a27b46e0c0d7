#!/bin/sh
# Installs what the groups given need (run, test, dev) from the Debian archive, or says what is missing.
#   tools/deps.sh run [test] [dev]
# Nothing to do is silent and fast. Exit status 1 when something is missing and cannot be installed.
set -u

RUN="gcc make libc6-dev libjansson-dev libboost-context-dev libxxhash-dev libssl-dev zlib1g-dev libzstd-dev
     uthash-dev libsqlite3-dev e2fsprogs fio"
TEST="libcmocka-dev"
DEV="clang libclang-rt-14-dev clang-format clang-tidy llvm afl++ lcov gdb valgrind qemu-utils git"

wanted=
for group in "$@"; do
    case $group in
    run) wanted="$wanted $RUN" ;;
    test) wanted="$wanted $TEST" ;;
    dev) wanted="$wanted $DEV" ;;
    *) echo "deps: there is no group '$group', expected run, test or dev" >&2; exit 2 ;;
    esac
done

# Without dpkg: what a compiler finds.
if ! command -v dpkg-query >/dev/null; then
    absent=
    for header in jansson.h xxhash.h openssl/sha.h zlib.h zstd.h uthash.h sqlite3.h boost/version.hpp sys/queue.h; do
        printf '#include <%s>\n' "$header" | ${CC:-cc} -E -x c - >/dev/null 2>&1 || absent="$absent $header"
    done
    [ -z "$absent" ] && exit 0
    echo "deps: not a Debian system; these headers are missing:$absent" >&2
    echo "deps: the packages that hold them on Debian are:" $wanted >&2
    exit 1
fi

missing=
installed=" $(dpkg-query -W -f='${db:Status-Status} ${Package} ' 2>/dev/null) "
for package in $wanted; do
    case $installed in
    *" installed $package "*) ;;
    *) missing="$missing $package" ;;
    esac
done
[ -z "$missing" ] && exit 0

as_root=
if [ "$(id -u)" != 0 ]; then
    if command -v sudo >/dev/null && { sudo -n true 2>/dev/null || [ -t 0 ]; }; then
        as_root="sudo"
    else
        echo "deps: missing:$missing" >&2
        echo "deps: install with: apt-get install --no-install-recommends$missing" >&2
        exit 1
    fi
fi

mkdir -p build
log=build/deps.log
: > "$log"
apt() { $as_root env DEBIAN_FRONTEND=noninteractive LC_ALL=C apt-get -qq -o Dpkg::Use-Pty=0 "$@" >>"$log" 2>&1; }
install() { apt install -y --no-install-recommends $missing; }

echo "deps: installing$missing"
lists=$(find /var/lib/apt/lists -maxdepth 1 -name '*_Packages*' 2>/dev/null | head -n 1)
if [ -n "$lists" ] && install; then exit 0; fi
# No package lists, or stale ones.
if apt update && install; then exit 0; fi
tail -n 15 "$log" >&2
echo "deps: apt-get failed, see $log; still missing:$missing" >&2
echo "deps: install with: ${as_root:+$as_root }apt-get install --no-install-recommends$missing" >&2
exit 1
