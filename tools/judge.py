#!/usr/bin/env python3
"""Lets real qemu-img judge what generated runs leave on their disks.

    tools/judge.py [--profile P] [--seeds A..B] [--need N]

Each seed is run once; its disks are written out, and every qcow2 node that was open at the end is looked at by
qemu-img: `check` must find nothing but leaks (and those only where something failed or the power did), the content
must be what the node showed, and the persistent bitmaps listed must be those that the node had. An overlay whose header
names another backing file than the graph has (or none) is looked at over what its backing node showed. Bitmaps of
nodes that were inactive at the end are not the node's any more: they are counted, not compared. Images that no node has open at the end must be
sound, and show the same here and there. Stops after N images that were judged (--need). Exit status 1 when a judgement differs.
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


def judge_bitmaps(info, name, bitmaps):
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


def open_args(info, node, nodes):
    """How qemu-img is to open the image: as its header says, or over the node's own backing."""
    below = node.get("backing")
    if below is None and "backing-filename" not in info:
        return ["-f", "qcow2", node["file"]]
    if below and nodes[below].get("file") == info.get("backing-filename") and nodes[below]["driver"] == "qcow2":
        return ["-f", "qcow2", node["file"]]
    spec = {"driver": "qcow2", "file": {"driver": "file", "filename": node["file"]}, "backing": None}
    if below:
        spec["backing"] = {"driver": "raw", "file": {"driver": "file", "filename": f"{below}.view"}}
    return ["json:" + json.dumps(spec)]


def judge_image(folder, name, node, nodes, bitmaps, totals):
    # External data files are looked for where the tool runs, not where the image is.
    wrong = []
    info = json.loads(tool("qemu-img", "info", "--output=json", node["file"], cwd=folder).stdout)
    args = open_args(info, node, nodes)
    check = tool("qemu-img", "check", "--output=json", *args, cwd=folder)
    if check.returncode not in (0, 3):
        wrong.append(f"check: exit {check.returncode}: {check.stdout[:300]}{check.stderr[:300]}")
    if node["sha256"]:
        view = os.path.join(folder, "view")
        totals["overlays"] += "backing" in node
        convert = tool("qemu-img", "convert", "-O", "raw", *args, "view", cwd=folder)
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
    if node.get("inactive"):
        totals["inactive"] += 1
    else:
        wrong += judge_bitmaps(info, name, bitmaps)
    return wrong, check.returncode == 3


def judge_closed(folder, name):
    """An image that no node has open any more: both programs must find it sound, and the same in it."""
    wrong = []
    check = tool("qemu-img", "check", "-f", "qcow2", name, cwd=folder)
    ours = tool(BLKSIM, "img", "check", name, cwd=folder)
    if check.returncode not in (0, 3):
        # what neither can open is not an image any more: an unfinished creation, a backing file that has gone
        if ours.returncode in (0, 3) or "Could not open" not in check.stderr:
            wrong.append(f"check: exit {check.returncode}: {check.stdout[:300]}{check.stderr[:300]}")
        return wrong, False
    sums = []
    for args in (["qemu-img"], [BLKSIM, "img"]):
        convert = tool(*args, "convert", "-f", "qcow2", "-O", "raw", name, "view", cwd=folder)
        sums.append(convert.returncode or sha256_of(os.path.join(folder, "view")))
        if os.path.exists(os.path.join(folder, "view")):
            os.unlink(os.path.join(folder, "view"))
    if sums[0] != sums[1] or ours.returncode != check.returncode:
        wrong.append(f"closed: theirs {check.returncode} {sums[0]}, ours {ours.returncode} {sums[1]}")
    return wrong, check.returncode == 3


def closed_images(folder, nodes):
    open_files = {node.get("file") for node in nodes}
    for name in sorted(os.listdir(folder)):
        with open(os.path.join(folder, name), "rb") as f:
            if name not in open_files and not name.endswith(".view") and f.read(4) == b"QFI\xfb":
                yield name


def judge_seed(profile, seed, totals):
    with tempfile.TemporaryDirectory(prefix="blksim-judge-") as folder:
        run = tool(BLKSIM, "run", "--seed", str(seed), "--profile", profile, "--json", "--digest",
                   "--write-disks", folder)
        result = json.loads(run.stdout.splitlines()[0])
        if result["verdict"] != "pass":
            print(f"{profile} {seed}: the run itself failed: {result['violations'][:1]}")
            totals["wrong"] += 1
            return
        for host in (result["hosts"] or {}).values():
            for name, node in host["nodes"].items():
                if node["driver"] != "qcow2":
                    continue
                wrong, leaks = judge_image(folder, name, node, host["nodes"], host["bitmaps"], totals)
                totals["images"] += 1
                totals["leaks"] += leaks
                totals["bitmaps"] += sum(1 for b in host["bitmaps"] if b["node"] == name and b["persistent"])
                totals["wrong"] += bool(wrong)
                for line in wrong:
                    print(f"{profile} {seed} {name}: {line}")
        nodes = [node for host in (result["hosts"] or {}).values() for node in host["nodes"].values()]
        for name in closed_images(folder, nodes):
            wrong, leaks = judge_closed(folder, name)
            totals["closed"] += 1
            totals["leaks"] += leaks
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
    totals = {"runs": 0, "images": 0, "leaks": 0, "bitmaps": 0, "wrong": 0, "skipped": 0,
              "overlays": 0, "inactive": 0, "closed": 0}
    for seed in range(int(first), int(last or first) + 1):
        try:
            judge_seed(args.profile, seed, totals)
        except subprocess.TimeoutExpired:  # hashing terabytes of zeros
            totals["skipped"] += 1
        if args.need and totals["images"] >= args.need:
            break
    print(f"{args.profile}: {totals['runs']} runs, {totals['images']} images judged "
          f"({totals['bitmaps']} persistent bitmaps, "
          f"{totals['overlays']} overlays, {totals['inactive']} inactive), {totals['closed']} closed ones, "
          f"{totals['leaks']} with leaks, {totals['wrong']} wrong, {totals['skipped']} runs skipped as too large to hash")
    return 1 if totals["wrong"] or not totals["images"] + totals["closed"] else 0


if __name__ == "__main__":
    sys.exit(main())
