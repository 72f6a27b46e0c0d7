#!/bin/sh
# What tests reach of the job machine: verbs in states, transitions, and the transitions that must not be.
#   tools/job-matrix.sh TEST          TEST is the built tests/jobs/matrix_test, which tells what it reached
# A cell says + (accepted) or - (refused), and with how many kinds of jobs; below it stands by which tests. Exit status
# 1, with a list, when a cell or a transition was not reached, 2 when the test itself fails.
set -eu
export LC_ALL=C
told=$(mktemp)
trap 'rm -f "$told" "$told.out"' EXIT
if ! JOB_MATRIX=$told "$1" > "$told.out" 2>&1; then
    cat "$told.out"
    exit 2
fi

awk -F '\t' '
# The names are those of reference/jobs.md 1.2 and 1.3. Every verb is tried in every state; for the transitions, the
# rest of the square must have been seen to be an assertion.
BEGIN {
    states = split("created running paused ready standby waiting pending aborting concluded null", state, " ")
    verbs = split("cancel pause resume set-speed complete finalize dismiss change", verb, " ")
}

function once(list, word) { return index(" " list " ", " " word " ") ? list : list (list == "" ? "" : " ") word }
function count(list,    a) { return split(list, a, " ") }

$1 == "cell" {
    if (answer[$2, $3] != "" && answer[$2, $3] != $4) problem[++problems] = $3 " in " $2 " was accepted and refused"
    answer[$2, $3] = $4
    kinds[$2, $3] = once(kinds[$2, $3], $5)
    tests[$2] = once(tests[$2], $6)
    of_state[$2] = once(of_state[$2], $5)
    tried++
}
$1 == "step" {
    if (!(($2, $3) in steps)) order[++legal] = $2 SUBSEP $3
    steps[$2, $3]++
    step_kinds[$2, $3] = once(step_kinds[$2, $3], $4)
    step_tests[$2, $3] = once(step_tests[$2, $3], $5)
}
$1 == "illegal" { illegal[$2, $3] = 1; illegals++ }

END {
    printf "%-11s", "state"
    for (v = 1; v <= verbs; v++) printf " %9s", verb[v]
    print ""
    for (s = 1; s <= states; s++) {
        printf "%-11s", state[s]
        for (v = 1; v <= verbs; v++) {
            what = answer[state[s], verb[v]]
            if (what == "") problem[++problems] = "nobody tried " verb[v] " in " state[s]
            printf " %9s", what == "" ? "MISSING" : (what == "accepted" ? "+" : "-") " " count(kinds[state[s], verb[v]])
        }
        print ""
    }
    printf "\n+ accepted, - refused, by so many kinds of jobs; %d cells, %d answers\n", states * verbs, tried
    for (s = 1; s <= states; s++) printf "  %-11s %s: %s\n", state[s], tests[state[s]], of_state[state[s]]
    print "\ntransitions"
    state[0] = "undefined" # before its birth, when nobody can ask it for anything
    for (f = 0; f <= states; f++) {
        for (t = 0; t <= states; t++) {
            from = state[f]; to = state[t]
            if ((from, to) in steps) {
                printf "  %-9s -> %-9s %5d times: %s\n", from, to, steps[from, to], step_kinds[from, to]
                printf "  %26s%s\n", "", step_tests[from, to]
            }
            if (((from, to) in steps) == ((from, to) in illegal)) {
                problem[++problems] = from " to " to ((from, to) in steps ? " is legal and illegal" : " was not reached")
            }
        }
    }
    printf "\n%d transitions are taken, the other %d are assertions: /job/matrix/illegal\n", legal, illegals
    for (i = 1; i <= problems; i++) print "  " problem[i]
    exit problems > 0
}' "$told"
