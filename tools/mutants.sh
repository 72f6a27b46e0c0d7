#!/bin/bash
# Puts known bugs back, one at a time, and sees which checker finds them.
#   tools/mutants.sh [NAME...]        all of tests/mutants/*.patch unless named
#   SEEDS=N TIME=SECONDS              the budget of the general sweep, 20,000 seeds and 300 s unless told otherwise
# A mutant is NAME.patch (its leading lines of text say what the bug is) and NAME.blk, a directed scenario that passes
# on the real code and fails on the mutant. A line "profile: NAME" above the diff names the profile of the sweep, where
# that is not the default one. A line "unit: ROOM/UNIT" names the tests that must fail instead, for code that no scenario
# reaches before there is a driver for it. Each is built in build/mutants/NAME from a copy of this tree.
set -u
cd "$(dirname "$0")/.."
seeds=${SEEDS:-20000}
budget=${TIME:-300}
jobs=$(nproc 2>/dev/null || echo 1)
top=$PWD
table=build/mutants/table.txt
worst=0
mkdir -p build/mutants
: > "$table"

# The sources and the objects built from them, so that only what a patch touches is compiled again.
copy_tree() { # DIRECTORY
    mkdir -p "$1/build"
    tar -cf - --exclude=./build --exclude=./.git . | tar -xf - -C "$1"
    rm -rf "$1/build/failures" "$1/build/opt" "$1/build/gen"
    cp -a build/opt build/gen "$1/build/"
}

# checker of the four lines: "fail CHECKER  SIGNATURE  (seed N)"
checker_of() { sed -nE 's/^(fail|crash|hang) ([^ ]+)  .*/\2/p' "$1" | head -n 1; }
seed_of() { sed -nE 's/^(fail|crash|hang) .*\(seed ([0-9]+)\)$/\2/p' "$1" | head -n 1; }

# No scenario reaches it yet: tests fail with the bug, and pass without.
unit_mutant() { # NAME DIRECTORY ROOM/UNIT
    local name=$1 dir=$2 test=build/opt/tests/$3_test found=- start=$(date +%s%N) spent

    if ! ${MAKE:-make} --no-print-directory -j"$jobs" BUILD=build/opt "$test" > "$dir.build" 2>&1 ||
        ! ${MAKE:-make} -C "$dir" --no-print-directory -j"$jobs" BUILD=build/opt REVISION="mutant-$name" "$test" \
            >> "$dir.build" 2>&1; then
        tail -n 5 "$dir.build"
        found="does not build"
        worst=1
    elif ! timeout -k 5 "$budget" "$test" > "$dir.clean" 2>&1; then
        echo "$name: the tests of $3 fail without the bug"
        found="$3 ?"
        worst=1
    elif (cd "$dir" && timeout -k 5 "$budget" "$test" || exit 1) > "$dir.directed" 2>&1; then
        echo "$name: the tests of $3 do not find it"
        found=MISSED
        worst=1
    else
        found=$(sed -nE 's/^\[  FAILED  \] (\/[^ ]+)$/\1/p' "$dir.directed" | head -n 1)
        found=${found:-$3 died}
    fi
    spent=$(($(date +%s%N) - start))
    echo "--- tests: $found"
    printf '%-37s %-20s %-20s %10s %6d.%02d\n' "$name" "(tests)" "$found" - \
        $((spent / 1000000000)) $((spent / 10000000 % 100)) >> "$table"
    echo
}

mutant() { # NAME
    local name=$1 dir=build/mutants/$1 what directed=- found=- seed=- start spent profile unit
    local patch=$top/tests/mutants/$name.patch scenario=$top/tests/mutants/$name.blk

    what=$(sed -nE '/^(diff|---|Index)/q; /[^[:space:]]/{s/^#? *//; p; q}' "$patch")
    profile=$(sed -nE '/^diff/q; s/^profile: *([a-z:=,0-9-]+) *$/--profile \1/p' "$patch")
    echo "=== $name: $what"
    rm -rf "$dir"
    copy_tree "$dir"
    if ! (cd "$dir" && GIT_CEILING_DIRECTORIES=$PWD/.. git apply --whitespace=nowarn "$patch"); then
        echo "$name: the patch does not apply"
        printf '%-37s %-20s %-20s %10s %8s\n' "$name" "patch is stale" - - - >> "$table"
        worst=1
        return
    fi
    if ! ${MAKE:-make} -C "$dir" --no-print-directory -j"$jobs" REVISION="mutant-$name" > "$dir.build" 2>&1; then
        tail -n 5 "$dir.build"
        printf '%-37s %-20s %-20s %10s %8s\n' "$name" "does not build" - - - >> "$table"
        worst=1
        return
    fi

    unit=$(sed -nE '/^diff/q; s/^unit: *([a-z0-9_/]+) *$/\1/p' "$patch")
    if [ -n "$unit" ]; then
        unit_mutant "$name" "$dir" "$unit"
        return
    fi
    if [ -f "$scenario" ]; then
        if ! build/blksim run "$scenario" > "$dir.clean" 2>&1; then
            echo "$name: the directed scenario fails without the bug:"
            sed 's/^/    /' "$dir.clean"
            worst=1
        fi
        (cd "$dir" && build/blksim run "$scenario") > "$dir.directed" 2>&1
        directed=$(checker_of "$dir.directed")
        if [ -z "$directed" ]; then
            echo "$name: the directed scenario does not find it"
            directed=MISSED
            worst=1
        fi
    fi

    start=$(date +%s%N)
    (cd "$dir" && timeout -k 5 "$budget" build/blksim run --seeds "1..$seeds" $profile -j "$jobs" --max-failures 1) \
        > "$dir.sweep" 2>&1
    spent=$(($(date +%s%N) - start))
    found=$(checker_of "$dir.sweep")
    seed=$(seed_of "$dir.sweep")
    if [ -z "$found" ]; then
        echo "$name: the sweep does not find it in $seeds seeds or $budget s"
        found=MISSED
        seed="> budget"
        worst=1
    else
        grep -A 3 -E '^(fail|crash|hang) ' "$dir.sweep" | head -n 4
        if ! build/blksim run --seed "$seed" $profile > /dev/null 2>&1; then
            echo "$name: seed $seed fails without the bug as well, so this proves nothing"
            found="$found ?"
            worst=1
        fi
        echo "--- shrunk:"
        (cd "$dir" && timeout -k 5 "$budget" build/blksim shrink --seed "$seed" $profile -o shrunk.blk) 2>&1 | tail -n 1
        cat "$dir/shrunk.blk"
    fi
    printf '%-37s %-20s %-20s %10s %6d.%02d\n' "$name" "$directed" "$found" "$seed" \
        $((spent / 1000000000)) $((spent / 10000000 % 100)) >> "$table"
    echo
}

if [ $# = 0 ]; then
    set -- $(cd tests/mutants 2>/dev/null && ls | LC_ALL=C sort | sed -n 's/\.patch$//p')
fi
[ $# != 0 ] || { echo "mutants: there are no patches in tests/mutants/"; exit 1; }
for name in "$@"; do
    [ -f "tests/mutants/$name.patch" ] || { echo "mutants: there is no tests/mutants/$name.patch" >&2; exit 2; }
    mutant "$name"
done
printf '%-37s %-20s %-20s %10s %9s\n' bug "directed scenario" "found by sweep" "at seed" "seconds"
cat "$table"
exit $worst
