#!/bin/bash
# Writes README.md's walk-through of a failing seed anew, with what is printed now.
#   tools/readme.sh                   README.md, between its failing-seed markers
# Runs the mutant of the story (build, sweep, shrink), then the commands that the text shows, and puts their output in.
# The prose around it is here. Exit status 1, README.md as it was: the story is another one by now (the checker that fires,
# or what its message says); then this text has to change too.
set -eu
cd "$(dirname "$0")/.."
mutant=mirror-ignore-leaves-clean
dir=build/mutants/$mutant
page=README.md
blksim=build/blksim

die() { echo "readme: $*" >&2; exit 1; }
indent() { sed 's/^/    /'; }

tools/mutants.sh $mutant > build/readme.log 2>&1 || { tail -n 5 build/readme.log >&2; die "the mutant is not found"; }
found=$(grep -A 3 -E '^fail ' $dir.sweep | head -n 4)
seed=$(printf '%s\n' "$found" | sed -nE 's/^fail .*\(seed ([0-9]+)\)$/\1/p')
[ -n "$seed" ] || die "no seed fails"
printf '%s\n' "$found" | grep -q '^fail target-at-pivot  target-at-pivot\.clean-but-different\.' ||
    die "seed $seed fails in another way: $(printf '%s\n' "$found" | head -n 1)"
profile=$(sed -nE '/^diff/q; s/^profile: *([a-z:=,0-9-]+) *$/ --profile \1/p' tests/mutants/$mutant.patch)

cd $dir
shrunk=$($blksim shrink --seed "$seed" $profile -o small.blk 2>&1)
$blksim run small.blk --log short > short.log || true
grep ' x target-at-pivot' short.log > violation || die "small.blk does not fail"
before=$(printf '%s\n' "$shrunk" | sed -nE 's/^.*: ([0-9]+) steps to [0-9]+$/\1/p')
[ -n "$before" ] || die "shrink said: $shrunk"
written=$(sed -nE 's/.* submitted at event ([0-9]+) .*/\1/p' violation | head -n 1)
[ -n "$written" ] || die "the violation names no write: $(cat violation)"
$blksim diff small.blk --exec ../../blksim > diff.log || true
first=$(sed -nE 's/^event ([0-9]+) differs$/\1/p' diff.log)
[ -n "$first" ] || die "the two builds do not differ"
grep -q 'on-target-error=ignore\|on-source-error=ignore' small.blk || die "the mirror of small.blk ignores no errors"
# Disks, nodes and guests are plain; the log is told from the first step after them.
skip=$(grep -nE '^#.* > ([^ ]+: )?(disk|blockdev-add|guest) ' short.log | tail -n 1 | cut -d: -f1)

{
    cat <<END_TEXT
<!-- failing-seed: begin; real output, renew it with \`make readme\` -->
\`tests/mutants/\` holds patches that put known bugs back. One of them makes a mirror forget to mark an area dirty again when
copying it failed and the error policy is to ignore that. \`make mutants M=$mutant\` builds it and runs
seeds until a checker fires:

END_TEXT
    printf '%s\n' "$found" | indent
    cat <<END_TEXT

First the checker and the failure's signature, which has no names and no numbers, so that the same bug looks the same under
other seeds. Then when it was seen, what was expected and what was there: each sector that a guest writes carries a stamp,
so the message can say whose data is missing. Then the build, and a command to paste: the scenario was stored, and fails in
the same way every time. It has $before steps; \`shrink\` keeps what the signature needs, in less than a second:

    \$ cd $dir
    \$ build/blksim shrink --seed $seed$profile -o small.blk
END_TEXT
    printf '%s\n' "$shrunk" | tail -n 1 | indent
    echo '    $ cat small.blk'
    indent < small.blk
    cat <<END_TEXT

A guest writes, a mirror with the policy \`ignore\` runs, and its target fails. A step keeps its number as a label (\`7:\`) where what is drawn depends on it.
The short log tells the story (\`>\` steps, \`*\` QMP events, \`!\` faults, \`<\` refusals, \`x\` violations):

    \$ build/blksim run small.blk --log short                   # after disks, nodes and guest
END_TEXT
    sed "1,${skip:-0}d" short.log | grep '^#' | sed '/ x target-at-pivot/q' | indent
    cat <<END_TEXT

Errors were ignored, and what could not be copied counts as copied. \`--log full\` has every event, event $written among them:

END_TEXT
    $blksim run small.blk --log full 2>&1 | grep -E "^# +$written " | indent
    cat <<END_TEXT

A build without the bug does not forget, and \`diff\` names the first event at which the two part:

    \$ build/blksim diff small.blk --exec ../../blksim
END_TEXT
    sed -nE '/^event [0-9]+ differs$/{p;s/.*/  ...                                                      # the three events before/p}; /^[-+] /p' \
        diff.log | indent
    cat <<END_TEXT

\`gdb --args build/blksim run small.blk --break $first\` stops there, \`--timeline t.json\` draws it, \`blksim explain target-at-pivot\` says
what the checker promises. Once it is fixed, the file goes to \`corpus/regress/\`, and \`make test\` runs it from then on.
<!-- failing-seed: end -->
END_TEXT
} > story
cd "$OLDPWD"
[ "$(grep -c '^<!-- failing-seed: ' $page)" = 2 ] || die "$page has no two failing-seed markers"
awk -v story=$dir/story '
    /^<!-- failing-seed: begin/ { while ((getline line < story) > 0) print line; inside = 1 }
    !inside { print }
    /^<!-- failing-seed: end/ { inside = 0 }' $page > $dir/page
cat $dir/page > $page
echo "readme: seed $seed, $before steps shrunk; read the text once more: git diff $page"
