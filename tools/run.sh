#!/bin/sh
# The main job: a seed sweep under all checkers, the real disk image, a timeline to look at, and a summary.
#   SEEDS=N tools/run.sh       1,000 seeds unless told otherwise
set -u
cd "$(dirname "$0")/.."
blksim=build/blksim
seeds=${SEEDS:-1000}
jobs=$(nproc 2>/dev/null || echo 1)
out=build/reports
mkdir -p "$out"
worst=0

note() { [ "$1" -le "$worst" ] || worst=$1; }

echo "sweep: seeds 1..$seeds, all checkers"
"$blksim" run --seeds "1..$seeds" -j "$jobs" --stats > "$out/sweep.txt"
sweep=$?
note $sweep
[ $sweep = 0 ] || cat "$out/sweep.txt"

image="left out"
if [ -x tools/real-image.sh ]; then
    echo "real image: a mirror of an ext4 image under a recorded load"
    tools/real-image.sh > "$out/real-image.txt" 2>&1
    status=$?
    case $status in
    0) image=passed ;;
    77) image="left out: $(tail -n 1 "$out/real-image.txt")" ;;
    *) image="FAILED, see $out/real-image.txt"; cat "$out/real-image.txt"; note 1 ;;
    esac
fi

timeline=$out/timeline.json
"$blksim" run --seed "${TIMELINE_SEED:-7}" --timeline "$timeline" > /dev/null
status=$?
note $status
[ $status = 0 ] || [ $status = 1 ] || timeline="none"

# The line of totals: "N seeds run in S s (R/s): F failed; H virtual hours (X x real time), M media requests,
# E events, A of B marks reached"
totals=$(grep ' virtual hours ' "$out/sweep.txt" | head -n 1)
field() { printf '%s\n' "$totals" | sed -nE "s/.*$1.*/\\1/p"; }
case $worst in
0) verdict="passed: nothing wrong was found" ;;
1) verdict="FAILED: an invariant was violated" ;;
*) verdict="FAILED: exit status $worst" ;;
esac
cat <<END

seeds            $(field '(^[0-9]+) seeds'), $(field ' ([0-9]+) failed') failed
virtual time     $(field ' ([0-9.]+) virtual hours') hours
speed-up         $(field '\(([0-9.]+) x real time') x real time ($(field 'run in ([0-9.]+) s') s on $jobs workers)
requests         $(field ' ([0-9]+) media requests') to fake disks, $(field ' ([0-9]+) events') events
marks reached    $(field ' ([0-9]+ of [0-9]+) marks')
real image       $image
verdict          $verdict
timeline         $timeline (open it in https://ui.perfetto.dev)
what it did      $out/sweep.txt
END
exit "$worst"
