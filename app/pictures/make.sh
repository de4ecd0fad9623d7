#!/bin/sh
# Makes the pictures of README.md anew: trains the starter, paints every page, keeps three of the pictures.
#
#   app/pictures/make.sh [--dev]
#
# --dev: with what is built for tests instead of for release. Needs ImageMagick (convert); neither a display nor a
# graphics card.
set -eu

profile=--release
[ "${1:-}" != --dev ] || profile=--profile=dev
root=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$root"

cargo run $profile -p peft_studio -- quickstart --data-dir "$work/home"
PEFT_PICTURES=$work/pages PEFT_HOME=$work/home PEFT_WIDTHS=960,1280 \
    cargo test $profile -p peft_studio --test desktop -- --ignored pictures
for page in run-1280-light talk-1280-dark export-960-dark; do
    convert "$work/pages/$page.png" -dither None -colors 96 -strip "PNG8:$root/app/pictures/${page%%-*}.png"
done
