# Protects what happens to scenario files that are wrong, hostile or very large: a message with file, line and column
# and exit 2, or a run; never a crash.
. tests/cli/lib.sh

blksim run nowhere.blk
says "/cli/scenario/missing-file" 2 err 'nowhere\.blk'
blksim run .
exits "/cli/scenario/folder" 2
: > empty.blk
blksim run empty.blk
says "/cli/scenario/empty" 2 err '^blksim: empty\.blk:[0-9]+:[0-9]+: '

wrong() { # NAME LINE:COLUMN TEXT
    printf 'blksim 1\ndisk a size=1M\n%b\n' "$3" > wrong.blk
    blksim run wrong.blk
    says "/cli/scenario/$1" 2 err "^blksim: wrong\.blk:$2: "
}
wrong unknown-verb 3:1 'frobnicate a'
# an expectation that nothing can disappoint
printf 'blksim 1\nexpect error GenericError\nsettle\n' > dangling.blk
blksim run dangling.blk
says "/cli/scenario/expect-error-at-the-end" 1 out 'dangling\.blk:2:1\): no command came that could be refused'
printf 'blksim 1\nexpect error GenericError\nexpect error DeviceNotActive\nblock-job-cancel device=m\n' > dangling.blk
blksim run dangling.blk
says "/cli/scenario/expect-error-twice" 1 out 'dangling\.blk:2:1\): no command came that could be refused'
printf 'blksim 1\ndisk a size=1M\nblockdev-add driver=disk node-name=n disk=a\nguest g node=n\nio g write -P 1 0 4k\nio g aio_read -P 2 0 4k\nsettle\n' > pattern.blk
blksim run pattern.blk
says "/cli/scenario/aio-read-pattern" 1 out 'pattern\.blk:6:1\): byte 0 is 0x01, expected 0x02'
wrong misspelt-verb 3:1 'blockdev-mirorr job-id=m device=a target=b sync=full'
wrong bad-size '3:[0-9]+' 'disk b size=1Q'
wrong negative-size '3:[0-9]+' 'disk b size=-5'
wrong huge-size '3:[0-9]+' 'disk b size=99999999999999999999'
wrong unknown-key '3:[0-9]+' 'disk b size=1M colour=red'
wrong missing-key '3:[0-9]+' 'blockdev-mirror job-id=m'
wrong bad-time '3:[0-9]+' '+1parsec disk b size=1M'
wrong duplicate-disk '3:[0-9]+' 'disk a size=1M'
wrong unknown-disk '3:[0-9]+' 'blockdev-add driver=raw node-name=s file.driver=disk file.disk=nope'
wrong unknown-driver 3:1 'blockdev-add driver=rwa node-name=s file.driver=disk file.disk=a'
wrong unknown-driver-below 3:1 'blockdev-add driver=raw node-name=s file.driver=dsk file.disk=a'
wrong unknown-option 3:1 'blockdev-add driver=raw node-name=s file.driver=disk file.disk=a sice=5'
says "/cli/scenario/unknown-option/hint" 2 err "no option of driver 'raw'.*did you mean 'size'"
wrong missing-option 3:1 'blockdev-add driver=raw node-name=s'
says "/cli/scenario/missing-option/which" 2 err "driver 'raw' needs 'file'"
wrong bad-option 3:1 'blockdev-add driver=raw node-name=s file.driver=disk file.disk=a size=5x'
wrong bad-option-in-list 3:1 'blockdev-add driver=blkdebug node-name=s inject-error.0.event=write image.driver=disk image.disk=a'
says "/cli/scenario/bad-option-in-list/which" 2 err "inject-error\\.0: Parameter 'event' does not accept value 'write'"
wrong gap-in-list 3:1 'blockdev-add driver=quorum node-name=s vote-threshold=1 children.1.driver=disk children.1.disk=a'
wrong bad-child-in-list 3:1 'blockdev-add driver=quorum node-name=s vote-threshold=1 children.0.driver=dsk'
wrong unknown-child-in-list 3:1 'blockdev-add driver=quorum node-name=s vote-threshold=1 children.0=nix'
wrong bad-generic-option 3:1 'blockdev-add driver=raw node-name=s file.driver=disk file.disk=a file.read-only=maybe'
wrong contradiction 3:1 'blockdev-add driver=disk node-name=s disk=a detect-zeroes=unmap'
printf 'blksim 1\ndisk a size=1M\nblockdev-add driver=quorum node-name=s vote-threshold=1 children=[{"driver": "disk", "disk": "a", "node-name": "c"}]\nguest g node=c read-only=on\n' > listed.blk
blksim run listed.blk
exits "/cli/scenario/child-of-a-list-is-known" 0
wrong list-in-dotted-keys 3:13 'transaction actions.0.type=abort'
says "/cli/scenario/list-in-dotted-keys/expectation" 2 err 'is no list, expected JSON such as actions='
wrong unknown-action 3:1 'transaction actions=[{"type": "abrot", "data": {}}]'
printf 'blksim 1\ndisk a size=1M\ntry blockdev-add driver=rwa node-name=s\n' > refused.blk
blksim run refused.blk
exits "/cli/scenario/unknown-driver/tried" 0
wrong unclosed-quote '3:[0-9]+' 'disk "b size=1M'
wrong bad-json '3:[0-9]+' '{"execute": "query-status"'
wrong nul-byte 3:8 'disk b \0size=1M'
wrong invalid-utf8 3:6 'disk \0377\0376 size=1M'
wrong overlong-utf8 3:6 'disk \0300\0257 size=1M'
wrong truncated-utf8 '3:[0-9]+' '# \0342\0202'

printf 'blksim 1\ndisk a size=1M\ndisk a size=2M\n' > twice.blk
printf 'disk a size=1M\n' > headless.blk
blksim run headless.blk
says "/cli/scenario/no-version" 2 err '^blksim: headless\.blk:1:1: '
printf 'blksim 999\ndisk a size=1M\n' > later.blk
blksim run later.blk
says "/cli/scenario/later-version" 2 err '^blksim: later\.blk:1:'

good good.blk
blksim run good.blk wrong.blk
exits "/cli/scenario/one-of-two-is-wrong" 2
holds "/cli/scenario/one-of-two-is-wrong/none-was-run" test ! -s out
echo keep > trace.jsonl
blksim run wrong.blk --trace trace.jsonl --junit report.xml
holds "/cli/scenario/wrong/files-stay" grep -q keep trace.jsonl
holds "/cli/scenario/wrong/nothing-left" test ! -e report.xml
for command in decode encode; do
    blksim $command .
    says "/cli/scenario/$command/folder" 2 err 'directory'
done

# What is beside the scenario is looked at before the run, too.
wrong export-folder '4:1' 'disk b size=1M\nexport b .'
wrong export-nowhere '4:1' 'disk b size=1M\nexport b no/such/folder/b.img'
wrong host-file-missing '3:1' 'disk b file=nowhere.img'
wrong host-file-folder '3:1' 'disk b file=.'
on_guest='blockdev-add driver=disk node-name=s disk=a\nguest g node=s\nworkload g iolog=wrong.iolog'
wrong_iolog() { # NAME LINE:COLUMN TEXT
    printf "$3" > wrong.iolog
    printf 'blksim 1\ndisk a size=1M\n%b\n' "$on_guest" > wrong.blk
    blksim run wrong.blk
    says "/cli/scenario/iolog/$1" 2 err "^blksim: \./wrong\.iolog:$2: .*expected"
}
wrong_iolog empty 1:1 ''
wrong_iolog version 1:13 'fio version 9 iolog\n'
wrong_iolog length 4:11 'fio version 2 iolog\nf add\nf open\nf write 0 zz\n'
wrong_iolog offset 4:9 'fio version 2 iolog\nf add\nf open\nf write -5 512\n'
wrong_iolog file-not-added 2:1 'fio version 2 iolog\nf write 0 512\n'
wrong_iolog time-goes-back 4:1 'fio version 3 iolog\n10 f add\n20 f open\n5 f write 0 512\n'
wrong_iolog nul-byte 2:6 'fio version 2 iolog\nf add\000x\n'

# A line of 1 MiB: as a comment it is read, as a name it is refused.
{ printf 'blksim 1\n# '; head -c 1048576 /dev/zero | tr '\0' x; printf '\ndisk a size=1M\n'; } > long-comment.blk
blksim run long-comment.blk
exits "/cli/scenario/comment-of-1M" 0
{ printf 'blksim 1\ndisk '; head -c 1048576 /dev/zero | tr '\0' x; printf ' size=1M\n'; } > long-name.blk
blksim run long-name.blk
if [ "$status" = 0 ] || { [ "$status" = 2 ] && grep -q 'long-name\.blk:2:6: ' err; }; then
    ok "/cli/scenario/name-of-1M"
else
    not_ok "/cli/scenario/name-of-1M" "exit status $status"
fi
holds "/cli/scenario/name-of-1M/short-message" test "$(wc -c < err)" -lt 1000
{ printf 'blksim 1\n'; head -c 1048576 /dev/zero | tr '\0' '('; printf '\n'; } > long-verb.blk
blksim run long-verb.blk
says "/cli/scenario/verb-of-1M" 2 err 'long-verb\.blk:2:1: '
{ printf 'blksim 1\n{"execute": '; head -c 1048576 /dev/zero | tr '\0' '['; printf '\n'; } > deep.blk
blksim run deep.blk
says "/cli/scenario/json-nested-1M-deep" 2 err 'deep\.blk:2:'
head -c 65536 /dev/zero > zeroes.blk
blksim run zeroes.blk
says "/cli/scenario/only-nuls" 2 err 'zeroes\.blk:1:1: '
head -c 65536 "$BLKSIM" > binary.blk
blksim run binary.blk
says "/cli/scenario/binary" 2 err 'binary\.blk:1:'

# 100,000 steps run, each of them.
{
    printf 'blksim 1\ndisk a size=1M\nblockdev-add driver=raw node-name=s file.driver=disk file.disk=a\nguest g node=s\n'
    awk 'BEGIN { for (i = 0; i < 99996; i++) printf "io g write -P 0x%02x %dk 4k\n", i % 255 + 1, i % 256 * 4 }'
} > many.blk
blksim run many.blk
exits "/cli/scenario/100000-steps" 0

# What the documentation shows runs: indented blocks that begin with the language version.
for page in bitmaps; do
    awk '/^    blksim 1$/ { shown = 1 } shown && !/^    / { exit } shown { print substr($0, 5) }' \
        "$top/docs/$page.md" > "$page.blk"
    blksim run "$page.blk"
    exits "/cli/scenario/documented/$page" 0
done
finish
