#!/bin/sh
# Makes the encoder `nano` from nothing: run it from the repository root, in an environment that has
# requirements.txt. Usage: recipes/nano/run.sh [FOLDER]  (default build/nano; about 2 GB, about an hour)
set -eu
work=${1:-build/nano}
sources=$work/sources
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-2}" HF_HUB_OFFLINE=1
[ -d "$sources/npm/node_modules" ] || sh recipes/nano/fetch.sh "$sources"
step() {
    name=$1
    shift
    echo "== $name"
    python -m "recipes.nano.$name" "$@"
}
step pictures --sources "$sources" --work "$work"
step holdout --work "$work"
step words --sources "$sources" --work "$work"
step teacher --work "$work"
step distil --work "$work"
step views --work "$work"
step train --sources "$sources" --work "$work"
step export --work "$work"
step evaluate
