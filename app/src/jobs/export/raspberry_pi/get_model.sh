#!/bin/sh
# Fetch a small quantised model to compare with: `sh get_model.sh qwen` or `sh get_model.sh tinyllama`.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
hub=${HF_ENDPOINT:-https://huggingface.co}
case ${1:-} in
    qwen) place=Qwen/Qwen2.5-0.5B-Instruct-GGUF file=qwen2.5-0.5b-instruct-q4_0.gguf ;;
    tinyllama) place=TheBloke/TinyLlama-1.1B-Chat-v1.0-GGUF file=tinyllama-1.1b-chat-v1.0.Q4_0.gguf ;;
    *)
        echo "usage: get_model.sh qwen|tinyllama" >&2
        exit 2
        ;;
esac
if [ -f "$here/$file" ]; then
    echo "$file is here already"
    exit 0
fi
curl --fail --location --continue-at - --output "$here/$file.part" "$hub/$place/resolve/main/$file"
mv "$here/$file.part" "$here/$file"
echo "Set MODEL=$file in pi.env to use it."
