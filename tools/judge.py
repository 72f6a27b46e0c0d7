#!/usr/bin/env python3
"""Lets real qemu-img judge what generated runs leave on their disks.

    tools/judge.py [--profile P] [--seeds A..B] [--need N]

Each seed is run once; its disks are written out, and every qcow2 node that was open at the end is looked at by
qemu-img: `check` must find nothing but leaks (and those only where something failed or the power did), the content
must be what the node showed, and the persistent bitmaps listed must be those that the node had. Stops after N images
that were judged (--need). Exit status 1 when a judgement differs.
"""
import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile

BLKSIM = os.path.abspath(os.environ.get("BLKSIM", "build/blksim"))


def tool(*args, cwd=None):
    return subprocess.run(args, capture_output=True, text=True, timeout=20, cwd=cwd)


def sha256_of(path):
    digest = hashlib.sha256()
    with open(path, "rb") as f:
        while block := f.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def judge_bitmaps(folder, name, node, bitmaps):
    info = json.loads(tool("qemu-img", "info", "--output=json", node["file"], cwd=folder).stdout)
    listed = info.get("format-specific", {}).get("data", {}).get("bitmaps", [])
    seen = {b["name"]: (b["granularity"], "in-use" in b["flags"], "auto" in b["flags"]) for b in listed}
    want = {}
    for b in bitmaps:
        if b["node"] == name and b.get("name") and b["persistent"]:
            broken = b.get("inconsistent", False)
            # what an inconsistent one recorded before is nobody's business
            auto = seen.get(b["name"], (0, 0, False))[2] if broken else b["recording"]
            want[b["name"]] = (b["granularity"], broken, auto)
    return [] if seen == want else [f"bitmaps listed {seen}, expected {want}"]


def judge_image(folder, name, node, bitmaps):
    # External data files are looked for where the tool runs, not where the image is.
    wrong = []
    check = tool("qemu-img", "check", "-f", "qcow2", "--output=json", node["file"], cwd=folder)
    if check.returncode not in (0, 3):
        wrong.append(f"check: exit {check.returncode}: {check.stdout[:300]}{check.stderr[:300]}")
    if node["sha256"]:
        view = os.path.join(folder, "view")
        convert = tool("qemu-img", "convert", "-f", "qcow2", "-O", "raw", node["file"], "view", cwd=folder)
        if convert.returncode:
            wrong.append(f"convert: {convert.stderr.strip()}")
        elif sha256_of(view) != node["sha256"]:
            wrong.append("content differs from the node's")
        if os.path.exists(view):
            os.unlink(view)
    ours = node["check"] or {}
    theirs = json.loads(check.stdout) if check.stdout.startswith("{") else {}
    if (ours.get("corruptions", 0), ours.get("leaks", 0)) != (theirs.get("corruptions", 0), theirs.get("leaks", 0)):
        wrong.append(f"our reader found {ours}, qemu-img {theirs}")
    return wrong + judge_bitmaps(folder, name, node, bitmaps), check.returncode == 3


def judge_seed(profile, seed, totals):
    with tempfile.TemporaryDirectory(prefix="blksim-judge-") as folder:
        try:
            run = tool(BLKSIM, "run", "--seed", str(seed), "--profile", profile, "--json", "--digest",
                       "--write-disks", folder)
        except subprocess.TimeoutExpired:  # hashing terabytes of zeros
            totals["skipped"] += 1
            return
        result = json.loads(run.stdout.splitlines()[0])
        if result["verdict"] != "pass":
            print(f"{profile} {seed}: the run itself failed: {result['violations'][:1]}")
            totals["wrong"] += 1
            return
        for host in (result["hosts"] or {}).values():
            for name, node in host["nodes"].items():
                if node["driver"] != "qcow2":
                    continue
                wrong, leaks = judge_image(folder, name, node, host["bitmaps"])
                totals["images"] += 1
                totals["leaks"] += leaks
                totals["bitmaps"] += sum(1 for b in host["bitmaps"] if b["node"] == name and b["persistent"])
                totals["wrong"] += bool(wrong)
                for line in wrong:
                    print(f"{profile} {seed} {name}: {line}")
        totals["runs"] += 1


def main():
    parser = argparse.ArgumentParser(description="lets qemu-img judge generated runs")
    parser.add_argument("--profile", default="power")
    parser.add_argument("--seeds", default="1..300")
    parser.add_argument("--need", type=int, default=0, help="stop after so many images")
    args = parser.parse_args()
    first, _, last = args.seeds.partition("..")
    totals = {"runs": 0, "images": 0, "leaks": 0, "bitmaps": 0, "wrong": 0, "skipped": 0}
    for seed in range(int(first), int(last or first) + 1):
        judge_seed(args.profile, seed, totals)
        if args.need and totals["images"] >= args.need:
            break
    print(f"{args.profile}: {totals['runs']} runs, {totals['images']} images judged ({totals['bitmaps']} persistent bitmaps), "
          f"{totals['leaks']} with leaks, {totals['wrong']} wrong, {totals['skipped']} runs skipped as too large to hash")
    return 1 if totals["wrong"] or not totals["images"] else 0


if __name__ == "__main__":
    sys.exit(main())
