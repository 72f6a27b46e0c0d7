# Protects what blksim img does to files: one that is in use, here or by another program, is not made anew; what is
# refused leaves nothing behind; names, folders and options as with qemu-img.
. tests/cli/lib.sh

kept() { # NAME FILE...: the files are as they were when their sums were taken
    holds "$1" sha256sum --check --quiet --strict sums
}

# --- files that are used twice ---------------------------------------------------------------------------------------
head -c 300000 /dev/urandom > raw
truncate -s 1M raw
blksim img convert -f raw -O qcow2 raw base
blksim img create -q -f qcow2 -b base -F qcow2 top
ln top hard
ln -s top soft
sha256sum base top raw > sums
blksim img convert -O qcow2 top base
says "/cli/img/files/convert-onto-backing" 2 err 'Failed to get "write, resize" lock on .base'
for target in ./top hard soft "$PWD/top"; do
    blksim img convert -O raw top "$target"
    says "/cli/img/files/convert-onto-itself/${target##*/}" 2 err "lock on|the same file"
done
blksim img convert -n -O qcow2 top base
says "/cli/img/files/convert-into-backing" 2 err 'Failed to get'
blksim img convert -O qcow2 -o data_file=top top new
says "/cli/img/files/data-file-is-source" 2 err 'Failed to get'
holds "/cli/img/files/nothing-half-made" test ! -e new
blksim img convert -f raw -O qcow2 -o data_file=raw raw new
says "/cli/img/files/data-file-is-raw-source" 2 err 'Failed to get'
for name in top hard soft; do
    blksim img create -f qcow2 -b top -F qcow2 $name
    says "/cli/img/files/own-backing/$name" 2 err 'same filename as the backing file'
    blksim img create -u -f qcow2 -b top -F qcow2 $name 1M
    says "/cli/img/files/own-backing-unseen/$name" 2 err 'same filename as the backing file'
done
blksim img create -f qcow2 -b top -F qcow2 base
says "/cli/img/files/create-in-own-chain" 2 err 'Failed to get'
blksim img create -f qcow2 -b top -F qcow2 -o data_file=top new
says "/cli/img/files/data-file-is-backing" 2 err 'Failed to get'
blksim img create -f qcow2 -o data_file=./new new 1M
says "/cli/img/files/data-file-is-image" 2 err 'would be the image itself'
holds "/cli/img/files/nothing-left" test ! -e new
kept "/cli/img/files/all-kept"

# --- names in headers -------------------------------------------------------------------------------------------------
mkdir -p sub/deep
blksim img create -q -f qcow2 sub/base 1M
blksim img create -q -f qcow2 -b base -F qcow2 sub/mid
blksim img create -q -f qcow2 -b ../mid -F qcow2 sub/deep/top
blksim img info --backing-chain sub/deep/top
says "/cli/img/files/chain" 0 out '^image: sub/deep/../base$'
# Other than a backing file, a data file is not looked for beside the image: as with qemu-img.
blksim img create -q -f qcow2 -o data_file=sub/ext sub/image 1M
blksim img convert -O raw sub/image content
exits "/cli/img/files/data-file-from-here" 0
(cd sub && "$BLKSIM" img create -q -f qcow2 -o data_file=ext image 1M)
cat > sub/names.blk << 'END'
blksim 1
blockdev-add driver=qcow2 node-name=top file.driver=file file.filename=deep/top
blockdev-add driver=qcow2 node-name=image file.driver=file file.filename=image
guest g node=top
io g write -P 0x11 64k 4k
io g read -P 0x11 64k 4k
END
blksim run sub/names.blk
exits "/cli/img/files/names-from-the-scenario" 0

# --- options ------------------------------------------------------------------------------------------------------------
cp base 'a,b'
for given in driver=qcow2,file.driver=file,file.filename=base driver=qcow2,file.filename=base file.filename=base \
             filename=base file.filename=a,,b driver=qcow2,lazy-refcounts=on,file.filename=base; do
    blksim img info --force-share --image-opts $given
    says "/cli/img/options/image-opts/$given" 0 out '^file format: qcow2'
done
for given in frob =x driver=qcow2 driver=qcow2,file.filename=base,file=x file.filename=nowhere; do
    blksim img info --image-opts $given
    says "/cli/img/options/bad-image-opts/$given" 2 err "img info: Could not open '$given': "
done
blksim img create -q -f qcow2 same 1M
blksim img convert -n --target-image-opts base driver=qcow2,file.filename=same
exits "/cli/img/options/target-image-opts" 0
blksim img compare base same
says "/cli/img/options/target-image-opts/content" 0 out '^Images are identical'
blksim img convert --target-image-opts base driver=qcow2,file.filename=same
says "/cli/img/options/target-image-opts/only-there" 2 err 'requires use of -n'
blksim img check --format=qcow2 --repair=all same
exits "/cli/img/options/check" 0
blksim img map --format=qcow2 --force-share --output json same
exits "/cli/img/options/map" 0
blksim img bitmap --add --granularity=4k base one
exits "/cli/img/options/granularity" 0
blksim img bitmap --add --merge one --source-file base --source-format qcow2 same two
exits "/cli/img/options/source-file" 0
finish
