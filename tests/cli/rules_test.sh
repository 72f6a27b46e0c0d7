# Protects what `blksim explain CHECKER` says of rules: those named are the ones raised, and each of them can be.
. tests/cli/lib.sh

raised() { # FILE...: lines "CHECKER RULE"
    "$top/tools/rules.sh" "$@" | cut -d' ' -f1,2 | LC_ALL=C sort -u
}

# The scan itself, on a source with every way to name a rule, and one that cannot be read.
cat > sample.c <<'END_C'
static void violate(struct state *s, const char *rule, const char *text)
{
    check_violate(s->set, "sample", rule, &where, "%s", text); /* not "comment" */
}

static const char *const way_rules[] = {
    [WAY_A] = "in-table",
};

static void look(struct state *s, int way)
{
    const char *rule = way < WAYS ? way_rules[way] : "in-variable";

    violate(s, "in-carrier", "text, with a comma");
    violate(s, way ? "in-choice" : "in-other-choice", text(s, way));
    check_violate(s->set, "sample", rule, &where, "%d", way);
    check_violate(s->set, "other", "direct", &where, "%d", way);
    violate(s, unknown(way), "text");
}
END_C
cat > expected <<'END_LIST'
? unknown(way)
other direct
sample in-carrier
sample in-choice
sample in-other-choice
sample in-table
sample in-variable
END_LIST
raised sample.c > out
holds "/cli/rules/scan" cmp out expected

raised "$top"/check/*.c "$top"/scenario/*.c > raised.list
holds "/cli/rules/all-can-be-read" test -z "$(grep '^?' raised.list)"

# Steps that expect something report in the same way, and are no checker.
"$BLKSIM" list checks > checks.list
for checker in $(cut -d' ' -f1 checks.list) expect; do
    echo "$checker"
done | LC_ALL=C sort > known
cut -d' ' -f1 raised.list | LC_ALL=C sort -u > out
holds "/cli/rules/checkers" cmp out known

for checker in $(cut -d' ' -f1 checks.list); do
    "$BLKSIM" explain "$checker" |
        sed -nE '/^rules:$/,$s/^([a-z-]+(, [a-z-]+)*): .*/\1/p' | sed 's/, /\n/g' | LC_ALL=C sort > documented
    grep "^$checker " raised.list | cut -d' ' -f2 > rules
    diff documented rules > out
    if [ -s documented ] && [ ! -s out ]; then
        ok "/cli/rules/$checker"
    else
        not_ok "/cli/rules/$checker" "rules named by explain (<) and raised in the sources (>) differ"
    fi
done

# A rule that no test can make fail may have gone deaf. Those of a whole run have scenarios for it.
for checker in $(cut -d' ' -f1 checks.list); do
    raised "$top"/check/*.c | grep "^$checker " | while read -r name rule; do
        grep -qE "assert_violated\(\"$name\.$rule[.\"]" "$top"/tests/check/*_test.c || echo "no test: $name.$rule"
    done > out
    if [ -s out ]; then not_ok "/cli/rules/$checker/can-fail" "$(cat out)"; else ok "/cli/rules/$checker/can-fail"; fi
done
finish
