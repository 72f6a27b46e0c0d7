# Protects the exit statuses and messages of wrong usage: 2, a reason, nothing done.
. tests/cli/lib.sh

blksim
says "/cli/usage/nothing" 2 err '^usage: blksim COMMAND'
blksim --help
says "/cli/usage/help" 0 out '^usage: blksim COMMAND'
blksim --version
says "/cli/usage/version-names-revision-and-compiler" 0 out '^blksim [^ ?]+, (gcc|clang) [0-9.]+'
blksim frobnicate
says "/cli/usage/no-such-command" 2 err "no command 'frobnicate'"
for command in run gen decode encode shrink cut diff list explain; do
    blksim $command --help
    says "/cli/usage/help/$command" 0 out "^usage: blksim $command "
    blksim $command --no-such-option
    says "/cli/usage/option/$command" 2 err "$command: there is no option '--no-such-option'"
done

blksim run
says "/cli/usage/run/nothing" 2 err 'nothing to run'
blksim run --seed
says "/cli/usage/run/missing-operand" 2 err "option '--seed' needs N"
for seeds in x 5..1 1..x 1.. ..5 -3 99999999999999999999 ''; do
    blksim run --seeds "$seeds"
    says "/cli/usage/run/seeds/'$seeds'" 2 err 'no seed range|no valid value'
done
blksim run --seed 1 -j 0
says "/cli/usage/run/no-workers" 2 err "'-j' expects 1 to 64"
blksim run --seed 1 -j x
says "/cli/usage/run/bad-number" 2 err "'x' is no valid value of option '-j'"
blksim run --seeds 1..4 --shard 3/2
says "/cli/usage/run/bad-shard" 2 err "'--shard', expected I/N"
blksim run --seed 1 --profile nonesuch
says "/cli/usage/run/no-such-profile" 2 err "no profile 'nonesuch'"
good good.blk
blksim run good.blk --checks nonesuch
says "/cli/usage/run/no-such-checker" 2 err "no checker 'nonesuch'"
blksim run --seeds 1..50 --checks nonesuch
holds "/cli/usage/run/no-such-checker/said-once" test "$(wc -l < err)" = 1
blksim run --seeds 1..50 --profile mirror:nonesuch=1
holds "/cli/usage/run/no-such-feature/said-once" test "$(wc -l < err)" = 1
blksim run good.blk --seed 1
says "/cli/usage/run/files-and-seeds" 2 err 'either files or seeds'
blksim run --seeds 1..2 --log full
says "/cli/usage/run/log-of-many" 2 err 'exactly one scenario'
blksim run good.blk --timeline no/such/folder/t.json
says "/cli/usage/run/timeline-cannot-be-written" 2 err 'cannot write'
blksim gen
says "/cli/usage/gen/no-seed" 2 err 'expected --seed N'
blksim shrink
says "/cli/usage/shrink/nothing" 2 err 'expected one file or --seed N'
blksim shrink good.blk
says "/cli/usage/shrink/passes" 2 err 'nothing to keep'
blksim diff good.blk
says "/cli/usage/diff/one-file" 2 err 'expected two files'
blksim list nonesuch
says "/cli/usage/list/no-such-registry" 2 err 'expected one of'
blksim explain nonesuch
says "/cli/usage/explain/no-such-name" 2 err "nothing of the name 'nonesuch'"
blksim explain mirorr
says "/cli/usage/explain/misspelt" 2 err "did you mean 'mirror'"
"$BLKSIM" list drivers | cut -d' ' -f1 > drivers
for driver in $(cat drivers); do
    blksim explain "$driver"
    says "/cli/explain/driver/$driver/options" 0 out '^options:$'
done
blksim explain throttle
says "/cli/explain/driver/required" 0 out '^  throttle-group .*\(required\)'
says "/cli/explain/driver/changeable" 0 out '^  throttle-group .*blockdev-reopen can change it'
blksim explain blockdev-mirror
says "/cli/explain/command/words" 0 out '^ +one of top full none incremental bitmap$'
blksim explain settle
says "/cli/explain/command/no-arguments" 0 out '^no arguments$'
blksim explain blkdebug
says "/cli/explain/driver/entries-of-lists" 0 out '^  inject-error\.N\.errno '

for registry in checks faults drivers profiles marks commands actions events choices; do
    blksim list $registry
    says "/cli/list/$registry" 0 out '^[A-Za-z0-9_. -]+ +[A-Za-z0-9]'
    cut -d' ' -f1 out | head -n 3 > names
    for name in $(cat names); do
        blksim explain "$name"
        says "/cli/explain/$name" 0 out "^$name \("
    done
done
finish
