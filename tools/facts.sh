#!/bin/sh
# The facts of the reference that tests protect: for each its id, the hash of the seed history if it has one, the fact
# in short, and the names of its tests.
#   tools/facts.sh [PAGE...]          pages are tests/facts/PAGE.tsv; all of them unless named
# A test says what it protects in a comment right above its function, one or several facts of one or several pages:
#   /* fact: bitmaps 1.2/set, edge/1; block 2.1/open */         (in a command-line test: # fact: bitmaps 1.7/vectors)
# Exit status 1, with a list, when a fact has no test, a seed's hash is in no name of its fact's tests, a comment names
# an unknown fact or stands above no test, or a fact that waits for other parts (fourth column) has a test by now.
set -eu
cd "${FACTS_ROOT:-$(dirname "$0")/..}"
export LC_ALL=C
if [ $# = 0 ]; then
    set -- $(find tests/facts -name '*.tsv' | sort | sed 's#.*/##; s#\.tsv$##')
fi
known=$(find tests/facts -name '*.tsv' | sort | sed 's#.*/##; s#\.tsv$##' | tr '\n' ' ')
for page in "$@"; do
    [ -f "tests/facts/$page.tsv" ] || { echo "facts: there is no tests/facts/$page.tsv" >&2; exit 2; }
done
found=$(mktemp)
trap 'rm -f "$found"' EXIT

# PAGE <tab> ID <tab> TEST, a line for each fact of each comment; a comment that cannot be used: ? <tab> WHAT
find tests -name '*_test.c' -o -name '*_test.sh' | sort | xargs awk -v known="$known" '
function problem(what) { print "?\t" file ": " what }

# The names that the tables of this file give to functions, and what the comments above these say.
function end_file(    text, at, rest, path, fn, i) {
    for (text = source; match(text, /"\/[^"]*",[ \n]*[A-Za-z_][A-Za-z_0-9]*/); text = substr(text, RSTART + RLENGTH)) {
        at = substr(text, RSTART, RLENGTH)
        path = fn = at
        sub(/^"/, "", path)
        sub(/".*/, "", path)
        sub(/.*[^A-Za-z_0-9]/, "", fn)
        names[fn] = names[fn] " " path
    }
    for (i = 1; i <= claims; i++) {
        if (claim_fn[i] ~ /^\//) {
            tell(claim_text[i], claim_fn[i])
        } else if (names[claim_fn[i]] == "") {
            problem(claim_fn[i] " has a fact and no name in a table")
        } else {
            tell(claim_text[i], substr(names[claim_fn[i]], 2))
        }
    }
    if (pending != "") problem("no test follows:" pending)
    claims = 0
    pending = source = ""
    split("", names)
}

function tell(text, tests,    word, count, page, i, test, tests_of, j) {
    count = split(text, word, /[ ,;\t\n]+/)
    tests_of = split(tests, test, " ")
    page = ""
    for (i = 1; i <= count; i++) {
        if (word[i] == "") continue
        if (word[i] !~ /\//) {
            page = word[i]
            if (index(" " known, " " page " ") == 0) problem("no page is named " page ": " text)
        } else for (j = 1; j <= tests_of; j++) {
            print page "\t" word[i] "\t" test[j]
        }
    }
}

function claim(fn) {
    claims++
    claim_fn[claims] = fn
    claim_text[claims] = pending
    pending = ""
}

FNR == 1 { if (file != "") end_file(); file = FILENAME; shell = file ~ /\.sh$/; inside = 0; comment = "" }

shell {
    if (match($0, /^[ \t]*# fact: /)) {
        pending = pending " " substr($0, RSTART + RLENGTH)
    } else if (pending != "" && match($0, /"\/[^"]*"/)) {
        claim(substr($0, RSTART + 1, RLENGTH - 2))
    }
    next
}

{ source = source $0 "\n" }

# Comments are collected whole, as they may go over several lines.
!inside && /^\/\*/ { inside = 1; comment = "" }
inside {
    comment = comment $0 "\n"
    if ($0 ~ /\*\//) {
        inside = 0
        if (match(comment, /fact: /)) {
            comment = substr(comment, RSTART + RLENGTH)
            sub(/\*\/.*/, "", comment)
            gsub(/\n[ ]*\*?/, " ", comment)
            sub(/ +$/, "", comment)
            pending = pending " " comment
        }
    }
    next
}
pending != "" && /^(static )?void [a-z_0-9]+\(/ {
    fn = $0
    sub(/\(.*/, "", fn)
    sub(/.* /, "", fn)
    claim(fn)
}
pending != "" && /^[A-Z][A-Z_0-9]*\([a-z_0-9]+[,)]/ {
    fn = $0
    sub(/^[A-Z_0-9]*\(/, "", fn)
    sub(/[,)].*/, "", fn)
    claim(fn)
}
pending != "" && $0 != "" { problem("no test follows:" pending); pending = "" }

END { end_file() }
' > "$found"

pages=$*
for page in $pages; do
    shift
    set -- "$@" "tests/facts/$page.tsv"
done
awk -F '\t' -v found="$found" -v pages="$pages" '
function problem(what) { problems++; report = report "  " what "\n" }

function carries(tests, hash,    test, count, i) {
    count = split(tests, test, "\n")
    for (i = 1; i <= count; i++) {
        if (index(test[i] "/", "/" hash "/")) return 1
    }
    return 0
}

BEGIN {
    while ((getline line < found) > 0) {
        split(line, f, "\t")
        if (f[1] == "?") problem(f[2])
        else if (index("\n" tests[f[1], f[2]], "\n" f[3] "\n") == 0) tests[f[1], f[2]] = tests[f[1], f[2]] f[3] "\n"
    }
}

FNR == 1 { page = FILENAME; sub(/.*\//, "", page); sub(/\.tsv$/, "", page); print page }
/^#/ || NF == 0 { next }
{
    facts++
    is_fact[page, $1]++
    if (is_fact[page, $1] > 1) problem(page " " $1 " stands twice")
    if (NF < 3 || $3 == "") problem(page " " $1 " has no words")
    here = tests[page, $1]
    printf "%-26s %-16s %s\n", $1, $2 == "" ? "-" : $2, $3
    count = split(here, test, "\n") - (here != "")
    for (i = 1; i <= count; i++) printf "    %s\n", test[i]
    if ($4 != "") {
        waiting++
        printf "    (waits for %s)\n", $4
        if (count > 0) problem(page " " $1 " waits for " $4 " but has a test")
    } else if (count == 0) {
        problem(page " " $1 " has no test: " $3)
    } else {
        protected++
    }
    hashes = count > 0 ? split($2, hash, " ") : 0
    for (i = 1; i <= hashes; i++) {
        if (hash[i] != "seed" && !carries(here, hash[i])) problem(page " " $1 ": no test is named for seed " hash[i])
    }
}

END {
    asked = " " pages " "
    for (key in tests) {
        split(key, f, SUBSEP)
        if (index(asked, " " f[1] " ") && !is_fact[f[1], f[2]]) {
            first = tests[key]
            sub(/\n.*/, "", first)
            unknown[++unknowns] = f[1] " " f[2] " is no fact: " first
        }
    }
    for (i = 1; i <= unknowns; i++) {       # few, and awk has no sort
        least = i
        for (j = i + 1; j <= unknowns; j++) if (unknown[j] < unknown[least]) least = j
        swap = unknown[i]; unknown[i] = unknown[least]; unknown[least] = swap
        problem(unknown[i])
    }
    printf "%d facts: %d have tests, %d wait\n", facts, protected, waiting
    if (problems) {
        printf "%d problems:\n%s", problems, report
        exit 1
    }
}
' "$@"
