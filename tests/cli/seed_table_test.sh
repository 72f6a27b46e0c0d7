# Protects the table of the seed history and that of sharp edges: what has no test, or none that is green, is found.
. tests/cli/lib.sh

mkdir -p tests/facts tests/a tests/mutants tools build/tests/a
cp "$top/tools/facts.sh" tools/
{
    printf '# id\tseed\tfact\twaits for\nedge/1\t\tfirst\nedge/2\t\tsecond\nedge/3\t\tthird\tdisks\n'
    printf '1/one\tabc1234\tone\nseed/abc1234\tabc1234\tabout one\nseed/abc1235\tabc1235\tabout two\n'
} > tests/facts/jobs.tsv
cat > tests/a/a_test.c <<'END_C'
/* Protects the sample. */

/* fact: jobs edge/1, seed/abc1234 */
static void test_one(void **state)
{
}

const struct test tests[] = {
    T("/a/abc1234/one", test_one),
    T("/a/abc1234/abc1235/two", test_two),
};
END_C
printf 'Why it is a bug (jobs.md 3, 10.3 [seed abc1234]).\n\ndiff --git a/x b/x\n' > tests/mutants/third.patch
program() { # LINES
    printf '#!/bin/sh\nprintf "1..2\\n%s\\n"\n' "$1" > build/tests/a/a_test
    chmod +x build/tests/a/a_test
}
table() { # OPTIONS
    FACTS_ROOT=$work "$top/tools/seed-table.sh" "$@" > out 2> err
    status=$?
}

table --programs build
says "/cli/seed-table/programs" 0 out '^build/tests/a/a_test$'
program 'ok 1 - /a/abc1234/one\nok 2 - /a/abc1234/abc1235/two'
table build
says "/cli/seed-table/green" 0 out '^2 commits, 2 green, 0 without a green test; 2 tests$'
says "/cli/seed-table/topic" 0 out '^abc1235  green      about two$'
table --markdown build
says "/cli/seed-table/markdown" 0 out '^\| abc1235 \| about two \| `/a/abc1234/abc1235/two` \| green \|$'
not_green() { # NAME HOW LINE
    program "ok 1 - /a/abc1234/one\\n$3"
    table build
    says "/cli/seed-table/not-green/$1" 1 out "^         /a/abc1234/abc1235/two \($2\)\$"
}
not_green failed 'not ok' 'not ok 2 - /a/abc1234/abc1235/two'
not_green skipped skipped 'ok 2 - # SKIP /a/abc1234/abc1235/two'
not_green died 'did not run' ''
sed -i s/abc1235/abc123/ tests/a/a_test.c
program 'ok 1 - /a/abc1234/one'
table build
says "/cli/seed-table/no-test" 1 out '^abc1235  no test    about two$'

FACTS_ROOT=$work "$top/tools/edges.sh" > out 2> err
status=$?
cat > expected <<'END_LIST'
 1  first
    test    /a/abc1234/one
 2  second
    NOTHING
 3  third
    (waits for disks)
    mutant  third
3 edges, 1 that nothing catches
END_LIST
exits "/cli/edges/nothing-catches" 1
holds "/cli/edges/list" diff out expected
sed -i 's#jobs edge/1#jobs edge/1, edge/2#' tests/a/a_test.c
FACTS_ROOT=$work "$top/tools/edges.sh" > out 2> err
status=$?
says "/cli/edges/all-caught" 0 out '^3 edges, 0 that nothing catches$'
finish
