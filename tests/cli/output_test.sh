# Protects what a run prints: verdicts, the four lines of a failure, JSON, TAP, JUnit, SARIF, logs, timelines.
. tests/cli/lib.sh
good good.blk
bad bad.blk

blksim run good.blk
says "/cli/output/passed" 0 out '^passed: [0-9]+ events'
holds "/cli/output/passed/quiet-stderr" test ! -s err
blksim run - < good.blk
says "/cli/output/stdin" 0 out '^passed: '

blksim run bad.blk
says "/cli/output/failed" 1 out '^fail expect  expect\.'
says "/cli/output/failed/seen" 1 out '^  seen   at [0-9]+ ns, event [0-9]+: .*bad\.blk:13'
says "/cli/output/failed/build" 1 out '^  build  blksim '
says "/cli/output/failed/again" 1 out '^  again  .* run bad\.blk$'
sed -n 's/^  again  //p' out > again.sh
sh again.sh > out 2> err
status=$?
says "/cli/output/failed/paste" 1 out '^fail expect '

# Where the disks cannot be left nothing is run: that is no failure of what is tested.
blksim run good.blk --write-disks absent
says "/cli/output/write-disks/absent" 2 err "'absent' is no valid value of option '--write-disks', expected a folder"
blksim run good.blk --write-disks good.blk
says "/cli/output/write-disks/file" 2 err "'good\.blk' is no valid value of option '--write-disks'"
mkdir disks
blksim run good.blk --write-disks disks
says "/cli/output/write-disks" 0 out '^passed: '
holds "/cli/output/write-disks/there" test -s disks/src

# Files are named by the order they were given in, one JSON object a line.
blksim run good.blk bad.blk --json
says "/cli/output/json/status" 1 out '"verdict": *"fail"'
holds "/cli/output/json/one-line-a-run" test "$(wc -l < out)" = 2
says "/cli/output/json/first-passes" 1 out '^\{"seed": *[0-9]+,.*"verdict": *"pass", *"trace_hash": *"[0-9a-f]{16}", *"virtual_ns": *[0-9]+, *"event_count": *[0-9]+, *"requests": *[0-9]+, *"violations": *\[\]'
if command -v python3 > /dev/null && python3 -c pass 2> /dev/null; then
    cp out runs.json
    holds "/cli/output/json/parses" python3 -c '
import json
keys = ["seed", "profile", "scenario", "verdict", "trace_hash", "virtual_ns", "event_count", "requests", "violations",
        "hosts", "marks"]
runs = [json.loads(line) for line in open("runs.json")]
assert all(list(run) == keys for run in runs), [list(run) for run in runs]
assert runs[1]["violations"][0]["check"] == "expect"'
else
    skip "/cli/output/json/parses (python3 is not installed)"
fi

blksim run good.blk bad.blk --tap
says "/cli/output/tap/version" 1 out '^TAP version 13$'
says "/cli/output/tap/plan" 1 out '^1\.\.2$'
says "/cli/output/tap/ok" 1 out '^ok 1 - good\.blk$'
says "/cli/output/tap/not-ok" 1 out '^not ok 2 - bad\.blk$'

says "/cli/output/tap/diagnostics" 1 out '^# fail expect '
holds "/cli/output/tap/only-tap" sh -c '! grep -vE "^(TAP version 13|1\.\.2|(not )?ok [0-9]|#)" out'
blksim run bad.blk good.blk --tap --max-failures 1
says "/cli/output/tap/bail-out" 1 out '^Bail out!'

# To standard output: the report and nothing else.
for report in junit sarif; do
    blksim run bad.blk good.blk --$report -
    exits "/cli/output/$report/stdout" 1
    holds "/cli/output/$report/stdout/alone" sh -c '! grep -q "^  build" out'
    cp out stdout.$report
done
blksim run good.blk bad.blk --junit report.xml --sarif report.sarif
exits "/cli/output/junit" 1
holds "/cli/output/junit/suite" grep -q '<testsuite name="blksim" tests="2"' report.xml
holds "/cli/output/junit/failure" grep -q '<failure message="expect\.' report.xml
holds "/cli/output/junit/closed" grep -q '</testsuite>' report.xml
holds "/cli/output/sarif/result" grep -q '"ruleId": "expect\.' report.sarif
if command -v python3 > /dev/null && python3 -c pass 2> /dev/null; then
    holds "/cli/output/junit/parses" python3 -c 'import xml.dom.minidom as m; m.parse("report.xml")'
    holds "/cli/output/junit/stdout/parses" python3 -c 'import xml.dom.minidom as m; m.parse("stdout.junit")'
    holds "/cli/output/sarif/stdout/parses" python3 -c '
import json
run, = json.load(open("stdout.sarif"))["runs"]
result, = run["results"]
assert result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "bad.blk"'
    holds "/cli/output/sarif/parses" python3 -c 'import json; json.load(open("report.sarif"))'
else
    skip "/cli/output/junit/parses (python3 is not installed)"
    skip "/cli/output/sarif/parses (python3 is not installed)"
fi

blksim run good.blk --timeline timeline.json --trace trace.jsonl
exits "/cli/output/timeline" 0
holds "/cli/output/timeline/array" sh -c 'head -c 200 timeline.json | grep -q "[[{]" && tail -c 20 timeline.json | grep -q "]"'
holds "/cli/output/timeline/spans" grep -q '"ph": *"[XBb]"' timeline.json
holds "/cli/output/trace/lines" test "$(wc -l < trace.jsonl)" -gt 20
if command -v python3 > /dev/null && python3 -c pass 2> /dev/null; then
    holds "/cli/output/timeline/parses" python3 -c 'import json; json.load(open("timeline.json"))'
    holds "/cli/output/trace/parses" python3 -c 'import json; [json.loads(l) for l in open("trace.jsonl")]'
else
    skip "/cli/output/timeline/parses (python3 is not installed)"
    skip "/cli/output/trace/parses (python3 is not installed)"
fi
for log in short full; do
    blksim run good.blk --log $log
    says "/cli/output/log/$log" 0 out 'job|JOB'
done
# The short log is what a person follows: the steps as written, QMP events, refusals, faults; not requests.
blksim run good.blk --log short
says "/cli/output/log/short/step" 0 out '> 6: blockdev-mirror job-id=m device=s target=d sync=full$'
says "/cli/output/log/short/event" 0 out '\* BLOCK_JOB_READY +type=mirror device=m '
holds "/cli/output/log/short/no-requests" sh -c '! grep -q disk_ out'
good refused.blk
{ echo "try block-job-pause device=m"; echo "try fault error disk=src"; } >> refused.blk
blksim run refused.blk --log short
says "/cli/output/log/short/refusal" 0 out '< block-job-pause: DeviceNotActive: '
says "/cli/output/log/short/fault" 0 out '! fault_armed +fault=error disk=src'
blksim run bad.blk --log short
says "/cli/output/log/short/violation" 1 out ' x expect: step 12 '
blksim run good.blk --log none
holds "/cli/output/log/none" test "$(wc -l < out)" = 1
blksim run good.blk --until 10 --log full
says "/cli/output/until" 0 out '^# +9 '
holds "/cli/output/until/not-further" sh -c '! grep -q "^# *10 " out'
says "/cli/output/until/verdict" 0 out '^stopped: '
blksim run good.blk --break 10 2> /dev/null
holds "/cli/output/break" test "$status" = 133

blksim diff good.blk good.blk
says "/cli/output/diff/same" 0 out '^the same [0-9]+ events'
sed 's/0x11/0x12/' good.blk > other.blk
blksim diff good.blk other.blk
says "/cli/output/diff/differs" 1 out '^event [0-9]+ differs'
holds "/cli/output/diff/one-line-each" test "$(grep -c '^[-+] ' out)" = 2
holds "/cli/output/diff/what-came-before" test "$(grep -c '^  ' out)" = 3
blksim diff good.blk other.blk --json
says "/cli/output/diff/json" 1 out '^\{"same": *false, *"event": *[0-9]+, *"events_alike": *[0-9]+, *"a": *\{'
blksim diff good.blk --exec "$BLKSIM"
says "/cli/output/diff/other-build" 0 out '^the same [0-9]+ events'

# A failing scenario from standard input is kept, so that there is something to paste.
blksim run - < bad.blk
says "/cli/output/stdin/failed" 1 out '^  again  .* run build/failures/expect\.view\..*\.blk$'
sed -n 's/^  again  //p' out > again.sh
sh again.sh > out 2> err
status=$?
says "/cli/output/stdin/paste" 1 out '^fail expect '
blksim run bad.blk --json
says "/cli/output/json/state-of-a-failure" 1 out '"hosts": *\{"h": *\{"nodes": *\{".*"driver": *"raw"'

# Each command has --json.
blksim gen --seed 3 --json
says "/cli/output/json/gen" 0 out '^\{"profile": *"mixed", *"steps": *[0-9]+, *"scenario": *"blksim 1'
blksim encode good.blk --json
says "/cli/output/json/encode" 0 out '^\{"length": *[0-9]+, *"hex": *"[0-9a-f]+"\}$'
"$BLKSIM" encode good.blk > good.bin
blksim decode good.bin --json
says "/cli/output/json/decode" 0 out '"scenario": *"blksim 1'
blksim list checks --json
says "/cli/output/json/list" 0 out '^\{"kind": *"checker", *"name": *"guest-view"'
blksim explain io --json
says "/cli/output/json/explain" 0 out '"name": *"io write"'
blksim shrink bad.blk --json -o small.blk
says "/cli/output/json/shrink" 0 out '^\{"signature": *"expect\.view.*"steps_before": *12, *"steps": *[0-9]+, *"scenario": *"blksim 1'

# A failure with room to shrink keeps its signature.
{ cat bad.blk; } > big.blk
blksim shrink big.blk -o small.blk
exits "/cli/output/shrink" 0
blksim run small.blk
says "/cli/output/shrink/same-signature" 1 out '^fail expect '
holds "/cli/output/shrink/smaller" test "$(wc -l < small.blk)" -lt "$(wc -l < big.blk)"

# Nobody reads: an error or a signal, not a success and not a hang.
if [ -e /dev/full ]; then
    "$BLKSIM" gen --seed 1 > /dev/full 2> err
    status=$?
    : > out
    says "/cli/output/full-device" 3 err 'cannot write'
else
    skip "/cli/output/full-device (no /dev/full)"
fi
"$BLKSIM" gen --seed 1 >&- 2> err
status=$?
exits "/cli/output/closed-stdout" 3
sh -c '"$1" run --seeds 1..200 --json; echo $? > pipe-status' sh "$BLKSIM" 2> err | head -n 1 > out
holds "/cli/output/pipe-closed-early" test "$(cat pipe-status)" != 0
holds "/cli/output/pipe-closed-early/first-line" grep -q '^{"seed"' out
finish
