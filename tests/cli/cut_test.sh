# Protects `blksim cut`: power fails at every write of a scenario, what was flushed is still there, and a failing cut
# is a scenario that can be run.
. tests/cli/lib.sh

good good.blk
blksim cut good.blk -j2
says "/cli/cut/good" 0 out '^1 workloads, [1-9][0-9]* writes: ([1-9][0-9]*) cuts [(]positions of a write[)], [1-9][0-9]* runs'
says "/cli/cut/good/no-failure" 0 out '^0 failed; power lost in [1-9]'
blksim cut good.blk --json --max-cuts 4
says "/cli/cut/json" 0 out '"cuts":4,"runs":12,"power_lost":12,"failed":0'
blksim cut --seeds 1..3 --profile mirror --max-cuts 10 --json
cp out first.json
blksim cut --seeds 1..3 --profile mirror --max-cuts 10 --json -j3
holds "/cli/cut/processes" cmp first.json out

# Whoever expects the second write before its flush is wrong at the earlier cuts.
cat > lost.blk <<'END'
blksim 1
disk a size=1M
blockdev-add driver=raw node-name=s file.driver=disk file.disk=a
guest g node=s
fault power-cut
io g write -P 0x11 0 4k
io g flush
io g write -P 0x22 0 4k
io g write -P 0x33 64k 4k
io g flush
powerloss all
blockdev-add driver=raw node-name=s file.driver=disk file.disk=a
guest g node=s
try io g read 0 4k
END
sed 's/^try io g read.*/io g read -P 0x22 0 4k/' lost.blk > expects.blk
blksim cut lost.blk
exits "/cli/cut/nothing-promised" 0
blksim cut expects.blk --max-failures 0
says "/cli/cut/finds" 1 out '^fail expect  expect\.pattern'
line=$(sed -n 's/^  again  [^ ]* run //p' out | head -n 1)
holds "/cli/cut/finds/stored" grep -q 'fault power-cut after-write=1' "$line"
blksim run "$line"
says "/cli/cut/finds/again" 1 out 'expect\.pattern'
blksim shrink "$line" -o small.blk
exits "/cli/cut/finds/shrinks" 0

blksim cut
exits "/cli/cut/nothing" 2
blksim cut --seeds 3..1
exits "/cli/cut/bad-seeds" 2
blksim cut nowhere.blk
exits "/cli/cut/no-file" 2
finish
