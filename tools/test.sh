#!/bin/sh
# Runs every test of one build: unit tests, command-line tests, the corpus, a short sweep, the real image.
#   tools/test.sh build/asan
# One line a group, the whole output of what failed, the names of what was skipped, and `N passed, N failed`.
set -u
cd "$(dirname "$0")/.."
build=${1:-build/asan}
blksim=$build/blksim
logs=build/test-logs
jobs=$(nproc 2>/dev/null || echo 1)
passed=0
failed=0
skipped=

rm -rf "$logs"
mkdir -p "$logs"
export BLKSIM="$PWD/$blksim"
export ASAN_OPTIONS="${ASAN_OPTIONS:-detect_stack_use_after_return=0}"
export UBSAN_OPTIONS="${UBSAN_OPTIONS:-print_stacktrace=1}"

# Counts the TAP lines of a log. A program that failed without saying which test did counts as one failure.
count() { # GROUP LOG STATUS
    ok=$(grep -cE '^ok ' "$2")
    bad=$(grep -cE '^not ok ' "$2")
    skips=$(grep -E '^(not )?ok .*# SKIP' "$2" | grep -c '^ok')
    notok_skips=$(grep -cE '^not ok .*# SKIP' "$2")
    names=$(sed -nE 's/^(not )?ok .*# SKIP ?(.*)/\2/p' "$2")
    ok=$((ok - skips))
    bad=$((bad - notok_skips))
    if [ "$3" != 0 ] && [ "$bad" = 0 ]; then
        bad=1
        [ "$3" = 124 ] && echo "not ok - $1: took too long and was ended" >> "$2"
    fi
    passed=$((passed + ok))
    failed=$((failed + bad))
    [ -z "$names" ] || skipped="$skipped
$names"
    if [ "$bad" = 0 ]; then
        printf '  %-40s %4d passed\n' "$1" "$ok"
    else
        printf '  %-40s %4d passed, %d FAILED (exit status %s)\n' "$1" "$ok" "$bad" "$3"
        sed 's/^/    | /' "$2" | tail -n 200
    fi
}

# Runs a program with TAP output; its log and exit status lie in $logs.
one() { # NAME COMMAND...
    name=$1
    shift
    log=$logs/$(printf %s "$name" | tr / -)
    CMOCKA_MESSAGE_OUTPUT=TAP timeout -k 5 "${TEST_TIMEOUT:-240}" "$@" > "$log.log" 2>&1
    echo $? > "$log.status"
}

# For programs that say it by their exit status: 77 is a skip.
by_status() {
    log=$logs/$(printf %s "$1" | tr / -)
    case $(cat "$log.status") in
    0) echo "ok 1 - $1" ;;
    77) echo "ok 1 - # SKIP $1: $(tail -n 1 "$log.log")"; echo 0 > "$log.status" ;;
    *) echo "not ok 1 - $1" ;;
    esac >> "$log.log"
}

# A group of names, as many at a time as there are processors, told in order.
group() { # TITLE RUNNER-FUNCTION NAMES...
    title=$1
    runner=$2
    shift 2
    [ $# = 0 ] && return
    echo "$title"
    running=0
    for name in "$@"; do
        $runner "$name" &
        running=$((running + 1))
        if [ $running -ge "$jobs" ]; then wait; running=0; fi
    done
    wait
    for name in "$@"; do
        log=$logs/$(printf %s "$name" | tr / -)
        count "$name" "$log.log" "$(cat "$log.status")"
    done
}

unit() { one "$1" "$build/tests/${1}_test"; }
script() { one "$1" sh "tests/$1.sh"; }
corpus() {
    one "$1" "$blksim" run "corpus/$1.blk"
    by_status "$1"
}
directed() {
    one "$1" "$blksim" run "tests/$1.blk"
    by_status "$1"
}
sweep() {
    one "$1" "$blksim" run --seeds "1..${TEST_SEEDS:-150}" -j "$jobs" --stats
    by_status "$1"
}
image() {
    one "$1" tools/real-image.sh "$blksim"
    by_status "$1"
}

names() { # FOLDER SUFFIX
    find "$1" -name "*$2" 2>/dev/null | LC_ALL=C sort | sed -E "s#^[^/]*/##; s#$2\$##"
}

group "unit tests" unit $(names tests _test.c)
if [ -x "$blksim" ]; then
    group "command line" script $(cd tests && find cli -name '*_test.sh' 2>/dev/null | LC_ALL=C sort | sed 's/\.sh$//')
    group "corpus" corpus $(names corpus .blk)
    group "directed scenarios of the mutants" directed $(names tests/mutants .blk)
    group "sweep" sweep seeds
    [ -x tools/real-image.sh ] && group "real image" image real-image
fi

if [ -n "$skipped" ]; then
    echo "skipped:$skipped" | sed '2,$s/^/  /'
fi
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
