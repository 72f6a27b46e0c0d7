#!/bin/sh
# The sharp edges of reference/jobs.md (rows edge/N of tests/facts/jobs.tsv) and what catches each: tests of the
# behaviour, tests of checkers, which then watch every run, and mutants, which show that something does.
#   tools/edges.sh
# A mutant says which edge it is: "(jobs.md 10.7)" above its diff. Exit status 1 when nothing catches one.
set -eu
cd "${FACTS_ROOT:-$(dirname "$0")/..}"
export LC_ALL=C

mutants=$(mktemp)
trap 'rm -f "$mutants"' EXIT
for patch in tests/mutants/*.patch; do
    [ -f "$patch" ] || continue
    name=$(basename "$patch" .patch)
    sed '/^diff /,$d' "$patch" | tr '\n' ' ' | grep -oE '\(jobs\.md [^)]*\)' | grep -oE '\b10\.[0-9]+' | sort -u |
        sed "s#^10\.\(.*\)#edge/\1\t$name#" || true
done > "$mutants"

# The listing of facts has an unindented line a fact, indented ones for its tests.
{ tools/facts.sh jobs || true; } | sed '/^[0-9]* facts: /,$d' | awk -v mutants="$mutants" '
function flush_edge(    i, count, name) {
    if (id == "") return
    count = split(of[id], name, "\t") - (of[id] != "")
    for (i = 1; i <= count; i++) print "    mutant  " name[i]
    edges++
    if (!caught && !count) {
        bare++
        print "    NOTHING"
    }
    id = ""
}
BEGIN {
    while ((getline line < mutants) > 0) {
        split(line, f, "\t")
        of[f[1]] = of[f[1]] f[2] "\t"
    }
}
/^[^ ]/ {
    flush_edge()
    if ($1 !~ /^edge\//) next
    id = $1
    caught = 0
    number = substr(id, 6)
    text = $0
    sub(/^[^ ]+ +[^ ]+ +/, "", text)
    printf "%2d  %s\n", number, text
    next
}
id != "" {
    text = $0
    sub(/^ +/, "", text)
    caught += text ~ /^\//
    print "    " (text !~ /^\// ? "" : text ~ /^\/check\// ? "checker " : "test    ") text
}
END {
    flush_edge()
    printf "%d edges, %d that nothing catches\n", edges, bare
    exit bare > 0
}'
