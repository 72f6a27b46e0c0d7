# Protects the pages of docs/: every example in them runs, and they name what there is.
#
# An example is a block of indented lines. The first block of a page that begins with "blksim 1" stands before all its
# others; a block that begins so itself stands alone. Blocks of shell commands begin with "$ ".
. tests/cli/lib.sh

# PAGE: writes the blocks to N.block, and a line "N SECTION" for each.
blocks() {
    awk '
    /^#/ { section = $0; sub(/^#+ */, "", section) }
    /^    / { if (!open) { open = 1; n++; print n, section }
              print substr($0, 5) > (n ".block"); next }
    /^$/ { if (open) { blank = 1 }; open = 0; next }
    { open = 0 }' "$1"
}

truncate -s 1M image.raw
for page in "$top"/README.md "$top"/docs/*.md; do
    name=$(basename "$page" .md)
    rm -f ./*.block before
    blocks "$page" > sections
    while read -r n section; do
        case $(head -n 1 "$n.block") in
        '$ '* | build/* | make* | fail\ * | '#    '*) continue ;; # for a shell, or what it printed
        'blksim 1')
            [ -e before ] || cp "$n.block" before
            cp "$n.block" example.blk
            ;;
        *)
            [ -e before ] || continue
            cat before "$n.block" > example.blk
            ;;
        esac
        blksim run example.blk
        case "$section $status" in
        *detect-only*1) status=0 ;; # a checker may see it
        esac
        exits "/cli/docs/$name/$section/$n" 0
    done < sections
done

# Commands of docs/img.md run in order; "# exit N" says another status than 0.
blocks "$top/docs/img.md" > sections
mkdir shell
while read -r n section; do
    while IFS= read -r line; do
        case $line in *'# exit '*) want=${line##*# exit } ;; *) want=0 ;; esac
        status=0
        (cd shell && blksim() { "$BLKSIM" "$@"; } && eval "${line#$ }") > out 2> err || status=$?
        exits "/cli/docs/img/$section/${line#$ }" "$want"
    done < "$n.block"
done < sections

# The walk-through of README.md is real output. When this fails, renew it: make readme
sed -n '/^<!-- failing-seed: begin/,/^<!-- failing-seed: end/p' "$top/README.md" > story
sed -n '/^    \$ cat small.blk$/,/^$/s/^    \([^$]\)/\1/p' story > small.blk
holds "/cli/docs/README/walk-through" grep -q '^blksim 1$' small.blk
blksim run small.blk
exits "/cli/docs/README/walk-through/passes-without-the-bug" 0
holds "/cli/docs/README/walk-through/mutant" test -f "$top/tests/mutants/$(sed -n 's/.*make mutants M=\([a-z-]*\).*/\1/p' story | tail -n 1).patch"

# What is left out for now is said, by the words of the tables of facts.
cut -f4 "$top"/tests/facts/*.tsv | grep -vE '^(waits for|scope: .*)?$' | sed 's/, /\n/g' | LC_ALL=C sort -u > waits
while read -r part; do
    grep -qE "^- \*\*[^*]*\<$part\>" "$top/docs/scope.md" || echo "not in docs/scope.md: $part"
done < waits > out
holds "/cli/docs/scope/what-waits" test ! -s out

# What is there has a section, and every option its name in it.
sections_are() { # PAGE REGISTRY
    "$BLKSIM" list "$2" | cut -d' ' -f1 | LC_ALL=C sort > known
    while read -r thing; do
        grep -qE "^## $thing( \(detect-only\))?\$" "$top/docs/$1.md" || echo "no section: $thing"
    done < known > out
    holds "/cli/docs/$1/sections" test ! -s out
}
sections_are faults faults
sections_are drivers drivers
"$BLKSIM" list drivers | cut -d' ' -f1 > known
for driver in $(cat known); do
    [ "$driver" != blkdebug ] || continue # has a page
    "$BLKSIM" explain "$driver" | sed -n '/^options:$/,/^$/s/^  \([a-z][a-z-]*\) .*/\1/p' > options
    sed -n "/^## $driver\$/,/^## /p" "$top/docs/drivers.md" > section
    while read -r option; do
        grep -qE "^- \`$option\`:" section || echo "no option: $option"
    done < options > out
    holds "/cli/docs/drivers/$driver/options" test ! -s out
done
finish
