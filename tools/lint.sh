#!/bin/sh
# What the compiler does not check: rooms, banned functions, printing, layout.
#   tools/lint.sh ROOM...       rooms in order; each may include headers of those before it, and its own
# Errors decide the exit status; reports are only shown.
set -u
cd "$(dirname "$0")/.."
rooms="$* fuzz cli"
errors=0

error() { echo "$1"; errors=$((errors + 1)); }

# --- a room knows only the rooms before it ---
allowed=
for room in $rooms; do
    allowed="$allowed $room"
    for file in "$room"/*.[ch]; do
        [ -f "$file" ] || continue
        while IFS=: read -r line header; do
            target=${header%%/*}
            case " $rooms " in *" $target "*) ;; *) continue ;; esac
            case " $allowed " in
            *" $target "*) ;;
            *) error "$file:$line: $room/ may not include $header" ;;
            esac
        done <<END
$(grep -nE '^[[:space:]]*#[[:space:]]*include "[^"]+/' "$file" | sed -E 's/^([0-9]+):[^"]*"([^"]+)".*/\1:\2/')
END
    done
done

# --- functions that bring in the clock, chance, shared buffers or overruns ---
sources=$(for room in $rooms; do find "$room" -name '*.[ch]' 2>/dev/null; done | LC_ALL=C sort)
banned='rand|srand|random|srandom|rand_r|drand48|getrandom|time|gettimeofday|clock|gmtime|localtime|gmtime_r'
banned="$banned|localtime_r|ctime|asctime|strftime|strtok|setlocale|strcpy|strcat|sprintf|vsprintf|gets|alloca|atoi|atol"
banned="$banned|atof|tmpnam|mktemp|pthread_create"
# Comments and string literals are blanked first, line numbers stay.
strip() { # FILE
    awk '{
        out = ""; s = $0
        while (s != "") {
            if (inside) {
                i = index(s, "*/")
                if (!i) { s = ""; break }
                s = substr(s, i + 2); inside = 0; continue
            }
            if (match(s, /"([^"\\]|\\.)*"|\/\*|\/\//) == 0) { out = out s; s = ""; break }
            out = out substr(s, 1, RSTART - 1)
            tok = substr(s, RSTART, RLENGTH); s = substr(s, RSTART + RLENGTH)
            if (tok == "/*") inside = 1; else if (tok == "//") s = ""; else out = out "\"\""
        }
        print out
    }' "$1"
}
for file in $sources; do
    room=${file%%/*}
    text=$(strip "$file")
    hits=$(printf '%s\n' "$text" | grep -nE "(^|[^A-Za-z0-9_>.])($banned)[[:space:]]*\(" | cut -d: -f1)
    for line in $hits; do error "$file:$line: banned function: $(sed -n "${line}p" "$file" | sed 's/^ *//')"; done
    case $room in
    cli | fuzz) continue ;;
    esac
    hits=$(printf '%s\n' "$text" | grep -nE '(^|[^A-Za-z0-9_])(clock_gettime|getenv)[[:space:]]*\(' | cut -d: -f1)
    for line in $hits; do error "$file:$line: the world has no host clock and no environment"; done
    hits=$(printf '%s\n' "$text" | grep -nE '(^|[^A-Za-z0-9_])(float|double|long double)[^A-Za-z0-9_]' | cut -d: -f1)
    for line in $hits; do error "$file:$line: floating point: $(sed -n "${line}p" "$file" | sed 's/^ *//')"; done
    case $room in
    block | jobs)
        hits=$(printf '%s\n' "$text" | grep -nE '(^|[^A-Za-z0-9_])(printf|fprintf|puts|fputs|putchar|perror)[[:space:]]*\(' |
            cut -d: -f1)
        for line in $hits; do error "$file:$line: nothing prints from $room/"; done
        ;;
    esac
done

# --- layout ---
all=$(find $rooms tests bench -name '*.[ch]' 2>/dev/null | LC_ALL=C sort)
for file in $all; do
    awk -v file="$file" 'length($0) > 130 { printf "%s:%d: %d columns, at most 116\n", file, NR, length($0) }
        /\t/ { printf "%s:%d: a tab\n", file, NR }
        /[ \t]$/ { printf "%s:%d: blank at the end of the line\n", file, NR }' "$file"
done > build/lint-layout.txt
while read -r message; do error "$message"; done < build/lint-layout.txt

echo "--- report: lines over 116 columns"
awk 'length($0) > 116 { n++; files[FILENAME] = 1 } END { for (f in files) m++; print "  " n + 0 " in " m + 0 " files" }' $all
echo "--- report: files over 500 lines"
wc -l $all | awk '$2 != "total" && $1 > 500 { print "  " $1 "  " $2 }'
echo "--- report: functions over 70 lines"
for file in $all; do
    awk -v file="$file" '/^[a-zA-Z_].*[^;]$/ && !/^(struct|enum|union|typedef|static const|const)[^(]*$/ { head = NR; name = $0 }
        /^\{/ || (/^[a-zA-Z_].*\) *\{$/) { start = NR }
        /^\}/ { if (start && NR - start > 70) printf "  %d  %s:%d\n", NR - start, file, start; start = 0 }' "$file"
done
if command -v clang-format >/dev/null; then
    differ=$(for file in $all; do clang-format --dry-run -Werror "$file" >/dev/null 2>&1 || echo "$file"; done | wc -l)
    echo "--- report: clang-format would lay out $differ of $(echo "$all" | wc -l) files differently"
fi

# --- clang-tidy on what differs from main ---
if command -v clang-tidy >/dev/null && [ -z "${NO_TIDY:-}" ]; then
    if [ -n "${TIDY:-}" ]; then
        changed=$TIDY
    else
        base=$(git merge-base HEAD origin/HEAD 2>/dev/null || git rev-parse HEAD~1 2>/dev/null || echo HEAD)
        changed=$(git diff --name-only --diff-filter=d "$base" -- $rooms 2>/dev/null | grep '\.c$')
    fi
    echo "--- clang-tidy: $(echo $changed | wc -w) changed files (TIDY='FILE...' to choose)"
    for file in $changed; do
        clang-tidy --quiet "$file" -- -std=gnu11 -I. -Ibuild -D_GNU_SOURCE 2>/dev/null | grep -E 'warning:|error:' |
            sed 's/^/  /'
    done > build/lint-tidy.txt
    cat build/lint-tidy.txt
fi

echo "lint: $errors errors"
[ "$errors" = 0 ]
