#!/bin/sh
# The rules that checkers raise, from the sources: a line `CHECKER RULE FILE` for each place that raises one.
#   tools/rules.sh FILE.c...
# A rule is a string literal; or the parameter `rule` of a function that hands it on to check_violate; or a variable
# `rule`, set from literals and from tables whose names end in _rules. What cannot be read is told as `? WHAT FILE`.
set -eu
awk '
function literals(text, file, checker,    n) {
    for (n = 0; match(text, /"[^"]*"/); n++) {
        print checker, substr(text, RSTART + 1, RLENGTH - 2), file
        text = substr(text, RSTART + RLENGTH)
    }
    return n
}

# The arguments of a call, from behind its parenthesis, into arg[1..n]. Returns n.
function split_args(text,    i, c, depth, n, quoted) {
    split("", arg)
    n = 1
    arg[1] = ""
    for (i = 1; i <= length(text); i++) {
        c = substr(text, i, 1)
        if (quoted) {
            if (c == "\\") { arg[n] = arg[n] c; i++; c = substr(text, i, 1) }
            else if (c == "\"") quoted = 0
        } else if (c == "\"") quoted = 1
        else if (c == "(" || c == "{" || c == "[") depth++
        else if (c == "}" || c == "]" || (c == ")" && depth > 0)) depth--
        else if (c == ")") break
        else if (c == "," && depth == 0) { n++; arg[n] = ""; continue }
        if (c == "\n" || (c == " " && arg[n] == "")) continue
        arg[n] = arg[n] c
    }
    return n
}

function last(text, what,    at, i) {
    for (at = 0; (i = index(substr(text, at + 1), what)) > 0;) at += i
    return at
}

# Functions that hand on their parameter `rule`: where it stands, and for which checker.
function find_carriers(file,    text, before, base, open, name, head, body, n, at) {
    text = code[file]
    for (base = 0; match(substr(text, base + 1), /const char \*rule[,)]/);) {
        before = substr(text, 1, base + RSTART - 1)
        base += RSTART
        body = substr(text, base)
        body = substr(body, 1, index(body, "\n}\n"))
        open = last(before, "(")
        match(substr(before, 1, open - 1), /[A-Za-z0-9_]+$/)
        name = substr(before, RSTART, RLENGTH)
        head = substr(before, 1, RSTART - 1)
        head = substr(head, last(head, "\n") + 1)
        at = index(body, "check_violate(")
        if (name == "check_violate" || index(body, ";") < index(body, "{") || !at) continue
        n = split(substr(before, open + 1), parts, ",")
        split_args(substr(body, at + length("check_violate(")))
        if (arg[3] != "rule" || arg[2] !~ /^"[a-z0-9-]*"$/) { print "?", name, file; continue }
        key = (head ~ /^static/ ? file : "") SUBSEP name
        place[key] = n
        checker_of[key] = substr(arg[2], 2, length(arg[2]) - 2)
    }
}

# A call whose rule is the variable `rule`: a parameter of the function around it, or set there.
function find_variable(file, before, checker,    body, from, value, name, table, n) {
    body = substr(before, last(before, "\n}\n") + 1)
    if (body ~ /const char \*rule[,)]/) return 1
    from = last(body, "rule = ")
    if (!from) return 0
    value = substr(body, from)
    value = substr(value, 1, index(value, ";"))
    n = literals(value, file, checker)
    while (match(value, /[a-z_]+_rules\[/)) {
        name = substr(value, RSTART, RLENGTH)
        value = substr(value, RSTART + RLENGTH)
        table = substr(code[file], index(code[file], name "] = {"))
        n += literals(substr(table, 1, index(table, ";")), file, checker)
    }
    return n
}

function find_calls(file, name, n, checker,    text, base, at, what) {
    text = code[file]
    for (base = 0; (at = index(substr(text, base + 1), name "(")) > 0;) {
        base += at
        if (substr(text, base - 1, 1) ~ /[A-Za-z0-9_]/) continue
        if (split_args(substr(text, base + length(name) + 1)) < n || arg[n] ~ /^const char /) continue
        what = arg[n]
        if (name == "check_violate") checker = arg[2] ~ /^"[a-z0-9-]*"$/ ? substr(arg[2], 2, length(arg[2]) - 2) : "?"
        if (what == "rule" && find_variable(file, substr(text, 1, base - 1), checker)) continue
        if (what == "rule" || !literals(what, file, checker)) print "?", what, file
    }
}

FNR == 1 { files[++count] = FILENAME }
{ code[FILENAME] = code[FILENAME] $0 "\n" }
END {
    for (f = 1; f <= count; f++) {
        text = code[files[f]]
        while ((from = index(text, "/*")) > 0) {
            text = substr(text, 1, from - 1) " " substr(text, from + 3 + index(substr(text, from + 2), "*/"))
        }
        code[files[f]] = text
        find_carriers(files[f])
    }
    for (f = 1; f <= count; f++) {
        find_calls(files[f], "check_violate", 3, "")
        for (key in place) {
            split(key, parts, SUBSEP)
            if (parts[1] == "" || parts[1] == files[f]) find_calls(files[f], parts[2], place[key], checker_of[key])
        }
    }
}' "$@" | LC_ALL=C sort -u
