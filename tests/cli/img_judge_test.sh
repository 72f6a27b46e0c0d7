# Protects blksim img against what real qemu-img and qemu-io say of the same files: text for text where nothing else is
# meant, and images made by one and changed by the other in both directions. Skipped where they are not installed.
. tests/cli/lib.sh
vectors=$top/tests/vectors/qcow2
if ! command -v qemu-img > /dev/null || ! command -v qemu-io > /dev/null; then
    skip "/cli/img-judge: no qemu-img here"
    finish
fi

# Both say the same and agree on whether it went well (our status of bad input is 2): agree NAME VERB...
agree() {
    name=$1
    shift
    "$BLKSIM" img "$@" > ours 2> ours.err
    ours=$?
    qemu-img "$@" > theirs 2> theirs.err
    theirs=$?
    case $1 in check) ;; *) theirs=$((theirs == 0 ? 0 : 2)) ;; esac
    if [ $ours = $theirs ] && cmp -s ours theirs; then
        ok "$name"
    else
        not_ok "$name" "exit status $ours and $theirs; $(diff ours theirs | head -5)"
    fi
}

# fact: qcow2 8/images
cp "$vectors"/*.qcow2 .
for image in *.qcow2; do
    agree "/cli/img-judge/info/$image" info "$image"
    agree "/cli/img-judge/map/$image" map "$image"
    agree "/cli/img-judge/map-json/$image" map --output=json "$image"
    agree "/cli/img-judge/check/$image" check "$image"
done

# Writes of all kinds, where the options allow them: scribble IMAGE [OPTIONS]
scribble() {
    qemu-io -d unmap -f qcow2 -c "write -P 1 0 70k" -c "write -P 2 1M 100k" -c "write -z 2M 64k" -c "write -P 3 2050k 512" \
        -c "discard 0 64k" -c "write -z -u 1M 32k" -c "write -P 4 4999k 121k" "$1" > /dev/null
}

# Made here, judged and changed there, read and checked here; and the other way round.
for options in cluster_size=64k compat=0.10 cluster_size=512 cluster_size=2M lazy_refcounts=on refcount_bits=1 \
               refcount_bits=2 refcount_bits=4 refcount_bits=8 refcount_bits=32 refcount_bits=64 \
               extended_l2=on,cluster_size=16k extended_l2=on compression_type=zstd preallocation=metadata \
               preallocation=falloc preallocation=full data_file=t.data data_file=t.data,data_file_raw=on \
               preallocation=metadata,extended_l2=on cluster_size=4k,preallocation=full,refcount_bits=8; do
    rm -f t.*
    qemu-img create -q -f qcow2 -o $options t.theirs 5M
    qemu-img info --output=json t.theirs | grep -v -e actual-size -e filename > theirs
    rm -f t.data
    "$BLKSIM" img create -q -f qcow2 -o $options t.ours 5M
    qemu-img info --output=json t.ours | grep -v -e actual-size -e filename > ours
    holds "/cli/img-judge/created-alike/$options" cmp ours theirs
    holds "/cli/img-judge/created-clean/$options" qemu-img check -q t.ours
    scribble t.ours
    blksim img check t.ours
    exits "/cli/img-judge/changed-there-checked-here/$options" 0
    "$BLKSIM" img convert -O qcow2 -o ${options%%data_file=*}data_file=t.data2 t.ours t.copy > out 2>&1 ||
        "$BLKSIM" img convert -O qcow2 -o $options t.ours t.copy > out 2>&1
    holds "/cli/img-judge/copied-same/$options" qemu-img compare -q t.ours t.copy
    holds "/cli/img-judge/copied-clean/$options" qemu-img check -q t.copy
    case $options in *data_file*) continue ;; esac
    qemu-img create -q -f qcow2 -o $options t.theirs 5M
    case $options in *prealloc*) flags= ;; *) flags=-c ;; esac
    # shellcheck disable=SC2086
    "$BLKSIM" img convert $flags -n -O qcow2 t.ours t.theirs > out 2>&1
    "$BLKSIM" img resize -q t.theirs +3M
    "$BLKSIM" img bitmap --add t.theirs b > out 2>&1
    holds "/cli/img-judge/changed-here-same-there/$options" sh -c 'qemu-img compare t.ours t.theirs | grep -q identical'
    holds "/cli/img-judge/changed-here-checked-there/$options" qemu-img check -q t.theirs
    case $options in
    compat=0.10 | refcount_bits=1) ;;
    *)
        "$BLKSIM" img snapshot -c s t.ours && scribble t.ours && "$BLKSIM" img snapshot -a s t.ours
        holds "/cli/img-judge/snapshot-checked-there/$options" qemu-img check -q t.ours
        holds "/cli/img-judge/snapshot-same-there/$options" sh -c 'qemu-img compare t.ours t.theirs | grep -q identical'
        ;;
    esac
done

# Bitmaps made on one side, listed on the other.
qemu-img create -q -f qcow2 b.theirs 1M
qemu-img bitmap --add -g 4k b.theirs one
qemu-io -f qcow2 -c "write -P 1 64k 64k" b.theirs > /dev/null
blksim img bitmap --add --merge one --disable b.theirs two
exits "/cli/img-judge/bitmap/merge" 0
agree "/cli/img-judge/bitmap/info" info b.theirs
agree "/cli/img-judge/bitmap/check" check b.theirs
holds "/cli/img-judge/bitmap/remove" qemu-img bitmap --remove b.theirs one
agree "/cli/img-judge/bitmap/removed" info b.theirs
finish
