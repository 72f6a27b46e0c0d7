#!/bin/bash
# The same scenario gives the same trace hash whatever compiled it and however it runs (DESIGN 2.2).
#   SEEDS=N tools/determinism.sh      seeds 1..200 unless told otherwise
#   WAYS="gcc-O0 clang-O3" ...        only these builds
# Prints one row a build or way of running: a digest over the hashes of all seeds, and how many seeds differ.
set -u
cd "$(dirname "$0")/.."
seeds=${SEEDS:-200}
jobs=$(nproc 2>/dev/null || echo 1)
dir=build/determinism
ref=build/blksim
bad=0
mkdir -p "$dir"
export UBSAN_OPTIONS=print_stacktrace=1

SAN="-fsanitize=address,undefined -fno-sanitize-recover=all"
# name|compiler|optimisation|extra
builds="gcc-O0|gcc|-O0|
gcc-O3|gcc|-O3|
gcc-san|gcc|-O1|$SAN
gcc-init-zero|gcc|-O2|-ftrivial-auto-var-init=zero
gcc-init-pattern|gcc|-O2|-ftrivial-auto-var-init=pattern
gcc-sigjmp|gcc|-O2|-DSIM_CO_SIGJMP
clang-O0|clang|-O0|
clang-O3|clang|-O3|
clang-san|clang|-O1|$SAN
clang-init-zero|clang|-O2|-ftrivial-auto-var-init=zero -enable-trivial-auto-var-init-zero-knowing-it-will-be-removed-from-clang
clang-init-pattern|clang|-O2|-ftrivial-auto-var-init=pattern"

# "seed verdict hash" of each line of run --json. Keys come in a fixed order, so text tools will do.
hashes() { sed -nE 's/^\{"seed": *([0-9]+),.*"verdict": *"([a-z]+)", *"trace_hash": *"([0-9a-f]{16})".*/\1 \2 \3/p'; }

row() { # NAME FILE SECONDS
    local n differ digest
    n=$(wc -l < "$2")
    differ=$(diff "$dir/reference.txt" "$2" | grep -c '^<')
    digest=$(sha256sum < "$2" | cut -c1-16)
    printf '%-22s %5d  %s  %6d  %5ss  %s\n' "$1" "$n" "$digest" "$differ" "$3" \
        "$([ "$n" = "$want" ] && [ "$differ" = 0 ] && echo same || echo DIFFERS)"
    if [ "$n" != "$want" ] || [ "$differ" != 0 ]; then
        bad=$((bad + 1))
        diff "$dir/reference.txt" "$2" | sed -n '1,5s/^/    /p'
    fi
}

# Runs a build over the seeds with further options: collect NAME PROGRAM OPTIONS...
collect() {
    local name=$1 program=$2
    shift 2
    "$program" run --seeds "1..$seeds" --json --max-failures 0 "$@" 2> "$dir/$name.err" | hashes > "$dir/$name.txt"
}
sweep() {
    local start=$SECONDS
    collect "$@"
    row "$1" "$dir/$1.txt" $((SECONDS - start))
}

collect reference "$ref" -j1
want=$seeds
if [ "$(wc -l < "$dir/reference.txt")" != "$seeds" ]; then
    echo "determinism: the reference run gave $(wc -l < "$dir/reference.txt") hashes for $seeds seeds" >&2
    tail -n 5 "$dir/reference.err" >&2
    exit 3
fi
printf '%-22s %5s  %-16s  %6s  %6s\n' "build or way of running" seeds digest differ time
row "reference (-O2, -j1)" "$dir/reference.txt" 0

sweep "two-processes" "$ref" -j2
# A violation ends a run early, so only seeds that pass can be compared with a run that looks at nothing.
collect "checks-none" "$ref" --checks none
grep ' pass ' "$dir/reference.txt" | cut -d' ' -f1 > "$dir/passing.txt"
awk 'NR == FNR { passing[$1] = 1; next } { print ($1 in passing) ? $0 : "-" }' "$dir/passing.txt" "$dir/checks-none.txt" |
    paste -d'|' - "$dir/reference.txt" | awk -F'|' '{ print $1 == "-" ? $2 : $1 }' > "$dir/checks-none-passing.txt"
row "checks-none" "$dir/checks-none-passing.txt" 0
sweep "heap-fill-00" "$ref" --heap-fill 0
MALLOC_PERTURB_=165 sweep "heap-fill-a5" "$ref" --heap-fill 165

# Twice in one process: every scenario as a file, the whole list two times.
start=$SECONDS
mkdir -p "$dir/blk"
files=
for ((i = 1; i <= seeds; i++)); do
    "$ref" gen --seed $i > "$dir/blk/$i.blk"
    files="$files $dir/blk/$i.blk"
done
"$ref" run --json --max-failures 0 -j1 $files $files 2> "$dir/twice.err" | hashes > "$dir/twice.all"
head -n "$seeds" "$dir/twice.all" | cut -d' ' -f2- > "$dir/first.txt"
tail -n "+$((seeds + 1))" "$dir/twice.all" | cut -d' ' -f2- > "$dir/second.txt"
# By files the scenario's own seed is in the record already; number the lines to compare with the reference.
paste -d' ' <(cut -d' ' -f1 "$dir/reference.txt") "$dir/first.txt" > "$dir/first-numbered.txt"
paste -d' ' <(cut -d' ' -f1 "$dir/reference.txt") "$dir/second.txt" > "$dir/second-numbered.txt"
row "as files, first time" "$dir/first-numbered.txt" $((SECONDS - start))
row "as files, second time" "$dir/second-numbered.txt" 0

while IFS='|' read -r name compiler opt extra; do
    case " ${WAYS:-$name} " in *" $name "*) ;; *) continue ;; esac
    if ! command -v "$compiler" > /dev/null; then
        printf '%-22s left out: %s is not installed (make deps-dev)\n' "$name" "$compiler"
        continue
    fi
    if ! ${MAKE:-make} --no-print-directory -j"$jobs" BUILD="$dir/$name" CC="$compiler" OPT="$opt" EXTRA="$extra" \
        "$dir/$name/blksim" > "$dir/$name.build" 2>&1 < /dev/null; then
        printf '%-22s does not build, see %s\n' "$name" "$dir/$name.build"
        bad=$((bad + 1))
        continue
    fi
    sweep "$name" "$dir/$name/blksim" -j"$jobs" < /dev/null
done <<END
$builds
END

if [ $bad = 0 ]; then
    echo "verdict: one hash a seed, everywhere"
else
    echo "verdict: $bad rows DIFFER; find the first event with: build/blksim diff FILE --exec OTHER_BLKSIM"
fi
[ $bad = 0 ]
