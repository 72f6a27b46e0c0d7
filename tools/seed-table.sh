#!/bin/sh
# The commits of the seed history (rows seed/HASH of tests/facts/) with the tests that carry them, and how these end.
#   tools/seed-table.sh [--markdown] BUILD        runs the programs of BUILD/tests that hold such tests
#   tools/seed-table.sh --programs BUILD          names these programs, for make
# A test carries a hash as a part of its name: /mirror/seed/7b770c7/rate-sleep, /job/seed/bc72ad6/7483d1e/delays. Exit
# status 1 when a commit has no test, or one that is not green; a test that is skipped is not.
set -eu
cd "${FACTS_ROOT:-$(dirname "$0")/..}"
export LC_ALL=C
form=text
case ${1:-} in --markdown | --programs) form=${1#--}; shift ;; esac
build=${1:?where the tests are built is missing}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

# HASH <tab> TOPIC <tab> WHAT IT WAITS FOR, in the order of the tables
sed -n 's#^seed/##p' tests/facts/*.tsv | cut -f1,3,4 > "$tmp/commits"

# HASH <tab> NAME <tab> PROGRAM, one for each commit in the name of each test
find tests -name '*_test.c' | sort | while read -r source; do
    grep -oE '"/[^" ]+"' "$source" | tr -d '"' | sort -u | awk -F / -v program="${source%.c}" '
        { for (i = 2; i <= NF; i++) if ($i ~ /^[0-9a-f]+$/ && length($i) == 7) print $i "\t" $0 "\t" program }'
done | sort > "$tmp/carried"
programs=$(cut -f1 "$tmp/commits" | sort -u | join -t "$(printf '\t')" - "$tmp/carried" | cut -f3 | sort -u)
if [ "$form" = programs ]; then
    for program in $programs; do echo "$build/$program"; done
    exit 0
fi

# NAME <tab> ok, skipped or not ok; a program that dies leaves the tests after that without a line
for program in $programs; do
    CMOCKA_MESSAGE_OUTPUT=TAP timeout -k 5 "${TEST_TIMEOUT:-240}" "$build/$program" 2> /dev/null |
        sed -nE 's/^ok [0-9]+ - # SKIP (.*)/\1\tskipped/p; t
                 s/^ok [0-9]+ - (.*)/\1\tok/p; s/^not ok [0-9]+ - (.*)/\1\tnot ok/p' || true
done > "$tmp/ends"

awk -F '\t' -v tmp="$tmp" -v markdown="$([ "$form" = markdown ] && echo 1)" '
BEGIN {
    while ((getline line < (tmp "/ends")) > 0) {
        split(line, f, "\t")
        end[f[1]] = f[2]
    }
    while ((getline line < (tmp "/carried")) > 0) {
        split(line, f, "\t")
        if (!seen[f[1], f[2]]++) carried[f[1]] = carried[f[1]] f[2] "\t"
    }
    if (markdown) print "| commit | what it is about | tests | |\n|---|---|---|---|"
}
{
    commits++
    count = split(carried[$1], test, "\t") - (carried[$1] != "")
    how = count ? "green" : "no test"
    names = ""
    for (i = 1; i <= count; i++) {
        result = (test[i] in end) ? end[test[i]] : "did not run"
        if (result != "ok") how = "not green"
        note = result == "ok" ? "" : " (" result ")"
        names = names (markdown ? (i > 1 ? "<br>" : "") "`" test[i] "`" note : "\n         " test[i] note)
        if (!was_counted[test[i]]++) tests++
    }
    if (how == "green") green++
    if (how == "no test" && $3 != "") how = how ", waits for " $3
    if (markdown) printf "| %s | %s | %s | %s |\n", $1, $2, names, how
    else printf "%s  %-9s  %s%s\n", $1, how, $2, names
}
END {
    if (markdown) print ""
    printf "%d commits, %d green, %d without a green test; %d tests\n", commits, green, commits - green, tests
    exit green < commits
}
' "$tmp/commits"
