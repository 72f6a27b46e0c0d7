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
tools/test.sh "$build" > build/reports/coverage-tests.txt || echo "coverage: tests failed, see build/reports/coverage-tests.txt"
lcov --quiet --capture --directory "$build" --base-directory . --no-external --rc lcov_branch_coverage=1 \
    --output-file build/reports/coverage.all
lcov --quiet --remove build/reports/coverage.all '*/tests/*' '*/bench/*' '*/fuzz/*' --rc lcov_branch_coverage=1 \
    --output-file build/reports/coverage.info
genhtml --quiet --branch-coverage --legend --title blksim --output-directory "$out" build/reports/coverage.info
lcov --summary build/reports/coverage.info --rc lcov_branch_coverage=1 2>&1 | grep -E 'lines|functions|branches'
echo "coverage: $out/index.html"
