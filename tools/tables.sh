#!/bin/sh
# Joins the tables of the rooms given into build/gen/*.def; a file that stays the same keeps its time.
set -eu
mkdir -p build/gen
for table in types events sites marks; do
    out=build/gen/$table.def
    for room in "$@"; do
        if [ -f "$room/$table.def" ]; then cat "$room/$table.def"; fi
    done > "$out.$$"
    if cmp -s "$out.$$" "$out"; then rm "$out.$$"; else mv "$out.$$" "$out"; fi
done
