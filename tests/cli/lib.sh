# What every command-line test starts with:  . tests/cli/lib.sh
#
# BLKSIM is the program under test. Each test runs in an empty folder of its own, $work, which is removed at the end
# unless something failed. Output is TAP.
BLKSIM=${BLKSIM:-$PWD/build/blksim}
case $BLKSIM in /*) ;; *) BLKSIM=$PWD/$BLKSIM ;; esac
top=$PWD
work=$(mktemp -d "${TMPDIR:-/tmp}/blksim-cli.XXXXXX")
cd "$work" || exit 99
tests=0
failures=0

ok() { tests=$((tests + 1)); echo "ok $tests - $1"; }
not_ok() { # NAME WHY
    tests=$((tests + 1))
    failures=$((failures + 1))
    echo "not ok $tests - $1"
    echo "# $2"
    for file in out err; do
        [ -s $file ] && head -c 2000 $file | tr -c '[:print:]\n' '?' | sed "s/^/# $file: /"
    done
}
skip() { tests=$((tests + 1)); echo "ok $tests # SKIP $1"; }

# Runs the program; its output is in the files out and err, its exit status in $status.
blksim() {
    "$BLKSIM" "$@" > out 2> err
    status=$?
    return 0
}

# The last run ended so. exits NAME STATUS
exits() {
    if [ "$status" = "$2" ]; then ok "$1"; else not_ok "$1" "exit status $status, expected $2"; fi
}
# The last run ended so and said so: says NAME STATUS FILE REGEX
says() {
    if [ "$status" != "$2" ]; then
        not_ok "$1" "exit status $status, expected $2"
    elif grep -qE -e "$4" "$3"; then
        ok "$1"
    else
        not_ok "$1" "$3 has no line like: $4"
    fi
}
# A command of the shell succeeds: holds NAME COMMAND...
holds() {
    name=$1
    shift
    if "$@" > /dev/null 2>&1; then ok "$name"; else not_ok "$name" "false: $*"; fi
}

finish() {
    echo "1..$tests"
    cd "$top" || exit 99
    if [ $failures = 0 ]; then rm -rf "$work"; else echo "# left in $work"; fi
    [ $failures = 0 ]
    exit
}

# A small scenario that passes, into the file named.
good() {
    cat > "$1" <<'END'
blksim 1
disk src size=1M content=stamp
disk dst size=1M
blockdev-add driver=raw node-name=s file.driver=disk file.disk=src
blockdev-add driver=raw node-name=d file.driver=disk file.disk=dst
guest g node=s
blockdev-mirror job-id=m device=s target=d sync=full
io g write -P 0x11 0 64k
wait BLOCK_JOB_READY device=m
block-job-complete device=m
settle
expect job m concluded ok
END
}
# One whose expectation does not hold.
bad() {
    good "$1"
    echo "expect view s -P 0x22 0 64k" >> "$1"
}
