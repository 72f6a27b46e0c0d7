#!/bin/sh
# Lines and branches that the tests and a sweep reach.
#   tools/coverage.sh build/coverage
set -eu
cd "$(dirname "$0")/.."
build=$1
out=build/reports/coverage
command -v lcov >/dev/null || { echo "coverage: lcov is not installed (make deps-dev)" >&2; exit 1; }
mkdir -p build/reports
lcov --quiet --directory "$build" --zerocounters
tools/test.sh "$build" 2> /dev/null > build/reports/coverage-tests.txt || echo "coverage: tests failed, see build/reports/coverage-tests.txt"
# Worker processes end without writing their counts; a run with a trace stays in this process.
i=1
while [ $i -le "${COVERAGE_SEEDS:-100}" ]; do
    "$build/blksim" run --seed $i --trace /dev/null > /dev/null || true
    i=$((i + 1))
done
for file in corpus/scenarios/*.blk corpus/regress/*.blk tests/mutants/*.blk; do
    [ ! -f "$file" ] || "$build/blksim" run "$file" --trace /dev/null > /dev/null || true
done
lcov --quiet --capture --directory "$build" --base-directory . --no-external --rc lcov_branch_coverage=1 \
    --output-file build/reports/coverage.all 2> build/reports/coverage.log
lcov --quiet --remove build/reports/coverage.all '*/tests/*' '*/bench/*' '*/fuzz/*' --rc lcov_branch_coverage=1 \
    --output-file build/reports/coverage.info
genhtml --quiet --branch-coverage --legend --title blksim --output-directory "$out" build/reports/coverage.info
lcov --summary build/reports/coverage.info --rc lcov_branch_coverage=1 2>&1 | grep -E 'lines|functions|branches'
echo "coverage: $out/index.html"
