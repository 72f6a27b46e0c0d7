#!/bin/bash
# The tests that are named for facts of the seed history: a hash a line, with the tests that carry it.
#   tools/seed-table.sh               all hashes that tests name
#   tools/seed-table.sh PAGE...       the hashes that the pages tag [seed HASH...], with those no test names; 1 if any
# A test carries a hash as a part of its name: /mirror/seed/7b770c7/rate-sleep, /job/seed/bc72ad6/7483d1e/delays.
set -u
export LC_ALL=C
pages=()
for page in "$@"; do
    pages+=("$(realpath "$page")") || exit 2
done
cd "$(dirname "$0")/.."

# HASH NAME, one for each hash in each test's name
named() {
    grep -rhoE '"/[A-Za-z0-9/._-]+"' --include='*_test.c' tests | tr -d '"' | sort -u | awk -F/ '{
        for (i = 2; i <= NF; i++) {
            if ($i ~ /^[0-9a-f]+$/ && length($i) == 7 && $i ~ /[0-9]/) {
                print $i, $0
            }
        }
    }'
}

# The pages wrap: a tag may go over two lines.
tagged() {
    cat "$@" | tr '\n' ' ' | grep -oE '\[seed [^]]*\]' | grep -oE '\b[0-9a-f]{7}\b' | sort -u
}

table=$(named)
if [ ${#pages[@]} = 0 ]; then
    hashes=$(echo "$table" | cut -d' ' -f1 | sort -u)
else
    hashes=$(tagged "${pages[@]}")
fi
missing=0
for hash in $hashes; do
    tests=$(echo "$table" | sed -n "s/^$hash //p" | sed '2,$s/^/         /')
    [ -n "$tests" ] || missing=$((missing + 1))
    printf '%s  %s\n' "$hash" "${tests:--}"
done
[ "$missing" = 0 ] || echo "$missing without a test"
[ "$missing" = 0 ]
