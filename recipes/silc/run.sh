#!/bin/sh
# Trains two encoders alike, one with and one without self-distillation, and compares them. Run it from
# the repository root, in an environment that has recipes/nano/requirements.txt and the package.
# Usage: recipes/silc/run.sh [FOLDER]  (default build/silc; about 400 MB)
set -eu
work=${1:-build/silc}
sources=$work/sources
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-2}" HF_HUB_OFFLINE=1
[ -d "$sources/npm/node_modules" ] || sh recipes/nano/fetch.sh "$sources"
step() {
    name=$1
    shift
    echo "== $name"
    python -m "recipes.$name" "$@"
}
step silc.pictures --sources "$sources" --work "$work"
step nano.holdout --work "$work"
step silc.crops --work "$work"
step silc.train --sources "$sources" --work "$work"
step silc.evaluate --work "$work"
for name in plain silc; do
    echo "== few-shot, $name"
    cacheclip extract --dataset clipart --model "local-dir:$work/$name" --home "$work/home"
    cacheclip compare --dataset clipart --model "local-dir:$name" --home "$work/home" \
        --methods zero-shot,tip-adapter,clip-adapter --shots 1,4,16 --seeds 5 > "$work/$name.txt"
    cat "$work/$name.txt"
done
