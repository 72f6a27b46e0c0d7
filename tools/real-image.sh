#!/usr/bin/env bash
# A mirror of a real file system under a recorded load, judged by tools that know nothing of blksim.
#
#     tools/real-image.sh [BLKSIM]        default build/blksim; works in build/real/, needs no root and mounts nothing
#
# 1. mke2fs makes an ext4 image of real files, one of them preallocated for the load.
# 2. fio records a random load on a scratch file of that size; awk moves it into the extents that debugfs reports.
# 3. blksim mirrors the image while the guest replays the load: writes fall before READY, after it and after the pivot.
# 4. e2fsck checks the target, debugfs takes its files out for diff, and cmp compares it with a model: the image with
#    the log's writes applied by tools/replay.c.
#
# Exit status: 0 all as it must be, 1 something differs, 77 a tool is missing (skipped), 2 the image could not be made.
set -euo pipefail
export LC_ALL=C TZ=UTC PATH="$PATH:/usr/sbin:/sbin"

root=$(cd "$(dirname "$0")/.." && pwd)
blksim=$(realpath -m "${1:-$root/build/blksim}")
dir=$root/build/real
image_mib=32
load_file=guest.dat
load_bytes=$((8 * 1024 * 1024))
epoch=1420070400
uuid=6b6c6269-7369-6d00-8000-7265616c3031

for tool in mke2fs debugfs e2fsck fio "${CC:-cc}"; do
    command -v "$tool" >/dev/null || { echo "real-image: skipped, $tool is not installed"; exit 77; }
done
[ -x "$blksim" ] || { echo "real-image: $blksim is no program, expected blksim" >&2; exit 2; }

fail() {
    echo "real-image: FAILED: $*" >&2
    exit 1
}

# --- the image ----------------------------------------------------------------------------------------------------

# Text of this repository, and what file systems treat specially: empty, large, deep, linked and sparse files.
make_files() {
    mkdir -p files/text files/deep/a/b/c/d/e
    cp "$root"/LICENSE "$root"/sim/*.h "$root"/block/*.[ch] files/text/
    : >files/empty
    printf 'one byte short of a sector%485s' '' >files/deep/a/b/c/d/e/short
    seq -f 'line %.0f' 1 150000 >files/lines
    seq 1 400000 | gzip -n -9 >files/noise.gz
    truncate -s 3M files/sparse
    printf 'end' | dd of=files/sparse bs=1 seek=2000000 conv=notrunc status=none
    ln -s ../text/LICENSE files/deep/link
    # Real content, so that every block of it is allocated and written.
    seq 1000000 3000000 | head -c $load_bytes >files/$load_file || true
    chmod -R u=rwX,go=rX files
    find files -exec touch -h -d @$epoch {} +
}

make_image() {
    export E2FSPROGS_FAKE_TIME=$epoch
    mke2fs -q -F -t ext4 -b 1024 -L blksim -U "$uuid" -E "hash_seed=$uuid,root_owner=0:0,lazy_itable_init=0" \
        -d files ext4.img ${image_mib}M >mke2fs.log
    # mke2fs takes owners and times of change from the files, which nobody can set: make them those of the image.
    (cd files && find . -mindepth 1 -printf '%P\n' | sort) |
        awk -v t=@$epoch '{ print "sif \"/" $0 "\" ctime " t; print "sif \"/" $0 "\" uid 0"; print "sif \"/" $0 "\" gid 0" }' \
            >times.debugfs
    debugfs -w -f times.debugfs ext4.img >/dev/null 2>debugfs.log || { cat debugfs.log >&2; exit 2; }
    e2fsck -fn ext4.img >fsck-before.log 2>&1 || { cat fsck-before.log >&2; exit 2; }
}

# Lines "first byte in the file, first byte on the disk, bytes" of the load file's extents.
find_extents() {
    debugfs -R "dump_extents -l /$load_file" ext4.img 2>/dev/null |
        awk '$1 ~ /\// && $3 ~ /\/$/ { gsub(/\//, " "); gsub(/-/, " "); print $5 * 1024, $7 * 1024, $9 * 1024 }' >extents
    awk -v want=$load_bytes '$1 != at { bad = 1 } { at += $3 } END { exit bad || at != want }' extents ||
        { echo "real-image: the extents of $load_file do not cover it" >&2; cat extents >&2; exit 2; }
}

# --- the load -----------------------------------------------------------------------------------------------------

record_load() {
    rm -f scratch.dat
    fio --name=load --filename=scratch.dat --size=$load_bytes --ioengine=psync --rw=randrw --rwmixread=30 \
        --bssplit=1k/15:4k/40:12k/25:64k/20 --norandommap=1 --io_size=64m --number_ios=900 --fsync=60 \
        --randrepeat=1 --allrandrepeat=1 --write_iolog=recorded.iolog >fio.log 2>&1 ||
        { cat fio.log >&2; exit 2; }
    rm -f scratch.dat
}

# From offsets in the file to offsets on the disk; a request across the end of an extent becomes several. Times are
# the order only, evenly spaced: what fio's clock saw differs from run to run.
translate_load() {
    awk -v spacing=600 -v n=0 '
        FNR == NR { from[n] = $1; to[n] = $2; len[n] = $3; n++; next }
        FNR == 1 { print; print "0 disk add"; print "0 disk open"; next }
        $3 == "sync" || $3 == "datasync" { print time += spacing, "disk", $3, 0, 0; next }
        $3 == "read" || $3 == "write" {
            at = $4; left = $5
            for (i = 0; i < n && left > 0; i++) {
                if (at < from[i] || at >= from[i] + len[i]) continue
                part = from[i] + len[i] - at
                if (part > left) part = left
                print time += spacing, "disk", $3, to[i] + at - from[i], part
                at += part; left -= part
            }
            if (left > 0) { print "outside of the extents: " $0 > "/dev/stderr"; exit 1 }
        }
        END { print time, "disk", "close" }' extents recorded.iolog >load.iolog || exit 2
    writes=$(grep -c ' write ' load.iolog)
    [ "$writes" -ge 500 ] || { echo "real-image: only $writes writes recorded" >&2; exit 2; }
}

# --- the run ------------------------------------------------------------------------------------------------------

write_scenario() {
    cat >mirror-ext4.blk <<EOF
blksim 1
# A live mirror of a real ext4 image. The guest replays a recorded load inside one preallocated file, one request at a
# time, throughout: before READY, between READY and the pivot, and on the target afterwards.
disk src file=ext4.img
disk dst size=${image_mib}M
blockdev-add driver=raw node-name=s file.driver=disk file.disk=src
blockdev-add driver=raw node-name=d file.driver=disk file.disk=dst
guest g node=s
workload g iolog=load.iolog depth=1
+5ms blockdev-mirror job-id=m device=s target=d sync=full speed=100M
wait BLOCK_JOB_READY device=m timeout=30s
+50ms block-job-complete device=m
wait BLOCK_JOB_COMPLETED device=m timeout=30s
settle
expect job m concluded ok
export src source.img
export dst target.img
EOF
}

run_blksim() {
    rm -f target.img source.img
    "$blksim" run --json --digest mirror-ext4.blk >run.json ||
        { "$blksim" run mirror-ext4.blk >&2 || true; fail "blksim found something wrong"; }
    hash=$(sed -n 's/.*"trace_hash": *"\([0-9a-f]*\)".*/\1/p' run.json | head -1)
    [ -s target.img ] || fail "no target was written"
}

# --- the judges ---------------------------------------------------------------------------------------------------

judge_fsck() {
    e2fsck -fn target.img >fsck-after.log 2>&1 || { cat fsck-after.log >&2; fail "e2fsck finds the target damaged"; }
}

judge_files() {
    rm -rf taken
    mkdir taken
    debugfs -R "rdump / taken" target.img >rdump.log 2>&1 || true
    rmdir taken/lost+found 2>/dev/null || true
    [ "$(stat -c %s taken/$load_file)" = $load_bytes ] || fail "$load_file has another length"
    cmp -s taken/$load_file files/$load_file && fail "$load_file is as before, the guest wrote nothing"
    diff -r --no-dereference -x $load_file files taken >files.diff || { head files.diff >&2; fail "files changed"; }
    files=$(find files -type f ! -name $load_file | wc -l)
}

judge_sectors() {
    "${CC:-cc}" -std=gnu11 -O2 -o replay "$root/tools/replay.c"
    ./replay apply load.iolog ext4.img model.img
    cmp model.img target.img || fail "the target differs from the model"
    ./replay changed ext4.img target.img >changed
    awk '$3 == "write" { for (s = $4 / 512; s < ($4 + $5) / 512; s++) hit[s] } END { for (s in hit) print s }' \
        load.iolog | sort -n >written
    cmp -s written changed || fail "the sectors that changed are not those that were written"
    sectors=$(wc -l <written)
    # After the pivot the guest wrote to the target only.
    cmp -s source.img target.img && fail "source and target are the same: no write came after the pivot"
    grep -q "\"sha256\": *\"$(sha256sum <target.img | cut -d' ' -f1)\"" run.json ||
        fail "the guest's view is not what the target holds"
}

rm -rf "$dir"
mkdir -p "$dir"
cd "$dir"
make_files
make_image
find_extents
record_load
translate_load
write_scenario
run_blksim
judge_fsck
judge_files
judge_sectors
echo "real-image: ok: ext4 of $image_mib MiB, $writes guest writes to $sectors sectors in $(wc -l <extents) extents," \
    "target equals the model, e2fsck clean, $files other files unchanged, hash $hash"
echo "real-image: scenario build/real/mirror-ext4.blk, images beside it"
