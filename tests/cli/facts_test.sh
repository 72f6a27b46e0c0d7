# Protects the table of facts: each fact of the reference has a test that says so, and the listing finds what is wrong.
. tests/cli/lib.sh

# The listing itself, on a page and tests with everything that can be wrong.
mkdir -p tests/facts tests/a
printf '# id\tseed\tfact\twaits for\n1/one\t\tfirst\n1/two\t\tsecond\n1/three\tabc1234 abc1235\tthird\n' > tests/facts/p.tsv
printf '1/four\t\tfourth\n1/five\t\tfifth\tdisks\n1/six\t\tsixth\tdisks\n1/two\t\tagain\n' >> tests/facts/p.tsv
printf '1/other\t\tof another page\n' > tests/facts/q.tsv
cat > tests/a/a_test.c <<'END_C'
/* Protects the sample. */

/* fact: p 1/one, 1/two; q 1/other */
static void test_one(void **state)
{
}

/* Why it must be so.
 * fact: p 1/three,
 *       1/nowhere */
MACRO_TEST(test_two)
{
}

/* fact: p 1/five */
static void test_three(void **state)
{
}

/* fact: p 1/four */
static void test_without_name(void **state)
{
}

/* fact: r 1/x */
static int helper(void)
{
}

const struct test tests[] = {
    T("/a/one", test_one),
    T("/a/again", test_one),
    T_SETUP("/a/abc1234/two",
            test_two, setup, teardown),
    {"/a/three", test_three, NULL, NULL, NULL},
};
END_C
sed 's/^@/#/' > tests/a/b_test.sh <<'END_SH'
@ fact: p 1/one
echo holds
holds "/b/one" true
END_SH
facts() {
    FACTS_ROOT=$work "$top/tools/facts.sh" "$@" > out 2> err
    status=$?
}
facts p
cat > expected <<'END_LIST'
p
1/one                      -                first
    /a/one
    /a/again
    /b/one
1/two                      -                second
    /a/one
    /a/again
1/three                    abc1234 abc1235  third
    /a/abc1234/two
1/four                     -                fourth
1/five                     -                fifth
    /a/three
    (waits for disks)
1/six                      -                sixth
    (waits for disks)
1/two                      -                again
    /a/one
    /a/again
7 facts: 4 have tests, 2 wait
7 problems:
  tests/a/a_test.c: no test follows: r 1/x
  tests/a/a_test.c: test_without_name has a fact and no name in a table
  p 1/three: no test is named for seed abc1235
  p 1/four has no test: fourth
  p 1/five waits for disks but has a test
  p 1/two stands twice
  p 1/nowhere is no fact: /a/abc1234/two
END_LIST
exits "/cli/facts/problems" 1
holds "/cli/facts/problems/list" diff out expected
facts r
says "/cli/facts/no-such-page" 2 err 'there is no tests/facts/r\.tsv'


printf '1/one\t\tfirst\n1/two\tabc1234\tsecond\n1/five\t\tfifth\tdisks\n' > tests/facts/p.tsv
cat > tests/a/a_test.c <<'END_C'
/* fact: q 1/other; p 1/two */
void test_two(void **state)
    T("/a/abc1234/two", test_two),
END_C
facts
exits "/cli/facts/nothing-wrong" 0
facts q
says "/cli/facts/one-page" 0 out '^1 facts: 1 have tests, 0 wait$'

# The real ones.
"$top/tools/facts.sh" > out 2> err
status=$?
if [ $status != 0 ]; then
    sed '1,/^[0-9]* facts: /d' out > problems
    mv problems out
fi
exits "/cli/facts/all-have-tests" 0
finish
