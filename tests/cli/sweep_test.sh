# Protects sweeps: the same output whatever the number of processes, shards that add up, nothing left behind.
. tests/cli/lib.sh

blksim run --seeds 1..60 --json -j1
exits "/cli/sweep/one-process" 0
cp out one.json
holds "/cli/sweep/seed-order" sh -c 'sed -nE "s/^.\"seed\": *([0-9]+),.*/\1/p" one.json | cmp - - && \
    [ "$(sed -nE "s/^.\"seed\": *([0-9]+),.*/\1/p" one.json | tr "\n" " ")" = "$(seq 1 60 | tr "\n" " ")" ]'
for jobs in 2 3; do
    blksim run --seeds 1..60 --json -j$jobs
    holds "/cli/sweep/processes/$jobs" cmp out one.json
done
blksim run --seeds 1..60 --json -j2 --checks none
sed -E 's/.*"trace_hash": *"([0-9a-f]+)".*/\1/' out > hashes.none
sed -E 's/.*"trace_hash": *"([0-9a-f]+)".*/\1/' one.json > hashes.all
holds "/cli/sweep/checks-do-not-change-the-world" cmp hashes.none hashes.all
for fill in 0 165; do
    blksim run --seeds 1..60 --json -j2 --heap-fill $fill
    holds "/cli/sweep/heap-fill/$fill" cmp out one.json
done

: > shards.json
for shard in 1 2 3; do
    blksim run --seeds 1..60 --json --shard $shard/3
    exits "/cli/sweep/shard/$shard" 0
    cat out >> shards.json
done
sort one.json > one.sorted
sort shards.json > shards.sorted
holds "/cli/sweep/shards-add-up" cmp one.sorted shards.sorted

blksim run --seeds 1..60 --stats
says "/cli/sweep/summary" 0 out '^60 seeds run in .*: 0 failed; .* marks reached$'
says "/cli/sweep/stats" 0 out '^runs +60 '
says "/cli/sweep/stats/bitmaps" 0 out '^bitmaps +[1-9][0-9]* +made, .* frozen \([1-9]'
says "/cli/sweep/stats/transactions" 0 out '^transact\. +[1-9][0-9]* +of actions, [1-9].*; at action 1: [1-9]'
holds "/cli/sweep/passing-leaves-nothing" test ! -e build/failures
blksim run --seed 18446744073709551614 --json
says "/cli/sweep/largest-seed" 0 out '^\{"seed": *18446744073709551614,'

# What fails is stored, named by signature and seed, and the stored file fails in the same way.
blksim run --seeds 1..3 --limit 1ns --max-failures 1
if [ "$status" = 1 ]; then
    ok "/cli/sweep/failure/status"
    stored=$(sed -nE 's/^  again  .* run (build\/failures\/.*\.blk)$/\1/p' out | head -n 1)
    holds "/cli/sweep/failure/stored" test -s "$stored"
    holds "/cli/sweep/failure/one-only" test "$(ls build/failures | wc -l)" = 1
else
    not_ok "/cli/sweep/failure/status" "exit status $status, expected 1"
fi
finish
