# Protects blksim img: what each verb prints, its exit status, and that a refusal leaves files alone.
. tests/cli/lib.sh
vectors=$top/tests/vectors/qcow2

# --- usage ----------------------------------------------------------------------------------------------------------
blksim img
says "/cli/img/nothing" 2 err '^usage: blksim img VERB'
blksim img --help
says "/cli/img/help" 0 out '^  convert '
blksim img frobnicate
says "/cli/img/no-such-verb" 2 err "no verb 'frobnicate'"
for verb in create info map convert bitmap snapshot resize; do
    blksim img $verb --help
    says "/cli/img/help/$verb" 0 out "^usage: blksim img $verb "
    blksim img $verb --no-such-option
    says "/cli/img/option/$verb" 2 err "img $verb: there is no option"
    blksim img $verb
    says "/cli/img/no-file/$verb" 2 err "img $verb: (Expecting|Must specify)"
done
blksim img check --no-such-option
says "/cli/img/option/check" 1 err "there is no option"

# --- create ---------------------------------------------------------------------------------------------------------
# fact: qcow2 5.9/defaults, 5.9/layout
blksim img create -f qcow2 a.qcow2 64M
says "/cli/img/create/announced" 0 out "^Formatting 'a.qcow2', fmt=qcow2 size=67108864"
# fact: qcow2 5.9/layout
holds "/cli/img/create/as-the-original-byte-for-byte" cmp a.qcow2 "$vectors/v3-empty-64k.qcow2"
cp a.qcow2 kept
for wrong in "-o cluster_size=3k" "-o cluster_size=4M" "-o refcount_bits=3" "-o frob=1" "-o lazy_refcounts=maybe" \
             "-o compat=0.10,lazy_refcounts=on" "-o extended_l2=on,cluster_size=4k" "-o compression_type=lz4" \
             "-o preallocation=some" "-o data_file_raw=on" "-f vmdk"; do
    # shellcheck disable=SC2086
    blksim img create -f qcow2 $wrong a.qcow2 64M
    says "/cli/img/create/refused/$wrong" 2 err 'img create: '
done
blksim img create -f qcow2 a.qcow2 64Q
says "/cli/img/create/bad-size" 2 err "Invalid image size specified: '64Q'"
blksim img create -f qcow2 a.qcow2
says "/cli/img/create/no-size" 2 err "needs a size"
# fact: qcow2 5.9/backing-format
blksim img create -f qcow2 -b kept a.qcow2
says "/cli/img/create/no-backing-format" 2 err "without a format"
blksim img create -f qcow2 -b nowhere -F raw a.qcow2
says "/cli/img/create/no-backing-file" 2 err "nowhere.*No such file"
# fact: qcow2 5.9/max-size
blksim img create -f qcow2 -o cluster_size=512 a.qcow2 129G
says "/cli/img/create/too-big" 2 err "[Tt]oo big|too large"
holds "/cli/img/create/refusals-touch-nothing" cmp a.qcow2 kept
blksim img create -f qcow2 -o help
says "/cli/img/create/options" 0 out '^  cluster_size '
blksim img create -q -f qcow2 -b a.qcow2 -F qcow2 top.qcow2
exits "/cli/img/create/size-of-the-backing-file" 0
blksim img info top.qcow2
says "/cli/img/info/backing-file" 0 out '^backing file: a.qcow2'
says "/cli/img/info/size" 0 out '^virtual size: 64 MiB \(67108864 bytes\)'
blksim img info --backing-chain top.qcow2
holds "/cli/img/info/chain" test "$(grep -c '^image: ' out)" = 2
blksim img info --output=json top.qcow2
says "/cli/img/info/json" 0 out '"backing-filename-format":"qcow2"'
blksim img info --output=xml top.qcow2
says "/cli/img/info/bad-output" 2 err '--output must be used with human or json'
blksim img info nowhere
says "/cli/img/info/no-file" 2 err "Could not open 'nowhere'"
printf 'QFI\373\0\0\0\11' > bad.qcow2
blksim img info bad.qcow2
says "/cli/img/info/bad-image" 2 err "Unsupported qcow2 version 9|not in qcow2 format|shorter"

# --- content: convert, compare, map ---------------------------------------------------------------------------------
head -c 300000 /dev/urandom > raw
truncate -s 1M raw
head -c 5000 /dev/urandom | dd of=raw bs=1 seek=800000 conv=notrunc 2> /dev/null
for options in cluster_size=4k compat=0.10 refcount_bits=1 extended_l2=on,cluster_size=16k cluster_size=512 \
               lazy_refcounts=on preallocation=metadata data_file=ext; do
    blksim img convert -f raw -O qcow2 -o $options raw b.qcow2
    exits "/cli/img/convert/$options" 0
    blksim img compare -s -f raw raw -F raw raw
    blksim img compare -f raw -F qcow2 raw b.qcow2
    says "/cli/img/compare/$options" 0 out '^Images are identical'
    blksim img convert -O raw b.qcow2 back
    holds "/cli/img/convert-back/$options" cmp raw back
    blksim img check b.qcow2
    says "/cli/img/check/$options" 0 out '^No errors were found'
done
for type in zlib zstd; do
    blksim img convert -c -p -f raw -O qcow2 -o compression_type=$type raw c.qcow2
    says "/cli/img/convert/progress/$type" 0 out '\(100.00/100%\)'
    blksim img compare raw c.qcow2
    says "/cli/img/convert/compressed/$type" 0 out '^Images are identical'
    blksim img check --output=json c.qcow2
    says "/cli/img/check/compressed/$type" 0 out '"compressed-clusters":[1-9]'
done
blksim img convert -c -O qcow2 -o preallocation=full raw d.qcow2
says "/cli/img/convert/compressed-and-preallocated" 2 err 'not supported at the same time'
blksim img convert raw raw
says "/cli/img/convert/onto-itself" 2 err 'the same file'
blksim img convert -n -O qcow2 raw top.qcow2
exits "/cli/img/convert/into-existing" 0
printf x | dd of=raw bs=1 seek=70000 conv=notrunc 2> /dev/null
blksim img compare raw b.qcow2
says "/cli/img/compare/different" 1 out '^Content mismatch at offset 70000!'
blksim img compare raw nowhere
exits "/cli/img/compare/error" 2
blksim img map --output=json b.qcow2
says "/cli/img/map/json" 0 out '^\[\{ "start": 0, "length": [0-9]+, "depth": 0, "present": true, "zero": false, "data": true'
blksim img map b.qcow2
says "/cli/img/map/human" 0 out '^Offset +Length +Mapped to +File'

# --- real images ------------------------------------------------------------------------------------------------------
# fact: qcow2 8/images
differ=
tab=$(printf '\t')
while IFS=$tab read -r kind name _ _ _ view exit_status corruptions leaks errors _; do
    [ "$kind" = image ] || continue
    cp "$vectors"/backing-base-4k.qcow2 .
    "$BLKSIM" img convert -O raw "$vectors/$name.qcow2" view > out 2>&1 || differ="$differ $name(convert)"
    [ "$(sha256sum < view | cut -d' ' -f1)" = "$view" ] || differ="$differ $name(view)"
    status=0
    "$BLKSIM" img check --output=json "$vectors/$name.qcow2" > out 2> err || status=$?
    [ $status = "$exit_status" ] || differ="$differ $name(check:$status)"
    grep -qE "\"check-errors\":$errors" out || differ="$differ $name(errors)"
    [ "$corruptions" = 0 ] || grep -q "\"corruptions\":$corruptions" out || differ="$differ $name(corruptions)"
    [ "$leaks" = 0 ] || grep -q "\"leaks\":$leaks" out || differ="$differ $name(leaks)"
done < "$vectors/images.tsv"
if [ -z "$differ" ]; then ok "/cli/img/vectors/content-and-check"; else not_ok "/cli/img/vectors/content-and-check" "$differ"; fi

# --- check ------------------------------------------------------------------------------------------------------------
# fact: qcow2 5.8/exit-codes, 5.8/repair-leaks
cp "$vectors/leaks-unaligned-4k.qcow2" leaky
blksim img check leaky
says "/cli/img/check/leaks" 3 out '^1 leaked clusters were found'
blksim img check -r leaks leaky
says "/cli/img/check/repair" 0 out '1 leaked clusters'
blksim img check leaky
says "/cli/img/check/repaired" 0 out '^No errors'
cp "$vectors/lazy-dirty-4k.qcow2" dirty
blksim img check dirty
says "/cli/img/check/corruptions" 2 out '^6 errors were found'
blksim img check -r all dirty
exits "/cli/img/check/repair-all" 0
blksim img check raw
exits "/cli/img/check/no-check-for-raw" 63
blksim img check nowhere
exits "/cli/img/check/could-not" 1
blksim img check -r some leaky
says "/cli/img/check/bad-repair" 1 err "expected 'leaks' or 'all'"

# --- bitmaps ------------------------------------------------------------------------------------------------------------
blksim img create -q -f qcow2 bm.qcow2 1M
blksim img bitmap --add -g 4k bm.qcow2 one
exits "/cli/img/bitmap/add" 0
blksim img bitmap --add bm.qcow2 one
says "/cli/img/bitmap/add-twice" 2 err 'Bitmap already exists: one'
blksim img bitmap --add --disable bm.qcow2 two
blksim img bitmap --merge one --clear bm.qcow2 two
exits "/cli/img/bitmap/merge-and-clear" 0
blksim img info bm.qcow2
says "/cli/img/bitmap/listed" 0 out 'name: two'
blksim img check bm.qcow2
says "/cli/img/bitmap/checked" 0 out '^No errors'
blksim img convert --bitmaps -O qcow2 bm.qcow2 bm2.qcow2
exits "/cli/img/bitmap/converted" 0
blksim img info --output=json bm2.qcow2
says "/cli/img/bitmap/converted-listed" 0 out '"name":"one","granularity":4096'
blksim img bitmap --remove bm.qcow2 one
exits "/cli/img/bitmap/remove" 0
blksim img bitmap --remove bm.qcow2 one
says "/cli/img/bitmap/remove-none" 2 err "Dirty bitmap 'one' not found"
blksim img bitmap --add -g 3k bm.qcow2 x
says "/cli/img/bitmap/bad-granularity" 2 err "Invalid granularity"
blksim img bitmap bm.qcow2 x
says "/cli/img/bitmap/nothing-to-do" 2 err 'Need at least one of'
# fact: qcow2 4.6/convert
blksim img convert --bitmaps -O qcow2 "$vectors/bitmaps-inuse-4k.qcow2" bm3.qcow2
says "/cli/img/bitmap/convert-inconsistent" 2 err "Cannot copy inconsistent bitmap '"
blksim img convert --bitmaps --skip-broken-bitmaps -O qcow2 "$vectors/bitmaps-inuse-4k.qcow2" bm3.qcow2
says "/cli/img/bitmap/convert-skip-broken" 0 err "Skipping inconsistent bitmap"

# Listed in the order of the source.
blksim img create -q -f qcow2 listed.qcow2 1M
for name in one two three; do blksim img bitmap --add listed.qcow2 $name; done
blksim img convert --bitmaps -O qcow2 listed.qcow2 again.qcow2
exits "/cli/img/convert/bitmaps/listed" 0
for file in listed again; do
    blksim img info $file.qcow2
    grep 'name:' out > $file.names
done
holds "/cli/img/convert/bitmaps/three" test "$(wc -l < listed.names)" = 3
holds "/cli/img/convert/bitmaps/order" cmp listed.names again.names

# --- snapshots, size -----------------------------------------------------------------------------------------------------
cp "$vectors/v3-data-4k.qcow2" snap
blksim img snapshot -c first snap
exits "/cli/img/snapshot/create" 0
blksim img snapshot -l snap
says "/cli/img/snapshot/list" 0 out '^1 +first '
"$BLKSIM" img convert -n -f raw -O qcow2 back snap > out 2> err || true
blksim img snapshot -a first snap
exits "/cli/img/snapshot/apply" 0
blksim img compare snap "$vectors/v3-data-4k.qcow2"
says "/cli/img/snapshot/applied" 0 out '^Images are identical'
blksim img snapshot -d first snap
exits "/cli/img/snapshot/delete" 0
blksim img snapshot -d first snap
says "/cli/img/snapshot/delete-none" 2 err "first"
blksim img check snap
says "/cli/img/snapshot/checked" 0 out '^No errors'
blksim img resize snap +1M
says "/cli/img/resize/grow" 0 out '^Image resized'
blksim img resize snap -1M
says "/cli/img/resize/no-shrink" 2 err 'Use the --shrink option'
blksim img resize --shrink snap -1M
exits "/cli/img/resize/shrink" 0
blksim img resize snap 12Q
says "/cli/img/resize/bad-size" 2 err "Invalid image size specified: '12Q'"
blksim img compare snap "$vectors/v3-data-4k.qcow2"
says "/cli/img/resize/content-kept" 0 out '^Images are identical'
finish
