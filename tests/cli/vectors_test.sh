# Protects counts and hashes of dirty bitmaps: those recorded from QEMU come out of scenarios with the same operations.
. tests/cli/lib.sh
rows=$top/tests/vectors/bitmap-sha256.tsv

# A guest asks for whole sectors, so ranges are widened to them; no bit is finer than a sector.
scenario() { # FILE: one line of the table on stdin
    awk -F '\t' '
    function range(op) {
        first = int(word[2] / 512) * 512
        last = int((word[2] + word[3] + 511) / 512) * 512
        printf "io g %s %.0f %.0f\n", op, first, last - first
    }
    function add(name, granularity) {
        print "block-dirty-bitmap-add node=n name=" name " granularity=" granularity
    }
    function named(command, name) { print command " node=n name=" name }
    {
        print "blksim 1\n# " $1 ": " $4
        print "disk d size=" $2
        print "blockdev-add driver=disk node-name=n disk=d discard=unmap"
        print "guest g node=n"
        add("b", $3)
        count = split($4, op, "; *")
        for (i = 1; i <= count; i++) {
            split(op[i], word, " ")
            if (word[1] == "W") range("write -P 0x11")
            else if (word[1] == "Z") range("write -z -u")
            else if (word[1] == "D") range("discard")
            else if (word[1] == "C") named("block-dirty-bitmap-clear", "b")
            else if (word[1] == "X") named("block-dirty-bitmap-disable", "b")
            else if (word[1] == "E") named("block-dirty-bitmap-enable", "b")
            else if (word[1] == "R") print "block_resize node-name=n size=" word[2]
            else if (word[1] == "S") add("s", word[2])
            else if (word[1] == "M") print "block-dirty-bitmap-merge node=n target=b bitmaps=[\"s\"]"
            else if (word[1] == "Q") named("block-dirty-bitmap-remove", "s")
            else print "no such operation: " op[i]
        }
        named("x-debug-block-dirty-bitmap-sha256", "b")
        print "expect bitmap n b granularity=" $3 " count=" $5 " sha256=" $6
    }' > "$1"
}

grep -v '^#' "$rows" > table
holds "/cli/vectors/bitmap/forty" test "$(wc -l < table)" = 40
# fact: bitmaps 1.7/vectors
while IFS= read -r row; do
    id=$(printf %s "$row" | cut -f 1)
    printf '%s\n' "$row" | scenario "$id.blk"
    blksim run "$id.blk"
    exits "/cli/vectors/bitmap/$id" 0
done < table

# It can fail: one wrong digit, of the hash and of the count.
sed -n '6{s/.$/0/; p;}' table | scenario hash.blk
blksim run hash.blk
says "/cli/vectors/bitmap/hash-can-fail" 1 out 'sha256 is "7c9fa136d4413fa6'
sed -n '6{s/\t65536\t7/\t65537\t7/; p;}' table | scenario count.blk
blksim run count.blk
says "/cli/vectors/bitmap/count-can-fail" 1 out 'count is 65536'
finish
