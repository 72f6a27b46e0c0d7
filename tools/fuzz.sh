#!/bin/sh
# Fuzzes one target for a while, from what is stored in corpus/fuzz/TARGET and, for scenarios, those of seeds.
#   tools/fuzz.sh TARGET SECONDS
# New inputs are kept in build/fuzz/TARGET.corpus, failures in build/fuzz/TARGET.failures.
set -eu
cd "$(dirname "$0")/.."
target=$1
seconds=$2
blksim=build/blksim
corpus=build/fuzz/$target.corpus
failures=build/fuzz/$target.failures
mkdir -p "$corpus" "$failures"
if [ "$target" = scenario ] && [ -z "$(ls -A "$corpus")" ]; then
    i=1
    while [ $i -le "${FUZZ_SEEDS:-100}" ]; do
        "$blksim" gen --seed $i > "$corpus/seed.blk"
        "$blksim" encode "$corpus/seed.blk" > "$corpus/seed-$i"
        i=$((i + 1))
    done
    rm -f "$corpus/seed.blk"
    for file in corpus/scenarios/*.blk; do
        [ -f "$file" ] || continue
        "$blksim" encode "$file" > "$corpus/$(basename "$file" .blk)" || rm -f "$corpus/$(basename "$file" .blk)"
    done
fi
extra=
[ -d "corpus/fuzz/$target" ] && extra="corpus/fuzz/$target"
dict=
[ -f "fuzz/$target.dict" ] && dict="-dict=fuzz/$target.dict"
# An image may cost 128 MiB and 2 s; what sanitizers, corpus and a busy machine add is about as much again, tenfold.
case $target in
image) limits="-timeout=20 -rss_limit_mb=1024 -malloc_limit_mb=128 -entropic=0" ;;
*) limits="-timeout=20 -rss_limit_mb=2048" ;;
esac
status=0
"build/fuzz/$target" -max_total_time="$seconds" -max_len=65536 $limits -print_final_stats=1 \
    -artifact_prefix="$failures/" $dict "$corpus" $extra 2> "build/fuzz/$target.log" || status=$?
grep -E '^stat::|Done|^#[0-9]+.*DONE' "build/fuzz/$target.log" || true
if [ $status != 0 ]; then
    awk '/^(fail|hang|crash|error) / || /ERROR:|runtime error:|assertion failed/ { on = 1 } on' "build/fuzz/$target.log" |
        head -n 80
    echo "again: build/fuzz/$target-replay $failures/$(ls -t "$failures" | head -n 1)"
fi
exit $status
