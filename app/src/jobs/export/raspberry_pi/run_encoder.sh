#!/bin/sh
# A vector for each line of a text, for search: `sh run_encoder.sh lines.txt > vectors.json`, or text on stdin.
# A model that was trained to answer gives usable vectors; one that was trained to embed gives better ones (MODEL=...).
set -eu
model_given=${MODEL:-}
. "$(dirname "$0")/tools.sh"
[ -z "$model_given" ] || model=$model_given

program=$(tool llama-embedding)
text=${1:-}
made=
if [ -z "$text" ]; then
    made=$(mktemp)
    trap 'rm -f "$made"' EXIT INT TERM
    cat > "$made"
    text=$made
fi
"$program" -m "$model" -t "$THREADS" -c "$CONTEXT" -b "$CONTEXT" -ub "$CONTEXT" --pooling mean \
    --embd-normalize 2 --embd-output-format json -f "$text"
