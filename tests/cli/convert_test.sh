# Protects the conversions: seed to text, text to bytes and back, and that each of them runs to the same hash.
. tests/cli/lib.sh

hash_of() { sed -nE 's/.*"trace_hash": *"([0-9a-f]{16})".*/\1/p' out; }

for seed in 1 2 3; do
    blksim gen --seed $seed
    exits "/cli/gen/$seed" 0
    cp out $seed.blk
    blksim gen --seed $seed
    holds "/cli/gen/$seed/again" cmp out $seed.blk

    blksim run --seed $seed --json
    exits "/cli/run/seed/$seed" 0
    by_seed=$(hash_of)
    blksim run $seed.blk --json
    exits "/cli/run/gen/$seed" 0
    holds "/cli/run/gen/$seed/same-hash" test "$by_seed" = "$(hash_of)"
    "$BLKSIM" gen --seed $seed | "$BLKSIM" run - --json > out 2> err
    status=$?
    exits "/cli/run/stdin/$seed" 0
    holds "/cli/run/stdin/$seed/same-hash" test "$by_seed" = "$(hash_of)"

    blksim encode $seed.blk
    exits "/cli/encode/$seed" 0
    cp out $seed.bin
    blksim decode $seed.bin
    exits "/cli/decode/$seed" 0
    holds "/cli/decode/$seed/same-text" cmp out $seed.blk
    "$BLKSIM" decode - < $seed.bin > out 2> err
    holds "/cli/decode/stdin/$seed" cmp out $seed.blk
done

# Any bytes decode to a scenario that runs; whether it passes is for the fuzzer to ask.
: > nothing.bin
head -c 300 "$top/LICENSE" > text.bin
awk 'BEGIN { for (i = 0; i < 700; i++) { x = (x * 75 + 74) % 65537; printf "%c", x % 128 } }' > mixed.bin
head -c 4096 /dev/zero > zeroes.bin
head -c 4096 /dev/zero | tr '\0' '\377' > ones.bin
for bytes in nothing text mixed zeroes ones; do
    blksim decode $bytes.bin
    exits "/cli/decode/any/$bytes" 0
    cp out $bytes.blk
    blksim run --no-files $bytes.blk
    [ "$status" != 1 ] || status=0
    exits "/cli/decode/any/$bytes/runs" 0
done
blksim decode nowhere.bin
says "/cli/decode/missing-file" 2 err 'nowhere\.bin'
blksim encode nowhere.blk
says "/cli/encode/missing-file" 2 err 'nowhere\.blk'
finish
